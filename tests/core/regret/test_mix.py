"""Mixed policies are policies, whatever is legal and whatever lambda is; lambda 1 is the actor; statistics against
SciPy's in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from armfold.core import masked, random
from armfold.core.check import ShapeError
from armfold.core.regret import (
    BINS,
    Continuous,
    Discrete,
    Mixed,
    MixingStats,
    anneal,
    as_dict,
    mix_policies,
    mixing_stats,
    regret_match,
)
from armfold.core.regret.output import best_bin
from tests.purity import check_pure

NAN = math.nan
MODES = ("soft", "hard", "gumbel")
SHAPES = st.sampled_from([(), (1,), (5,), (2, 3), (0,)])
SEEDS = st.integers(0, 10**6)


def keys(*batch: int, seed: int = 0) -> Tensor:
    return random.split(random.key(seed), math.prod(batch)).reshape(*batch, 2)


def always(lam: float, *batch: int, dtype: torch.dtype = torch.float32) -> Continuous:
    return Continuous(torch.full((*batch, 1), lam, dtype=dtype))


def discrete(scores: Tensor) -> Discrete:
    return Discrete(scores, best_bin(scores))


def policies(seed: int, batch: tuple[int, ...], actions: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """An actor from a softmax, a regret policy with zeros, and a mask, which may leave nothing legal."""
    k = random.split(random.key(seed), 3)
    a = torch.softmax(3 * random.normal(k[0], (*batch, actions), dtype=dtype), -1)
    r = regret_match(random.normal(k[1], (*batch, actions), dtype=dtype))
    return a, r, random.bernoulli(k[2], 0.6, (*batch, actions))


def laws_are_right(mixed: Mixed, a: Tensor, r: Tensor, legal: Tensor) -> None:
    """Invariants A and B, and the mixture itself in float64."""
    policy, lam = mixed
    assert (policy.shape, policy.dtype, policy.device) == (a.shape, a.dtype, a.device)
    assert (lam.shape, lam.dtype, lam.device) == (a.shape[:-1], a.dtype, a.device)
    assert ((lam >= 0) & (lam <= 1)).all()
    assert (policy >= 0).all()
    assert (policy[~legal] == 0).all()
    torch.testing.assert_close(policy.sum(-1), legal.any(-1).to(a.dtype), rtol=0, atol=1e-6)
    share = lam.double().unsqueeze(-1)
    want = torch.where(legal, share * a.double() + (1 - share) * r.double(), 0)
    even = legal / legal.sum(-1, keepdim=True).clamp(min=1)
    total = want.sum(-1, keepdim=True)
    want = torch.where(total > 0, want / total, even.double())
    torch.testing.assert_close(policy.double(), want, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- the mixture


@given(SHAPES, st.integers(1, 7), SEEDS, st.sampled_from(MODES), st.sampled_from([torch.float32, torch.float64]))
def test_a_mixture_is_a_policy_over_what_is_legal(
    batch: tuple[int, ...], actions: int, seed: int, mode: str, dtype: torch.dtype
) -> None:
    a, r, legal = policies(seed, batch, actions, dtype)
    k = random.split(random.key(seed + 1), 2)
    scores = 3 * random.normal(k[0], (*batch, 5))
    rng = keys(*batch, seed=seed)
    bins = tuple(sorted(random.uniform(k[1], (5,), dtype=torch.float64).tolist()))
    mixed = mix_policies(discrete(scores), a, r, legal=legal, bins=bins, mode=mode, rng=rng)
    laws_are_right(mixed, a, r, legal)
    laws_are_right(mix_policies(Continuous(mixed.lam.unsqueeze(-1)), a, r, legal=legal), a, r, legal)
    everything = torch.ones_like(legal)
    laws_are_right(mix_policies(discrete(scores), a, r, bins=bins, mode=mode, rng=rng), a, r, everything)


@given(SHAPES, st.integers(1, 40), SEEDS, st.sampled_from([torch.float16, torch.float32, torch.float64]))
def test_lambda_1_is_the_actor_and_0_the_regret_policy_to_the_last_bit(
    batch: tuple[int, ...], actions: int, seed: int, dtype: torch.dtype
) -> None:
    a, r, legal = policies(seed, batch, actions, dtype)
    assert torch.equal(mix_policies(always(1.0, *batch), a, r).policy, a)
    assert torch.equal(mix_policies(always(0.0, *batch), a, r).policy, r)
    a, r = masked.softmax(3 * a, legal), regret_match(r, legal)
    assert torch.equal(mix_policies(always(1.0, *batch), a, r, legal=legal).policy, a)
    assert torch.equal(mix_policies(always(0.0, *batch), a, r, legal=legal).policy, r)


def test_bins_0_and_1_are_exact_too() -> None:
    a, r, _ = policies(0, (3,), 6)
    for best, want in ((0, r), (4, a)):
        out = discrete(torch.nn.functional.one_hot(torch.full((3,), best), 5) * 1.0)
        assert torch.equal(mix_policies(out, a, r, bins=BINS, mode="hard").policy, want)


def test_lambda_weighs_the_actor() -> None:
    a, r = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.5, 0.5])
    assert mix_policies(always(0.75), a, r).policy.tolist() == [0.75, 0.125, 0.125]
    assert mix_policies(as_dict(always(0.75)), a, r).lam == 0.75


def test_what_is_illegal_is_taken_away_and_the_rest_scaled() -> None:
    a, r = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.0, 0.25, 0.75])
    legal = torch.tensor([True, True, False])
    assert mix_policies(always(0.5), a, r, legal=legal).policy.tolist() == [0.5, 0.5, 0.0]


def test_rows_in_which_nothing_can_be_mixed() -> None:
    a = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0.5, 0.5, 0], [NAN, 0.5, 0.5], [0.5, 0.5, 0]])
    legal = torch.tensor([[False, True, True], [False] * 3, [True] * 3, [True] * 3, [True] * 3])
    out = Continuous(torch.tensor([[0.3], [0.3], [NAN], [0.3], [2.0]]))
    got = mix_policies(out, a, a, legal=legal)
    want = [[0.0, 0.5, 0.5], [0.0] * 3, [0.0] * 3, [0.0, 0.5, 0.5], [0.5, 0.5, 0.0]]
    torch.testing.assert_close(got.policy, torch.tensor(want))
    torch.testing.assert_close(got.lam, torch.tensor([0.3, 0.3, NAN, 0.3, 1.0]), equal_nan=True)


def test_policies_that_do_not_sum_to_one_are_scaled() -> None:
    a, r = torch.tensor([2.0, 2.0, 0.0]), torch.tensor([0.0, 0.0, 4.0])
    assert mix_policies(always(0.5), a, r).policy.tolist() == [0.25, 0.25, 0.5]
    assert mix_policies(always(1.0), torch.tensor([1.5, -0.5]), torch.ones(2)).policy.tolist() == [1.0, 0.0]


def test_annealing_reaches_the_mixture() -> None:
    """The same scores mix otherwise as training goes on, from near their mean to near the best bin."""
    a, r = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    out = discrete(torch.tensor([0.0, 0.1, 0.2, 0.3, 0.6]))
    steps = torch.tensor([0, 10_000, 30_000, 50_000, 90_000])
    lam = torch.stack([mix_policies(out, a, r, bins=BINS, tau=anneal(step)).policy[0] for step in steps])
    assert (lam.diff()[:3] > 0.01).all()
    assert lam[3] == lam[4]
    weights = torch.softmax(out.logits.double() / 0.1, -1)
    assert float(lam[4]) == pytest.approx(float((weights * torch.tensor(BINS)).sum()), abs=1e-6)


@pytest.mark.parametrize("mode", ["soft", "gumbel"])
def test_the_scores_have_a_gradient(mode: str) -> None:
    a, r, legal = policies(3, (4,), 6)
    legal[0] = True
    scores = random.normal(random.key(1), (4, 5)).requires_grad_()
    mixed = mix_policies(discrete(scores), a, r, legal=legal, bins=BINS, mode=mode, rng=keys(4))
    assert mixed.lam.requires_grad
    (grad,) = torch.autograd.grad(mixed.policy[0, 0], scores)
    assert torch.isfinite(grad).all()
    assert (grad[0] != 0).any()


@pytest.mark.parametrize("mode", ["soft", "gumbel"])
def test_gradients_are_finite_in_rows_of_every_kind(mode: str) -> None:
    a, r, _ = policies(3, (4,), 3)
    a = a.detach().requires_grad_()
    scores = random.normal(random.key(1), (4, 5)).requires_grad_()
    legal = torch.tensor([[True] * 3, [False] * 3, [True, False, False], [False, True, True]])
    mixed = mix_policies(discrete(scores), a, r, legal=legal, bins=BINS, mode=mode, rng=keys(4))
    mixed.policy[:, 0].sum().backward()
    assert torch.isfinite(a.grad).all()
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("mode", MODES)
def test_everything_stays_on_the_device_of_the_inputs(mode: str) -> None:
    """On the meta device, where a tensor of the CPU among the others would be refused."""
    a, r, legal = (x.to("meta") for x in policies(0, (3,), 4))
    mixed = mix_policies(discrete(torch.zeros(3, 5, device="meta")), a, r, legal=legal, bins=BINS, mode=mode,
                         rng=keys(3).to("meta"))  # fmt: skip
    assert {x.device.type for x in (*mixed, *mixing_stats(mixed, a, r, legal=legal))} == {"meta"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", MODES)
def test_a_cuda_device_mixes_as_the_cpu_does(mode: str) -> None:
    args = (random.normal(random.key(0), (64, 5)), *policies(0, (64,), 4), keys(64))
    here, there = mixing(*args, mode), mixing(*(x.cuda() for x in args), mode)
    assert all(x.is_cuda for x in there)
    torch.testing.assert_close([x.cpu() for x in there], list(here), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- statistics


def by_scipy(mixed: Mixed, a: Tensor, r: Tensor, legal: Tensor) -> dict[str, float]:
    """The same statistics of rows [n, A], one by one."""
    rows = [i for i in range(len(a)) if legal[i].any()]
    used = []
    for i in rows:
        p, x, y = (q[i][legal[i]].double().numpy() for q in (mixed.policy, a, r))
        x, y = (q / q.sum() if q.sum() else q * 0 + 1 / len(q) for q in (x, y))
        used.append([stats.entropy(p), stats.entropy(x), stats.entropy(y), stats.entropy(p, x), stats.entropy(p, y),
                     abs(x - y).sum() / 2])  # fmt: skip
    lam = mixed.lam[rows].double()
    names = ("entropy", "entropy_actor", "entropy_regret", "kl_actor", "kl_regret", "distance")
    return {
        "rows": len(rows) / len(a),
        "lam_mean": float(lam.mean()),
        "lam_std": float(lam.std(correction=0)),
        "lam_min": float(lam.min()),
        "lam_max": float(lam.max()),
        "at_regret": sum(x <= 1e-3 for x in lam.tolist()) / len(rows),
        "at_actor": sum(x >= 1 - 1e-3 for x in lam.tolist()) / len(rows),
        **dict(zip(names, torch.tensor(used, dtype=torch.float64).mean(0).tolist(), strict=True)),
    }


@given(SEEDS)
@settings(max_examples=15)
def test_statistics_are_those_of_scipy(seed: int) -> None:
    a, r, legal = policies(seed, (12,), 4, torch.float64)
    legal[0] = True
    out = discrete(8 * random.normal(random.key(seed + 9), (12, 5), dtype=torch.float64))
    mixed = mix_policies(out, a, r, legal=legal, bins=BINS, mode="hard")
    got = mixing_stats(mixed, a, r, legal=legal)._asdict()
    assert {name: float(x) for name, x in got.items()} == pytest.approx(by_scipy(mixed, a, r, legal), abs=1e-12)


def test_divergence_from_a_policy_that_never_plays_it_is_infinite() -> None:
    a, r = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])
    got = mixing_stats(mix_policies(always(0.5, 1), a, r), a, r)
    assert got.kl_actor == math.inf
    assert float(got.kl_regret) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_the_ends_that_a_clamped_lambda_reaches_count_as_ends() -> None:
    a, r, _ = policies(0, (4,), 3)
    lam = torch.tensor([-9.0, 9.0, 9.0, 0.0]).sigmoid().clamp(1e-3, 1 - 1e-3)
    got = mixing_stats(mix_policies(Continuous(lam.unsqueeze(-1)), a, r), a, r)
    assert (got.at_regret, got.at_actor) == (0.25, 0.5)
    got = mixing_stats(mix_policies(Continuous(lam.unsqueeze(-1)), a, r), a, r, end=0.0)
    assert (got.at_regret, got.at_actor) == (0.0, 0.0)


def test_rows_without_a_policy_do_not_count() -> None:
    a, r, _ = policies(0, (2,), 3)
    legal = torch.tensor([[True] * 3, [False] * 3])
    one = mixing_stats(mix_policies(always(0.3, 1), a[:1], r[:1]), a[:1], r[:1])
    two = mixing_stats(mix_policies(always(0.3, 2), a, r, legal=legal), a, r, legal=legal)
    assert two.rows == 0.5
    torch.testing.assert_close(list(two[1:]), list(one[1:]))
    none = mixing_stats(mix_policies(always(0.3, 2), a, r, legal=~legal & False), a, r, legal=~legal & False)
    assert [float(x) for x in none] == [0, 0, 0, math.inf, -math.inf, *[0] * 8]


# ---------------------------------------------------------------- all functions


def mixing(scores: Tensor, a: Tensor, r: Tensor, legal: Tensor, rng: Tensor, mode: str) -> Mixed:
    return mix_policies(discrete(scores), a, r, legal=legal, bins=BINS, tau=0.5, mode=mode, rng=rng)


def statistics(lam: Tensor, a: Tensor, r: Tensor, legal: Tensor) -> MixingStats:
    return mixing_stats(mix_policies(Continuous(lam), a, r, legal=legal), a, r, legal=legal)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("mode", MODES)
def test_mixing_agrees_in_every_variant(mode: str, batch: tuple[int, ...], variants) -> None:
    args = (random.normal(random.key(0), (*batch, 5)), *policies(0, batch, 4), keys(*batch))
    variants(mixing, *args, mode, batch=len(batch), traced=batch == (3,) and mode == "gumbel")


@pytest.mark.slow
def test_mixing_agrees_when_compiled(variants) -> None:
    args = (random.normal(random.key(0), (3, 5)), *policies(0, (3,), 4), keys(3))
    variants(mixing, *args, "gumbel", compiled=True)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_statistics_agree_in_every_variant(batch: tuple[int, ...], variants) -> None:
    lam = random.uniform(random.key(5), (*batch, 6, 1))
    variants(statistics, lam, *policies(1, (*batch, 6), 3), batch=len(batch), traced=False)


@pytest.mark.slow
def test_statistics_agree_when_traced(variants) -> None:
    variants(statistics, random.uniform(random.key(5), (2, 6, 1)), *policies(1, (2, 6), 3))


def test_all_are_pure() -> None:
    for mode in MODES:
        check_pure(mixing, random.normal(random.key(0), (3, 5)), *policies(0, (3,), 4), keys(3), mode)
    check_pure(statistics, random.uniform(random.key(5), (2, 6, 1)), *policies(1, (2, 6), 3))


@pytest.mark.parametrize("out", [0.5, torch.tensor([0.5, 0.5])])
def test_lambda_alone_is_no_output(out: object) -> None:
    a = torch.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match="out must be Continuous, Discrete or a dictionary of either, got "):
        mix_policies(out, a, a)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: mix_policies(always(1.0, 2), a, a[:1]), r"r must have shape \(2, 3\), got \(1, 3\)"),
        (lambda a: mix_policies(always(1.0, 2), a, a.double()), "r must have the dtype of a, torch.float32, got"),
        (lambda a: mix_policies(always(1.0, 3), a, a), r"lambda of out must have shape \(2,\), got \(3,\)"),
        (lambda a: mix_policies(always(1.0, 2), a, a, legal=a), "legal must have dtype torch.bool, got torch.float32"),
        (lambda a: mix_policies(always(1.0, 2), a.long(), a), r"a must be floating of shape \(\*B, A\), got torch.int"),
        (lambda a: mixing_stats(Mixed(a[0], a[0]), a[0], a[0]), r"a must have shape \(\*B, n, A\) with n >= 1, got"),
        (lambda a: mixing_stats(Mixed(a[:1], a[0]), a, a), r"policy must have shape \(2, 3\), got \(1, 3\)"),
    ],
)
def test_wrong_shapes_are_named(call, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call(torch.full((2, 3), 1 / 3))
