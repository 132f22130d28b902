"""The scheduler: warm-up to the last bit, temperatures, losses and steps against torch's own, and that it learns."""

import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.nn import Mlp, mlp
from armfold.core.regret import (
    BINS,
    Continuous,
    Discrete,
    anneal,
    anneal_by_rate,
    expected_lambda,
    mix_policies,
    scheduler_apply,
    scheduler_init,
    scheduler_loss,
    scheduler_optimiser,
    scheduler_step,
)
from tests.purity import check_pure

MODES = ("soft", "hard", "gumbel")
THIRDS = (0.0, 0.4, 1.0)  # 0.5 is none of them
F64 = torch.float64


def keys(*batch: int, seed: int = 0) -> Tensor:
    return random.split(random.key(seed), math.prod(batch)).reshape(*batch, 2)


def states(*batch: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return random.normal(random.key(seed), (*batch, 4), dtype=dtype)


def loud(bins: tuple[float, ...] | None, rng: Tensor, dtype: torch.dtype = torch.float32) -> Mlp:
    """A scheduler whose states differ from the start."""
    params = scheduler_init(rng, 4, hidden=(8,), bins=bins, final_scale=2.0, dtype=dtype)
    return Mlp(params.weights, tuple(b + 0.1 for b in params.biases))


def at(step: int) -> Tensor:
    return torch.tensor(step)


def lam(params: Mlp, x: Tensor, step: Tensor, bins: tuple[float, ...] | None, mode: str, **tunables: float) -> Tensor:
    """Lambda as it reaches the mixture."""
    a = torch.tensor([1.0, 0.0]).expand(*x.shape[:-1], 2)
    out = scheduler_apply(params, x, step, bins=bins, **tunables)
    return mix_policies(out, a, 1 - a, bins=bins, mode=mode, rng=keys(*x.shape[:-1])).lam


# ---------------------------------------------------------------- what it says


def test_it_begins_undecided() -> None:
    x = states(100)
    out = scheduler_apply(scheduler_init(random.key(0), 4, bins=BINS), x, at(1000), bins=BINS)
    assert isinstance(out, Discrete)
    torch.testing.assert_close(out.logits.softmax(-1), torch.full((100, 5), 0.2), rtol=0, atol=0.02)
    assert torch.equal(out.chosen, out.logits.argmax(-1))
    out = scheduler_apply(scheduler_init(random.key(0), 4), x, at(1000))
    assert isinstance(out, Continuous)
    torch.testing.assert_close(out.lam, torch.full((100, 1), 0.5), rtol=0, atol=0.02)


def test_only_a_continuous_lambda_is_clamped() -> None:
    x = torch.tensor([[-100.0], [100.0]])
    one = Mlp((torch.tensor([[1.0]]),), (torch.zeros(1),))
    two = Mlp((torch.tensor([[-1.0, 1.0]]),), (torch.zeros(2),))
    assert lam(one, x, at(1000), None, "soft").tolist() == torch.tensor([1e-3, 1 - 1e-3]).tolist()
    assert lam(one, x, at(1000), None, "soft", eps=0.0).tolist() == [pytest.approx(0, abs=1e-40), 1.0]
    for mode in MODES:
        assert lam(two, x, at(1000), (0.0, 1.0), mode).tolist() == [0.0, 1.0]


@given(st.integers(0, 2000), st.sampled_from([BINS, THIRDS, None]), st.sampled_from(MODES), st.floats(0, 1, width=32))
def test_the_warm_up_is_exact_in_every_mode(step: int, bins: tuple[float, ...] | None, mode: str, first: float) -> None:
    params, x = loud(bins, random.key(3)), states(5)
    got = lam(params, x, at(step), bins, mode, init_lambda=first)
    if step < 1000:
        assert got.tolist() == [first] * 5
    else:
        assert torch.equal(got, lam(params, x, at(0), bins, mode, warmup=0))
        assert mode != "soft" or len(set(got.tolist())) > 1


def test_the_warm_up_is_at_one_half_and_ends_at_step_1000_of_each_lane() -> None:
    params, x = loud(THIRDS, keys(3)), states(3, 2)
    out = scheduler_apply(params, x, torch.tensor([0, 999, 1000]), bins=THIRDS)
    torch.testing.assert_close(out.fixed, torch.tensor([[0.5] * 2, [0.5] * 2, [math.nan] * 2]), equal_nan=True)
    by_state = scheduler_apply(params, x, torch.tensor([[0, 0], [999, 1000], [1000, 1000]]), bins=THIRDS)
    assert torch.isnan(by_state.fixed).tolist() == [[False, False], [False, True], [True, True]]
    by_lane = scheduler_apply(params, x, at(0), bins=THIRDS, init_lambda=torch.tensor([0.1, 0.2, 0.3]))
    assert torch.equal(by_lane.fixed, torch.tensor([0.1, 0.2, 0.3]).unsqueeze(-1).expand(3, 2))


@pytest.mark.parametrize(("bins", "mode"), [(BINS, "soft"), (BINS, "gumbel"), (None, "soft")])
def test_every_parameter_has_a_gradient_from_the_mixture(bins: tuple[float, ...] | None, mode: str) -> None:
    params = loud(bins, random.key(3))
    leaves = [p.requires_grad_() for p in (*params.weights, *params.biases)]
    x, a = states(6), torch.softmax(states(6, seed=2), -1)
    out = scheduler_apply(params, x, at(1000), bins=bins)
    mixed = mix_policies(out, a, a.flip(-1), bins=bins, mode=mode, rng=keys(6))
    assert out[0].requires_grad  # logits, or lambda
    grads = torch.autograd.grad(mixed.policy[:, 0].sum(), leaves)
    assert all(torch.isfinite(g).all() and (g != 0).any() for g in grads)
    assert scheduler_apply(params, x, at(0), bins=BINS).logits.requires_grad if bins else True


# ---------------------------------------------------------------- temperatures


def test_temperatures_end_where_they_should() -> None:
    steps = torch.tensor([-5, 0, 25_000, 50_000, 2**62])
    assert anneal(steps).tolist() == torch.tensor([1.0, 1.0, 0.55, 0.1, 0.1]).tolist()
    middle = pytest.approx(math.sqrt(0.1), rel=1e-6)
    assert anneal(steps, kind="exponential").tolist() == [1.0, 1.0, middle, *torch.tensor([0.1, 0.1]).tolist()]
    assert float(anneal(at(498))) == pytest.approx(0.991036, abs=1e-6)  # the final temperature of the seed's run


@given(st.integers(0, 3000), st.floats(0.2, 5), st.floats(0.01, 0.2), st.integers(1, 2000), st.floats(0.9, 1))
def test_temperatures_are_the_plain_ones(step: int, start: float, end: float, steps: int, rate: float) -> None:
    done, want = min(step / steps, 1), pytest.approx
    assert float(anneal(at(step), start=start, end=end, steps=steps, dtype=F64)) == want(start + done * (end - start))
    exponential = anneal(at(step), start=start, end=end, steps=steps, kind="exponential", dtype=F64)
    assert float(exponential) == want(start * (end / start) ** done)
    assert float(anneal_by_rate(at(step), start=start, end=end, rate=rate, dtype=F64)) == want(
        max(end, start * rate**step)
    )


def schedules(step: Tensor, start: Tensor, end: Tensor, rate: Tensor) -> tuple[Tensor, ...]:
    return (
        anneal(step, start=start, end=end, steps=100),
        anneal(step, start=start, end=end, steps=100, kind="exponential"),
        anneal_by_rate(step, start=start, end=end, rate=rate),
        anneal_by_rate(step),
    )


@pytest.mark.parametrize("batch", [(), (4,), (2, 2)])
def test_temperatures_agree_in_every_variant(batch: tuple[int, ...], variants) -> None:
    steps = torch.tensor([0, 7, 100, 10_000])
    tunables = (torch.tensor(x) for x in ([1.0, 2, 3, 4], [0.1, 0.2, 0.3, 0.4], [0.99, 0.9, 1.0, 0.5]))
    args = [(x[1] if batch == () else x.reshape(batch)) for x in (steps, *tunables)]
    variants(schedules, *args, batch=len(batch), traced=False)


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_the_loss_is_made_of_torchs_own_parts(tau: float) -> None:
    params, x = loud(BINS, random.key(0), F64), states(9, dtype=F64)
    target = torch.softmax(2 * random.normal(random.key(8), (9, 5), dtype=F64), -1)
    target[0] = torch.tensor([0, 1, 0, 0, 0])
    got = scheduler_loss(params, x, target, bins=BINS, tau=tau, beta_l2=0.1, beta_ent=0.2)
    law = torch.distributions.Categorical(logits=mlp(params, x) / tau)
    torch.testing.assert_close(got.kl, torch.nn.functional.kl_div(law.logits, target, reduction="batchmean"))
    torch.testing.assert_close(got.entropy, law.entropy().mean())
    torch.testing.assert_close(
        got.l2, torch.nn.utils.parameters_to_vector([*params.weights, *params.biases]).norm() ** 2
    )
    torch.testing.assert_close(got.loss, got.kl + 0.1 * got.l2 - 0.2 * got.entropy)


def test_a_continuous_lambda_counts_as_the_chance_of_the_actor() -> None:
    params, x = loud(None, random.key(0), F64), states(9, dtype=F64)
    target = random.uniform(random.key(8), (9,), dtype=F64)
    target[:2] = torch.tensor([0, 1])
    got = scheduler_loss(params, x, target)
    law = torch.distributions.Bernoulli(logits=mlp(params, x).squeeze(-1))
    want = torch.distributions.kl_divergence(torch.distributions.Bernoulli(target), law)
    torch.testing.assert_close(got.kl, want.mean())
    torch.testing.assert_close(got.entropy, law.entropy().mean())


@pytest.mark.parametrize("bins", [BINS, None])
def test_a_step_is_that_of_torchs_adam_after_clipping(bins: tuple[float, ...] | None) -> None:
    """In float64, over gradients on both sides of the norm 1, to which torch adds 1e-6."""
    params, x = loud(bins, random.key(0), F64), states(9, dtype=F64)
    target = torch.softmax(8 * random.normal(random.key(8), (9, 5), dtype=F64), -1)
    target = target if bins else expected_lambda(target, BINS)
    theirs = [p.clone().requires_grad_() for p in (*params.weights, *params.biases)]
    adam, opt = torch.optim.Adam(theirs, lr=0.1), scheduler_optimiser(rate=0.1)
    state, norms = opt.init(params), []
    for _ in range(12):
        loss = scheduler_loss(Mlp(tuple(theirs[:2]), tuple(theirs[2:])), x, target, bins=bins).loss
        params, state, stats = scheduler_step(params, state, x, target, optimiser=opt, bins=bins)
        adam.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(theirs, 1.0)))
        adam.step()
        assert float(stats.grad_norm) == pytest.approx(norms[-1], rel=1e-5)
        assert float(stats.loss) == pytest.approx(float(loss.detach()), rel=1e-5)
    torch.testing.assert_close([*params.weights, *params.biases], [p.detach() for p in theirs], rtol=1e-5, atol=1e-5)
    assert max(norms) > 1 > min(norms)


@pytest.mark.parametrize("bins", [BINS, None])
def test_it_learns_what_depends_on_the_state(bins: tuple[float, ...] | None) -> None:
    """KL to a target it cannot know but from the features falls a hundredfold, on states it has not seen too."""

    def data(seed: int) -> tuple[Tensor, Tensor]:
        x = states(128, seed=seed)
        law = torch.softmax(x @ states(5, seed=99).T, -1)
        return x, law if bins else expected_lambda(law, BINS)

    x, target = data(1)
    params = scheduler_init(random.key(0), 4, bins=bins)
    opt = scheduler_optimiser(rate=1e-2)
    state, first = opt.init(params), float(scheduler_loss(params, x, target, bins=bins).kl)
    for _ in range(120):
        params, state, stats = scheduler_step(params, state, x, target, optimiser=opt, bins=bins, beta_ent=0.0)
    assert first > 0.04
    assert float(stats.kl) < first / 100
    assert float(scheduler_loss(params, *data(2), bins=bins).kl) < first / 10


def test_entropy_is_rewarded_and_weights_are_charged() -> None:
    x, target = states(16), torch.tensor([0.0, 0, 1, 0, 0]).expand(16, 5)
    opt = scheduler_optimiser(rate=1e-2)
    ends = []
    for tunables in ({"beta_ent": 0.0, "beta_l2": 0.0}, {"beta_ent": 3.0, "beta_l2": 0.0}, {"beta_l2": 1.0}):
        params = loud(BINS, random.key(0))
        state = opt.init(params)
        for _ in range(40):
            params, state, stats = scheduler_step(params, state, x, target, optimiser=opt, bins=BINS, **tunables)
        ends.append(stats)
    plain, rewarded, charged = ends
    assert rewarded.entropy > plain.entropy + 0.5
    assert charged.l2 < plain.l2 / 2


def test_a_target_that_is_nan_teaches_nothing() -> None:
    params = loud(BINS, random.key(0))
    opt = scheduler_optimiser()
    target = torch.full((3, 5), math.nan)
    after, _, stats = scheduler_step(params, opt.init(params), states(3), target, bins=BINS)
    assert all(torch.equal(p, q) for p, q in zip((*params[0], *params[1]), (*after[0], *after[1]), strict=True))
    assert torch.isnan(stats.loss)


# ---------------------------------------------------------------- all functions


def learn(params: Mlp, state: object, x: Tensor, target: Tensor, bins: tuple[float, ...] | None) -> object:
    return scheduler_step(params, state, x, target, bins=bins)


@pytest.mark.parametrize("bins", [THIRDS, None])
def test_lanes_of_schedulers_agree_in_every_variant(bins: tuple[float, ...] | None, variants) -> None:
    params, x, step = loud(bins, keys(3)), states(3, 2), torch.tensor([0, 999, 1000])
    variants(lambda p, x, t: scheduler_apply(p, x, t, bins=bins), params, x, step, traced=bins is not None)
    target = torch.softmax(random.normal(random.key(8), (3, 2, 3)), -1)
    target = target if bins else target[..., 0]
    state = scheduler_optimiser(lanes=1).init(params)
    _, _, stats = variants(learn, params, state, x, target, bins, atol=1e-5, traced=False)
    assert stats.loss.shape == (3,)


@pytest.mark.slow
@pytest.mark.parametrize("bins", [THIRDS, None])
def test_a_step_agrees_when_traced(bins: tuple[float, ...] | None, variants) -> None:
    params, target = loud(bins, keys(3)), torch.softmax(random.normal(random.key(8), (3, 2, 3)), -1)
    state = scheduler_optimiser(lanes=1).init(params)
    variants(learn, params, state, states(3, 2), target if bins else target[..., 0], bins, atol=1e-5)


def test_an_empty_batch_of_schedulers() -> None:
    params = loud(BINS, keys(0))
    out = scheduler_apply(params, states(0, 2), at(0), bins=BINS)
    assert out.logits.shape == (0, 2, 5)
    assert out.fixed.shape == (0, 2)
    state = scheduler_optimiser(lanes=1).init(params)
    after, _, stats = scheduler_step(params, state, states(0, 2), torch.zeros(0, 2, 5), bins=BINS)
    assert after.weights[0].shape == (0, 4, 8)
    assert [x.shape for x in stats] == [(0,)] * 5


def test_a_single_state_is_a_batch_of_its_own() -> None:
    params, x, target = loud(BINS, random.key(0)), states(), torch.full((5,), 0.2)
    assert scheduler_apply(params, x, at(0), bins=BINS).fixed.shape == ()
    alone, listed = (scheduler_loss(params, *data, bins=BINS) for data in ((x, target), (x[None], target[None])))
    torch.testing.assert_close(list(alone), list(listed))


def test_all_are_pure() -> None:
    params, x, target = loud(THIRDS, keys(2)), states(2, 3), torch.full((2, 3, 3), 1 / 3)
    check_pure(lambda rng: scheduler_init(rng, 4), keys(2))
    check_pure(lambda p, x, t: scheduler_apply(p, x, t, bins=THIRDS), params, x, torch.tensor([0, 1000]))
    check_pure(lambda p, x, y: scheduler_loss(p, x, y, bins=THIRDS), params, x, target)
    check_pure(learn, params, scheduler_optimiser(lanes=1).init(params), x, target, THIRDS)
    check_pure(schedules, torch.tensor([3]), *(torch.tensor([y]) for y in (1.0, 0.1, 0.9)))


def test_defaults_are_those_of_the_seed() -> None:
    def default(f: object, name: str) -> object:
        return inspect.signature(f).parameters[name].default  # type: ignore[arg-type]

    assert BINS == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert default(scheduler_init, "hidden") == (64, 32)
    assert [default(scheduler_apply, name) for name in ("warmup", "init_lambda", "eps")] == [1000, 0.5, 1e-3]
    assert [default(anneal, name) for name in ("start", "end", "steps")] == [1.0, 0.1, 50_000]
    assert [default(anneal_by_rate, name) for name in ("start", "end", "rate")] == [1.0, 0.1, 0.99]
    assert [default(scheduler_step, name) for name in ("beta_l2", "beta_ent")] == [1e-4, 1e-3]
    assert [default(scheduler_optimiser, name) for name in ("rate", "max_norm")] == [1e-4, 1.0]


P, X = loud(BINS, random.key(0)), states(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scheduler_init(random.key(0), 4, bins=(1.0, 0.0)), r"bins must be sorted, each above the one before"),
        (lambda: scheduler_init(random.key(0), 4, bins=torch.zeros(0)), r"bins must have shape .* got \(0,\)"),
        (lambda: scheduler_init(random.key(0), 0), r"sizes\[0\] must be an integer >= 1, got 0"),
        (lambda: scheduler_apply(P, X, at(0)), r"params must have an output for each of 1 bins .* got 5"),
        (lambda: scheduler_apply(P, X, torch.tensor(0.0), bins=BINS), r"step must be torch.int64 .* got torch.float32"),
        (lambda: scheduler_apply(P, X, 5, bins=BINS), r"step must be torch.int64 .* got 5$"),  # type: ignore[arg-type]
        (lambda: scheduler_apply(P, X, at(0), bins=0.5), "bins must be numbers in .* got 0.5"),  # type: ignore[arg-type]
        (lambda: scheduler_apply(P, X, at(0), bins=torch.tensor(0.5)), r"bins must have shape .* got \(\)"),
        (lambda: scheduler_apply(P, X, torch.zeros(3, dtype=torch.int64), bins=BINS), r"dimensions of \(2,\), got .*3"),
        (lambda: scheduler_apply(P, X[:, :3], at(0), bins=BINS), r"x must be .* got torch.float32 \(2, 3\)"),
        (lambda: scheduler_apply(P, X, at(0), bins=BINS, init_lambda=1.5), r"init_lambda must be .* got 1.5"),
        (lambda: scheduler_apply(P, X, at(0), bins=BINS, warmup=-1), "warmup must be an integer >= 0, got -1"),
        (lambda: scheduler_apply(P, X, at(0), bins=BINS, eps=0.6), r"eps must be finite and in \[0.0, 0.5\], got 0.6"),
        (lambda: anneal(torch.tensor(0.0)), r"step must be a tensor of dtype torch.int64, got torch.float32 \(\)"),
        (lambda: anneal(5), "step must be a tensor of dtype torch.int64, got 5"),  # type: ignore[arg-type]
        (lambda: anneal_by_rate(5), "step must be a tensor of dtype torch.int64, got 5"),  # type: ignore[arg-type]
        (lambda: anneal(at(0), end=0.0), "end must be finite and in .* got 0.0"),
        (lambda: anneal(at(0), steps=0), "steps must be an integer >= 1, got 0"),
        (lambda: anneal(at(0), kind="cosine"), 'kind must be "linear" or "exponential", got \'cosine\''),  # type: ignore[arg-type]
        (lambda: anneal_by_rate(at(0), rate=1.5), "rate must be finite and in .* got 1.5"),
        (lambda: scheduler_loss(P, X, torch.zeros(2, 4), bins=BINS), r"target must have shape \(2, 5\), got \(2, 4\)"),
        (lambda: scheduler_loss(P, X, torch.zeros(2, 5).long(), bins=BINS), "target must be floating"),
        (lambda: scheduler_loss(P, X, torch.zeros(2, 5), bins=BINS, tau=0.0), "tau must be finite and in"),
        (lambda: scheduler_loss(P, X, torch.zeros(2, 5), bins=BINS, beta_ent=-1.0), "beta_ent must be .* got -1"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert isinstance(error.value, ShapeError) == any(
        word in message for word in ("params", "int64", "dimensions", "x must", "shape", "floating")
    )
