"""Choosing under a mask: laws, ties, NaN, nothing left. Statistical tests reject with probability 1e-6 each (fewer
than 50, fixed keys)."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from armfold.core import masked, random
from armfold.core.check import ShapeError
from tests.purity import check_pure

N = 20_000
INF, NAN = math.inf, math.nan

FINITE = st.floats(-50, 50, width=32)
ENTRY = FINITE | st.sampled_from([NAN, -INF, INF, 0.0, 1.0])  # few distinct values, so that there are ties
ROWS = st.lists(st.tuples(ENTRY, st.booleans()), min_size=1, max_size=6)


def keys(*batch: int) -> Tensor:
    return random.split(random.key(0), math.prod(batch)).reshape(*batch, 2)


def row(pairs: list[tuple[float, bool]]) -> tuple[Tensor, Tensor]:
    values, legal = zip(*pairs)
    return torch.tensor(values, dtype=torch.float32), torch.tensor(legal)


def fits(actions: Tensor, probs: Tensor) -> bool:
    """Whether actions [N] follow probs [K], by a chi-square test at 1e-6 over the arms that probs allows."""
    counts, allowed = torch.bincount(actions, minlength=len(probs)).double(), probs > 0
    if counts[~allowed].any():
        return False
    want = probs[allowed].double() * (len(actions) / probs.double().sum())
    return bool(stats.chisquare(counts[allowed].numpy(), want.numpy()).pvalue > 1e-6)


def best(x: Tensor, legal: Tensor) -> list[int]:
    """The arms that argmax may return, in plain Python."""
    usable = [i for i, (v, ok) in enumerate(zip(x.tolist(), legal.tolist())) if ok and v == v]
    return [i for i in usable if x[i] == max(float(x[j]) for j in usable)]


# ---------------------------------------------------------------- argmax


@given(ROWS)
def test_ties_argmax_and_its_law_are_the_plain_ones(pairs: list[tuple[float, bool]]) -> None:
    x, legal = row(pairs)
    among = best(x, legal)
    assert masked.ties(x, legal).nonzero().flatten().tolist() == among
    assert masked.argmax_probs(x, legal).tolist() == pytest.approx(
        [(i in among) / max(len(among), 1) for i in range(len(x))]
    )
    chosen = masked.argmax(x.expand(8, -1), keys(8), legal.expand(8, -1)).tolist()
    assert set(chosen) <= set(among or [-1])


@given(ROWS)
def test_probabilities_sum_to_one_or_zero(pairs: list[tuple[float, bool]]) -> None:
    x, legal = row(pairs)
    usable = bool((legal & ~torch.isnan(x)).any())
    assert float(masked.argmax_probs(x, legal).sum()) == pytest.approx(float(usable))
    assert float(masked.softmax(x, legal).sum()) == pytest.approx(float(usable), abs=1e-5)


@pytest.mark.parametrize(
    ("x", "legal"),
    [
        ([1.0, 1.0, 1.0, 1.0, 1.0], None),
        ([1.0, 2.0, 2.0, NAN, 2.0], None),
        ([9.0, 2.0, 2.0, NAN, 2.0], [False, True, True, True, True]),
        ([-INF, -INF, NAN, -INF, -INF], [False, True, True, True, True]),
        ([INF, 1.0, INF, NAN, INF], [True, True, True, True, False]),
    ],
)
def test_random_ties_follow_their_law(x: list[float], legal: list[bool] | None) -> None:
    values = torch.tensor(x)
    mask = None if legal is None else torch.tensor(legal)
    probs = masked.argmax_probs(values, mask)
    actions = masked.argmax(values.expand(N, 5), keys(N), None if mask is None else mask.expand(N, 5))
    assert actions.dtype == torch.int64
    assert fits(actions, probs)
    assert (probs > 0).sum() >= 2


def test_ties_of_neighbouring_arms_are_broken_independently_in_each_lane() -> None:
    first = masked.argmax(torch.zeros(N, 2), keys(N))
    assert fits(2 * first[:-1:2] + first[1::2], torch.full((4,), 0.25))


# ---------------------------------------------------------------- softmax


@given(st.lists(st.tuples(FINITE, st.booleans()), min_size=1, max_size=6))
def test_log_softmax_is_that_of_torch_over_the_legal_entries(pairs: list[tuple[float, bool]]) -> None:
    x, legal = row(pairs)
    got = masked.log_softmax(x, legal)
    assert (got[~legal] == -INF).all()
    torch.testing.assert_close(got[legal], torch.log_softmax(x[legal], -1))
    torch.testing.assert_close(masked.softmax(x, legal)[legal], torch.softmax(x[legal], -1))
    torch.testing.assert_close(masked.log_softmax(x), torch.log_softmax(x, -1))


@given(ROWS)
def test_nothing_becomes_nan(pairs: list[tuple[float, bool]]) -> None:
    x, legal = row(pairs)
    for mask in (legal, None):
        assert not torch.isnan(masked.log_softmax(x, mask)).any()
        assert not torch.isnan(masked.softmax(x, mask)).any()
        assert not torch.isnan(masked.argmax_probs(x, mask)).any()
    unusable = ~legal | torch.isnan(x)
    assert (masked.log_softmax(x, legal)[unusable] == -INF).all()
    assert (masked.softmax(x, legal)[unusable] == 0).all()


def test_log_softmax_of_minus_infinity_is_minus_infinity() -> None:
    x = torch.tensor([0.0, -INF, 1.0])
    torch.testing.assert_close(masked.log_softmax(x), torch.log_softmax(x, -1))
    assert masked.softmax(x)[1] == 0


# ---------------------------------------------------------------- categorical


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("logits", "legal"),
    [
        ([0.0, 1.0, -1.0, 0.5, 2.0], None),
        ([0.0, 1.0, NAN, 0.5, -INF], None),
        ([9.0, 1.0, NAN, 0.5, 1.5], [False, True, True, True, True]),
        ([1000.0, 1001.0, -1000.0, 0.0, 0.0], None),
    ],
)
def test_categorical_follows_softmax(logits: list[float], legal: list[bool] | None, dtype: torch.dtype) -> None:
    x = torch.tensor(logits, dtype=dtype)
    mask = None if legal is None else torch.tensor(legal)
    actions = masked.categorical(keys(N), x.expand(N, 5), None if mask is None else mask.expand(N, 5))
    assert actions.dtype == torch.int64
    assert fits(actions, masked.softmax(x, mask))


@given(ROWS)
@example([(5.0, False), (-INF, True), (NAN, True)])
def test_categorical_never_chooses_what_it_may_not(pairs: list[tuple[float, bool]]) -> None:
    x, legal = row(pairs)
    usable = legal & ~torch.isnan(x)
    chosen = masked.categorical(keys(8), x.expand(8, -1), legal.expand(8, -1))
    if usable.any():
        assert usable[chosen].all()
        assert (chosen >= 0).all()
    else:
        assert (chosen == -1).all()


@pytest.mark.parametrize("logits", [[5.0, -INF, -INF, NAN], [5.0, INF, 0.0, INF], [5.0, -INF, 1.0, 2.0]])
def test_categorical_of_infinities_follows_softmax(logits: list[float]) -> None:
    x, legal = torch.tensor(logits), torch.tensor([False, True, True, True])
    actions = masked.categorical(keys(N), x.expand(N, 4), legal.expand(N, 4))
    assert fits(actions, masked.softmax(x, legal))


def test_nothing_usable_gives_minus_one_and_zeros() -> None:
    x = torch.tensor([[1.0, 2.0], [NAN, NAN], [NAN, 3.0], [1.0, 2.0]])
    legal = torch.tensor([[False, False], [True, True], [True, False], [True, False]])
    assert masked.argmax(x, keys(4), legal).tolist() == [-1, -1, -1, 0]
    assert masked.categorical(keys(4), x, legal).tolist() == [-1, -1, -1, 0]
    for law in (masked.argmax_probs, masked.softmax):
        assert law(x, legal).tolist() == [[0, 0], [0, 0], [0, 0], [1, 0]]
    assert (masked.log_softmax(x, legal)[:3] == -INF).all()
    assert not masked.ties(x, legal)[:3].any()


# ---------------------------------------------------------------- draw

WIDE = (2, 31, 32, 33, 50)  # arms: two ways to sum, which change over at 32
MOST = 2**32 - 1  # a word that makes the uniform 1 - 2**-24 (1 - 2**-53 in float64)


def some_weights(rows: int, arms: int, seed: int) -> Tensor:
    """Weights [rows, arms] of any size, about half of them 0, but one."""
    size, kept, one = (random.split(random.fold_in(random.key(seed), i), rows) for i in range(3))
    weights = 10 ** random.uniform(size, (arms,), low=-3.0, high=3.0)
    return weights * (random.bernoulli(kept, 0.5, (arms,)) | masked.one_hot(random.randint(one, high=arms), arms))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("arms", WIDE)
def test_draw_follows_its_weights(arms: int, scale: float, dtype: torch.dtype) -> None:
    weights = scale * (1 + torch.arange(arms, dtype=dtype) % 5) * (torch.arange(arms) % 3 != 2)
    drawn = masked.draw(keys(N), weights.expand(N, arms))
    assert drawn.dtype == torch.int64
    assert fits(drawn, weights)


@given(st.sampled_from(WIDE), st.integers(0, 10**6))
def test_draw_is_the_first_arm_whose_running_sum_passes_the_uniform(arms: int, seed: int) -> None:
    weights, rng = some_weights(20, arms, seed).double(), keys(20)
    point = random.uniform(rng, dtype=torch.float64) * weights.sum(-1)
    wanted = [next(i for i in range(arms) if sum(w[: i + 1]) > float(p)) for w, p in zip(weights.tolist(), point)]
    assert masked.draw(rng, weights).tolist() == wanted


@pytest.mark.parametrize("word", [0, MOST])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("arms", WIDE)
def test_the_extreme_uniforms_draw_arms_that_weigh_something(
    arms: int, dtype: torch.dtype, word: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of 0 at either end, sums of every fraction that rounding may meet, and the least that is drawn from."""
    rows = some_weights(100, arms, 0).to(dtype)
    least = torch.zeros(100, arms, dtype=dtype)
    least[:, 0] = torch.linspace(2, 8, 100).to(dtype) * torch.finfo(dtype).tiny
    monkeypatch.setattr(random, "_blocks", lambda rng, shape, first=0: (torch.full(rng.shape[:-1], word),) * 4)
    for weights in (rows, least):
        drawn = masked.draw(keys(100), weights)
        assert (weights[range(100), drawn] > 0).all()
        assert ((drawn >= 0) & (drawn < arms)).all()
        assert word or torch.equal(drawn, (weights > 0).int().argmax(-1))


@pytest.mark.parametrize("arms", WIDE)
def test_draw_of_nothing_is_minus_one(arms: int) -> None:
    weights = torch.ones(8, arms)
    weights[0] = 0
    weights[1, arms - 1] = NAN
    weights[2, 0] = INF
    weights[3] = 3e38
    weights[4] = 0
    weights[4, 0] = 1e-45
    assert (masked.draw(keys(8), weights)[:5] == -1).all()
    assert (masked.draw(keys(8), weights)[5:] >= 0).all()


# ---------------------------------------------------------------- take and put


@given(st.sampled_from([(), (3,), (2, 3)]), st.integers(1, 40), st.integers(0, 10**6))
def test_one_hot_is_true_at_the_action_alone(batch: tuple[int, ...], arms: int, seed: int) -> None:
    action = random.randint(random.key(seed), batch, low=-2, high=arms + 2)
    hot = masked.one_hot(action, arms)
    assert hot.dtype == torch.bool
    assert hot.shape == (*batch, arms)
    for row, a in zip(hot.reshape(-1, arms).tolist(), action.reshape(-1).tolist()):
        assert row == [k == a for k in range(arms)]


def test_one_hot_of_an_action_beyond_32_bits_is_false() -> None:
    action = torch.tensor([2**32, 2**32 + 1, -(2**32), 2**63 - 1, -(2**63), 2**31])
    assert not masked.one_hot(action, 4).any()


@given(st.sampled_from([(), (3,), (2, 3)]), st.sampled_from([(), (2,), (2, 2)]), st.integers(0, 10**6))
def test_take_and_put_are_plain_indexing(batch: tuple[int, ...], event: tuple[int, ...], seed: int) -> None:
    x = torch.arange(math.prod((*batch, 4, *event))).reshape((*batch, 4, *event))
    action = random.randint(random.key(seed), batch, low=-2, high=6)
    value = -1 - torch.arange(math.prod((*batch, *event))).reshape((*batch, *event))
    taken, written = masked.take(x, action), masked.put(x, action, value)
    assert taken.shape == value.shape
    assert written.shape == x.shape
    flat = zip(
        *(t.reshape(-1, *t.shape[len(batch) :]) for t in (x, taken, written, value)), action.reshape(-1).tolist()
    )
    for before, got, after, put, a in flat:
        arm = min(max(a, 0), 3)
        assert torch.equal(got, before[arm])
        assert torch.equal(after[arm], put)
        others = torch.arange(4) != arm
        assert torch.equal(after[others], before[others])


# ---------------------------------------------------------------- every function

X = torch.tensor(
    [
        [[1.0, 2.0, 2.0, NAN], [NAN, NAN, NAN, NAN], [0.0, 0.0, 0.0, 0.0]],
        [[1.0, 2.0, 3.0, -INF], [5.0, 5.0, NAN, 5.0], [-1.0, NAN, 2.0, 0.0]],
    ]
)
LEGAL = torch.tensor(
    [
        [[True, True, True, True], [True, True, True, True], [False, False, False, False]],
        [[True, True, True, True], [False, True, True, True], [True, True, False, False]],
    ]
)
ACTION = torch.tensor([[0, 3, -1], [1, 2, 7]])

FUNCTIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "ties": lambda rng, x, legal, action: masked.ties(x, legal),
    "argmax": lambda rng, x, legal, action: masked.argmax(x, rng, legal),
    "argmax without a mask": lambda rng, x, legal, action: masked.argmax(x, rng),
    "argmax_probs": lambda rng, x, legal, action: masked.argmax_probs(x, legal),
    "log_softmax": lambda rng, x, legal, action: masked.log_softmax(x, legal),
    "softmax": lambda rng, x, legal, action: masked.softmax(x, legal),
    "categorical": lambda rng, x, legal, action: masked.categorical(rng, x, legal),
    "draw": lambda rng, x, legal, action: masked.draw(rng, masked.argmax_probs(x, legal)),
    "draw of many": lambda rng, x, legal, action: masked.draw(rng, x.abs().repeat_interleave(9, -1)),
    "one_hot": lambda rng, x, legal, action: masked.one_hot(action, 5),
    "take": lambda rng, x, legal, action: masked.take(x, action),
    "put": lambda rng, x, legal, action: masked.put(x, action, action.to(x.dtype)),
}


@pytest.mark.parametrize("batch", [(3,), *(pytest.param(batch, marks=pytest.mark.slow) for batch in ((), (2, 3)))])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree_in_every_variant(name: str, batch: tuple[int, ...], variants) -> None:
    lane = {(): (1, 1), (3,): (1,), (2, 3): ()}[batch]
    args = (keys(2, 3)[lane], X[lane], LEGAL[lane], ACTION[lane])
    traced = (batch == (3,) and name not in ("one_hot", "draw", "draw of many")) or name in ("take", "put")
    variants(FUNCTIONS[name], *args, batch=len(batch), traced=traced)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree_when_compiled(name: str, batch: tuple[int, ...], variants) -> None:
    lane = {(): (1, 1), (3,): (1,), (2, 3): ()}[batch]
    args = (keys(2, 3)[lane], X[lane], LEGAL[lane], ACTION[lane])
    variants(FUNCTIONS[name], *args, batch=len(batch), compiled=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_pure(name: str) -> None:
    check_pure(FUNCTIONS[name], keys(2, 3), X, LEGAL, ACTION)


@pytest.mark.parametrize("name", ["argmax", "categorical", "draw"])
def test_bad_keys_are_named(name: str) -> None:
    with pytest.raises(ShapeError, match=r"rng must be an int64 key .* got torch.float32 \(2, 3, 2\)"):
        FUNCTIONS[name](torch.zeros(2, 3, 2), X, LEGAL, ACTION)


@pytest.mark.parametrize("name", ["argmax", "categorical", "draw"])
@pytest.mark.parametrize("batch", [(4,), (3,), (2, 4), ()])
def test_keys_of_other_lanes_are_refused(name: str, batch: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(2, 3, 4\)|\(2, 3, 2\)"):
        FUNCTIONS[name](keys(*batch), X, LEGAL, ACTION)
