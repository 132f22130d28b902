"""Keys, bits and distributions.

Every statistical assertion fails with probability 1e-6 under its hypothesis. There are fewer than 300, slow ones
included, so the familywise error rate is below 3e-4; keys are fixed, so a test that passes once passes always.
"""

import math
from collections.abc import Callable, Sequence
from itertools import permutations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from mpmath import binomial, mp, mpf
from scipy import integrate, stats
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from tests.purity import check_pure
from tests.tiers import thinned

ALPHA = 1e-6
Z = float(stats.norm.isf(ALPHA / 2))
INT64 = st.integers(-(2**63), 2**63 - 1)


def keys(*batch: int, seed: int = 0) -> Tensor:
    """Keys [*batch, 2] for the tests."""
    return random.split(random.key(seed), math.prod(batch)).reshape(*batch, 2)


# ---------------------------------------------------------------- Philox

ONES = 0xFFFFFFFF
KNOWN = [  # Random123, kat_vectors, philox4x32 10: counter, key, result
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def philox(counter: Sequence[int], key: Sequence[int]) -> tuple[int, ...]:
    """Philox4x32-10 from the paper, in Python integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & ONES, p0 >> 32 ^ c[3] ^ k[1], p0 & ONES]
        k = [(k[0] + 0x9E3779B9) & ONES, (k[1] + 0xBB67AE85) & ONES]
    return tuple(c)


def block(seed: int, offset: int) -> tuple[int, ...]:
    """The four words that the key (seed, offset) makes first."""
    return philox((offset & ONES, offset >> 32 & ONES, 0, 0), (seed & ONES, seed >> 32 & ONES))


def signed(word: int) -> int:
    """A 64-bit word as int64 holds it."""
    word %= 2**64
    return word - 2**64 if word >= 2**63 else word


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_reference_meets_the_published_vectors(
    counter: tuple[int, ...], key: tuple[int, ...], result: tuple[int, ...]
) -> None:
    assert philox(counter, key) == result


def test_philox_meets_the_published_zero_vector() -> None:
    zero = torch.zeros((), dtype=torch.int64)
    assert tuple(int(word) for word in random._philox(zero, zero)) == KNOWN[0][2]


@given(st.lists(st.tuples(INT64, INT64), min_size=1, max_size=20))
@example([(-1, -1), (-(2**63), -(2**63)), (2**63 - 1, 2**63 - 1), (0, ONES), (ONES, 2**32), (-(2**32), -ONES)])
def test_philox_equals_the_reference(pairs: list[tuple[int, int]]) -> None:
    seeds, counters = torch.tensor(pairs).unbind(-1)
    want = [list(block(*pair)) for pair in pairs]
    for rounds in (random._rounds, random._rounds_of_pairs):
        words = torch.stack(rounds(seeds, counters), -1) & ONES
        assert words.tolist() == want


def test_draws_are_the_same_however_many_there_are() -> None:
    few, more = random._FEW, 2 * random._FEW
    drawn = random.bits(keys(3), (more,))  # word by word; a few at once would be drawn in pairs of words
    assert torch.equal(drawn[:, : few // 4], random.bits(keys(3), (few // 4,)))
    assert torch.equal(drawn[1, :few], random.bits(keys(3)[1], (few,)))


@given(INT64, INT64, INT64)
def test_fold_in_makes_a_key_of_one_block(seed: int, offset: int, data: int) -> None:
    w = block(seed, offset + data)
    want = [signed(w[0] | w[1] << 32), signed(w[2] | w[3] << 32)]
    assert random.fold_in(torch.tensor([seed, offset]), data).tolist() == want
    assert random.fold_in(torch.tensor([seed, offset]), torch.tensor(data)).tolist() == want


@given(INT64, INT64)
def test_draws_take_one_block_an_element(seed: int, offset: int) -> None:
    rng, blocks = torch.tensor([seed, offset]), [block(seed, offset + i) for i in range(3)]
    assert random.bits(rng, (3,)).tolist() == [w[0] for w in blocks]
    assert random.uniform(rng, (3,)).tolist() == [w[0] % 2**24 / 2**24 for w in blocks]
    assert random.uniform(rng, (3,), dtype=torch.float64).tolist() == [
        ((w[0] << 32 | w[1]) % 2**53) / 2**53 for w in blocks
    ]


@given(INT64, INT64)
def test_normals_take_four_of_a_block_and_two_in_float64(seed: int, offset: int) -> None:
    rng, blocks = torch.tensor([seed, offset]), [block(seed, offset + i) for i in range(2)]
    single = [z for w in blocks for pair in (w[:2], w[2:]) for z in polar(*((word + 0.5) / 2**32 for word in pair))]
    halves = [[((high >> 6) * 2**26 + (low >> 6) + 0.5) / 2**52 for high, low in (w[:2], w[2:])] for w in blocks]
    double = [z for pair in halves for z in polar(*pair)]
    for n in (1, 3, 6, 8):
        torch.testing.assert_close(random.normal(rng, (n,)), torch.tensor(single[:n]), rtol=2e-5, atol=2e-5)
    got = random.normal(rng, (2, 2), dtype=torch.float64).flatten()
    torch.testing.assert_close(got, torch.tensor(double, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def polar(u: float, v: float) -> tuple[float, float]:
    """Box and Muller's two normals of two uniforms."""
    radius = math.sqrt(-2 * math.log(u))
    return radius * math.cos(2 * math.pi * v), radius * math.sin(2 * math.pi * v)


# ---------------------------------------------------------------- the stream never changes


def test_golden_values() -> None:
    """Committed numbers: a change of any of them breaks every recorded run."""
    rng = random.key(42)
    assert rng.tolist() == [42, 0]
    assert random.key(2**64 - 1).tolist() == [-1, 0]
    assert random.key(-(2**63)).tolist() == random.key(2**63).tolist() == [-(2**63), 0]
    assert random.fold_in(rng, 7).tolist() == FOLDED
    assert random.split(rng, 3).tolist() == SPLIT
    assert (random.uniform(rng, (4,)) * 2**24).tolist() == UNIFORM
    for got, want in (
        (random.normal(rng, (4,)), NORMAL),
        (random.normal(rng, (2,), dtype=torch.float64), NORMAL64),
        (random.gamma(rng, torch.tensor([0.5, 1.0, 30.0])), GAMMA),
        (random.beta(rng, torch.tensor([0.5, 3.0]), torch.tensor([0.5, 5.0])), BETA),
    ):
        torch.testing.assert_close(got, torch.tensor(want, dtype=got.dtype), rtol=1e-5, atol=0)
    assert random.permutation(rng, 8).tolist() == PERMUTATION
    assert random.randint(rng, (5,), low=-3, high=1000).tolist() == RANDINT
    assert random.categorical(keys(8), torch.zeros(8, 5)).tolist() == CATEGORICAL


FOLDED: list[int] = [7527850912803292081, 3344896577480189866]
SPLIT: list[list[int]] = [
    [8643895580192075859, 6287785766076502189],
    [6033254488940945703, 8380643633896839790],
    [-6302966023474904539, -4176625375149986407],
]
UNIFORM: list[int] = [15396947, 14360871, 7078437, 13042805]
NORMAL: list[float] = [-0.9701899, 0.1940189, -1.235621, 1.923927]
NORMAL64: list[float] = [0.8864975174033378, 0.4393560371344035]
GAMMA: list[float] = [0.03204754, 0.274546, 29.12346]
BETA: list[float] = [0.5613767, 0.4218242]
PERMUTATION: list[int] = [6, 5, 4, 7, 0, 3, 2, 1]
RANDINT: list[int] = [611, 987, 825, 728, 324]
CATEGORICAL: list[int] = [0, 3, 3, 3, 3, 0, 4, 1]


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_split_is_fold_in_whatever_the_number(batch: tuple[int, ...]) -> None:
    rng = keys(*batch)
    for num in (1, 2, 5, 100):
        assert random.split(rng, num).shape == (num, *batch, 2)
        for i in {0, num // 2, num - 1}:
            assert torch.equal(random.split(rng, num)[i], random.fold_in(rng, i))
    assert random.split(rng, 0).shape == (0, *batch, 2)


def test_fold_in_takes_one_value_a_lane() -> None:
    data = torch.tensor([[0, 7, -1], [2**62, 7, 3]])
    rows = [[random.fold_in(lane, int(x)) for lane, x in zip(*row)] for row in zip(keys(2, 3), data)]
    assert torch.equal(random.fold_in(keys(2, 3), data), torch.stack([torch.stack(row) for row in rows]))


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_skip_reads_one_element_of_a_draw(batch: tuple[int, ...]) -> None:
    rng = keys(*batch)
    whole = random.uniform(rng, (6,))
    for i in range(6):
        assert torch.equal(random.uniform(random.skip(rng, i)), whole[..., i])
    each = torch.arange(math.prod(batch)).reshape(batch) % 6
    assert torch.equal(random.uniform(random.skip(rng, each)), whole.gather(-1, each.unsqueeze(-1)).squeeze(-1))


@given(INT64, INT64, st.integers(-(2**31), 2**31 - 1))
@example(-1, 2**63 - 1, 1)
def test_jump_skips_strides_of_2_to_the_32(seed: int, offset: int, times: int) -> None:
    rng = torch.tensor([seed, offset])
    wanted = [seed, signed(offset + times * 2**32)]
    assert random.jump(rng, times).tolist() == random.jump(rng, torch.tensor(times)).tolist() == wanted
    assert torch.equal(random.jump(rng, times), random.skip(rng, times * 2**32))


def test_jump_takes_one_number_a_lane() -> None:
    times = torch.tensor([[0, 7, -1], [2**31, 7, 3]])
    rows = [[random.jump(lane, int(x)) for lane, x in zip(*row)] for row in zip(keys(2, 3), times)]
    assert torch.equal(random.jump(keys(2, 3), times), torch.stack([torch.stack(row) for row in rows]))
    assert torch.equal(random.jump(keys(2, 3), torch.tensor(5)), random.jump(keys(2, 3), 5))


def test_draws_after_neighbouring_jumps_share_no_block() -> None:
    """Nor would longer ones, below 2**32 blocks: the next jump lands right behind."""
    words = [torch.stack(random._blocks(random.jump(random.key(3), t), (500,)), -1).tolist() for t in range(4)]
    assert len({tuple(block) for blocks in words for block in blocks}) == 4 * 500
    last = random.skip(random.key(3), 2**32 - 1)
    assert torch.equal(random.bits(last, (2,))[1], random.bits(random.jump(random.key(3), 1)))


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (1.0, "1.0"),
        (True, "True"),
        (None, "None"),
        (torch.tensor(1.0), "torch.float32"),
        (torch.tensor([1, 2, 3], dtype=torch.int32), "torch.int32"),
        (torch.zeros(2, 3, dtype=torch.int64), r"\(2, 3\)"),
    ],
)
@pytest.mark.parametrize(("name", "step"), [("times", random.jump), ("blocks", random.skip), ("data", random.fold_in)])
def test_bad_steps_are_named(name: str, step: Callable[..., Tensor], times: object, told: str) -> None:
    with pytest.raises(ShapeError, match=rf"{name} must be an int .*{told}"):
        step(keys(3), times)


@pytest.mark.parametrize("seed", [True, False, 1.0, "1", None, -(2**63) - 1, 2**64])
def test_key_refuses_bad_seeds(seed: object) -> None:
    with pytest.raises(ValueError, match=r"seed must be an integer in .*, got " + str(seed)[:5].replace("1", "'?1")):
        random.key(seed)  # type: ignore[arg-type]


DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "fold_in": lambda rng: random.fold_in(rng, 5),
    "split": lambda rng: random.split(rng, 2).movedim(0, -1),
    "skip": lambda rng: random.skip(rng, 5),
    "jump": lambda rng: random.jump(rng, 5),
    "bits": lambda rng: random.bits(rng, (4,)),
    "uniform": lambda rng: random.uniform(rng, (4,), low=-1.0, high=2.0),
    "uniform 2-d": lambda rng: random.uniform(rng, (2, 3), dtype=torch.float64),
    "uniform 0-d": lambda rng: random.uniform(rng),
    "normal": lambda rng: random.normal(rng, (4,), mean=1.0, std=2.0),
    "normal float64": lambda rng: random.normal(rng, (2, 2), dtype=torch.float64),
    "exponential": lambda rng: random.exponential(rng, (4,)),
    "gumbel": lambda rng: random.gumbel(rng, (4,)),
    "bernoulli": lambda rng: random.bernoulli(rng, 0.4, (4,)),
    "randint": lambda rng: random.randint(rng, (4,), low=-5, high=50),
    "permutation": lambda rng: random.permutation(rng, 4),
}
SHAPED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # with a tensor [*B, 3] of positive numbers
    "bernoulli tensor": lambda rng, x: random.bernoulli(rng, x.sigmoid(), (3,)),
    "categorical": lambda rng, x: random.categorical(rng, x.log()),
    "gamma": random.gamma,
    "beta": lambda rng, x: random.beta(rng, x, x + 1),
}
SLOW_TO_TRACE = {
    "jump",
    "gamma",
    "beta",
    "uniform 2-d",
    "uniform 0-d",
    "normal float64",
    "split",
    "bits",
    "exponential",
    "gumbel",
}
BATCHES = [(), (3,), (2, 3)]


def _positive(*shape: int) -> Tensor:
    return torch.linspace(0.2, 9.0, math.prod(shape)).reshape(shape)


@pytest.mark.parametrize("batch", [(3,), *(pytest.param(batch, marks=pytest.mark.slow) for batch in ((), (2, 3)))])
@pytest.mark.parametrize("name", thinned(DRAWS, keep=2))
def test_draws_agree_in_every_variant(name: str, batch: tuple[int, ...], variants) -> None:
    traced = batch == (3,) and name not in SLOW_TO_TRACE
    variants(DRAWS[name], keys(*batch), batch=len(batch), traced=traced)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", SHAPED)
def test_shaped_draws_agree_in_every_variant(name: str, batch: tuple[int, ...], variants) -> None:
    traced = batch == (3,) and name not in SLOW_TO_TRACE
    variants(SHAPED[name], keys(*batch), _positive(*batch, 3), batch=len(batch), traced=traced, atol=1e-5)


@pytest.mark.slow
def test_keys_agree_when_compiled(variants) -> None:
    variants(lambda rng: random.fold_in(rng, 5), keys(3), traced=False, compiled=True)


@pytest.mark.slow
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", DRAWS)
def test_draws_agree_when_compiled(name: str, batch: tuple[int, ...], variants) -> None:
    variants(DRAWS[name], keys(*batch), batch=len(batch), compiled=True, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", SHAPED)
def test_shaped_draws_agree_when_compiled(name: str, batch: tuple[int, ...], variants) -> None:
    variants(SHAPED[name], keys(*batch), _positive(*batch, 3), batch=len(batch), compiled=True, atol=1e-5)


@pytest.mark.parametrize("name", [*DRAWS, *SHAPED])
def test_draws_are_pure(name: str) -> None:
    if name in DRAWS:
        check_pure(DRAWS[name], keys(3))
    else:
        check_pure(SHAPED[name], keys(3), _positive(3, 3))


@pytest.mark.parametrize("name", [*DRAWS, *SHAPED])
@pytest.mark.parametrize(
    "rng", [torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.int32), torch.zeros(3, 3, dtype=torch.int64)]
)
def test_bad_keys_are_named(name: str, rng: Tensor) -> None:
    with pytest.raises(ShapeError, match=r"rng must be an int64 key of shape \(\*B, 2\), got torch.\w+ \(3, [23]\)"):
        DRAWS[name](rng) if name in DRAWS else SHAPED[name](rng, _positive(3, 3))


@pytest.mark.parametrize("name", DRAWS)
def test_a_number_is_no_key(name: str) -> None:
    with pytest.raises(ShapeError, match="rng must be"):
        DRAWS[name](torch.tensor(5))


def test_bad_shapes_are_named() -> None:
    rng = keys(3)
    with pytest.raises(ShapeError, match=r"logits .* got \(4, 5\), \(3, 2\)"):
        random.categorical(rng, torch.zeros(4, 5))
    with pytest.raises(ShapeError, match=r"logits .* got \(\), \(2,\)"):
        random.categorical(keys(), torch.tensor(1.0))
    with pytest.raises(ShapeError, match=r"concentration .* torch.float32 \(4, 5\) for \(3, 2\)"):
        random.gamma(rng, torch.ones(4, 5))
    with pytest.raises(ShapeError, match=r"concentration must be floating .* torch.int64"):
        random.gamma(rng, torch.ones(3, 5, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"a and b must have one shape, got \(3, 2\) and \(3, 1\)"):
        random.beta(rng, torch.ones(3, 2), torch.ones(3, 1))


# ---------------------------------------------------------------- dtypes and limits


FLOATS: dict[str, Callable[..., Tensor]] = {
    "uniform": random.uniform,
    "normal": random.normal,
    "exponential": random.exponential,
    "gumbel": random.gumbel,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FLOATS)
def test_dtype(name: str, dtype: torch.dtype) -> None:
    x = FLOATS[name](keys(3), (50,), dtype=dtype)
    assert x.dtype == dtype
    assert x.shape == (3, 50)
    assert torch.isfinite(x).all()


def test_gamma_and_beta_keep_the_dtype() -> None:
    for dtype in (torch.float32, torch.float64):
        x = torch.ones(3, 2, dtype=dtype)
        assert random.gamma(keys(3), x).dtype == random.beta(keys(3), x, x).dtype == dtype


@pytest.mark.parametrize("name", FLOATS)
def test_float64_has_more_than_24_bits(name: str) -> None:
    x = FLOATS[name](keys(), (1000,), dtype=torch.float64)
    assert (x != x.to(torch.float32).to(torch.float64)).double().mean() > 0.9


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("words", [(0, 0, 0, 0), (ONES, ONES, ONES, ONES), (0, ONES, 0, ONES), (ONES, 0, ONES, 0)])
def test_limits_hold_for_the_extreme_words(
    words: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "_blocks", lambda rng, shape, first=0: tuple(torch.tensor(w) for w in words))
    rng = random.key(0)
    assert random.exponential(rng, dtype=dtype) > 0
    for name in FLOATS:
        assert torch.isfinite(FLOATS[name](rng, dtype=dtype))
    if dtype in (torch.float32, torch.float64):
        assert 0 < random._open01(torch.tensor(words[0]), torch.tensor(words[1]), dtype) < 1
    assert -3 <= random.randint(rng, low=-3, high=2**31 - 4) < 2**31 - 4
    assert not random.bernoulli(rng, 0.0)
    assert random.bernoulli(rng, 1.0)
    assert random.categorical(rng, torch.tensor([-torch.inf, 0.0, -torch.inf])) == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.0, 2.0), (-3.0, 100.0)])
def test_uniform_stays_below_high(low: float, high: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 - 2**-24 is 1 in float16, and 1 + (1 - 2**-24) is 2 in float32: the first must not happen, the second may."""
    for words in (0, 0, 0, 0), (ONES, ONES, ONES, ONES):
        monkeypatch.setattr(random, "_blocks", lambda *args, words=words: tuple(torch.tensor(w) for w in words))
        drawn = random.uniform(random.key(0), low=low, high=high, dtype=dtype)
        assert low <= drawn <= high
        assert (low, high) != (0.0, 1.0) or drawn < high


def test_tunables_may_be_tensors() -> None:
    rng, low = keys(3), torch.tensor([[-1.0], [0.0], [5.0]])
    unit, standard = random.uniform(rng, (4,)), random.normal(rng, (4,))
    torch.testing.assert_close(random.uniform(rng, (4,), low=low, high=low + 2), low + 2 * unit)
    torch.testing.assert_close(random.normal(rng, (4,), mean=low, std=low.abs()), low + low.abs() * standard)
    high = torch.tensor([[1], [10], [2**31 - 1]])
    x = random.randint(rng, (4,), high=high)
    assert x.dtype == torch.int64
    assert ((x >= 0) & (x < high)).all()
    assert x[0].tolist() == [0] * 4


# ---------------------------------------------------------------- distributions


Law = tuple[Callable[[int, torch.dtype], Tensor], stats.rv_continuous]


def _gamma(a: float) -> Law:
    def draw(n: int, dtype: torch.dtype) -> Tensor:
        return random.gamma(keys(n // 4), torch.full((n // 4, 4), a, dtype=dtype)).flatten()

    return draw, stats.gamma(a)


def _beta(a: float, b: float) -> Law:
    def draw(n: int, dtype: torch.dtype) -> Tensor:
        full = [torch.full((n // 4, 4), x, dtype=dtype) for x in (a, b)]
        return random.beta(keys(n // 4), *full).flatten()

    return draw, stats.beta(a, b)


N = 20_000
CONTINUOUS: dict[str, Law] = {
    "uniform": (lambda n, d: random.uniform(keys(), (n,), dtype=d), stats.uniform()),
    "uniform(-1, 3)": (lambda n, d: random.uniform(keys(n), low=-1.0, high=3.0, dtype=d), stats.uniform(-1, 4)),
    "normal": (lambda n, d: random.normal(keys(), (n,), dtype=d), stats.norm()),
    "normal(3, 2)": (lambda n, d: random.normal(keys(n), mean=3.0, std=2.0, dtype=d), stats.norm(3, 2)),
    "second normal": (lambda n, d: random._box_muller(random._blocks(keys(), (n,)), d)[1], stats.norm()),
    "exponential": (lambda n, d: random.exponential(keys(), (n,), dtype=d), stats.expon()),
    "gumbel": (lambda n, d: random.gumbel(keys(), (n,), dtype=d), stats.gumbel_r()),
    **{f"gamma({a})": _gamma(a) for a in (0.1, 1, 3, 50, 1e5)},
    **{f"beta({a}, {b})": _beta(a, b) for a, b in ((0.5, 0.5), (1, 1), (2, 5), (300, 1), (1e4, 3e4))},
}


@pytest.mark.parametrize("n", [N, pytest.param(1_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_distributions(name: str, dtype: torch.dtype, n: int) -> None:
    draw, law = CONTINUOUS[name]
    x = draw(n, dtype).double().numpy()
    mean, variance, _, excess = (float(m) for m in law.stats("mvsk"))
    assert x.shape == (n,)
    assert abs(x.mean() - mean) < Z * math.sqrt(variance / n)
    assert abs(x.var() / variance - 1) < Z * math.sqrt((excess + 2) / n)
    assert stats.kstest(x, law.cdf).pvalue > ALPHA


def _fits(counts: Tensor, probs: Tensor | None = None) -> bool:
    """Whether counts [K] agree with probs [K] (uniform if None) by a chi-square test."""
    want = None if probs is None else (probs * counts.sum()).numpy()
    return bool(stats.chisquare(counts.double().numpy(), want).pvalue > ALPHA)


def test_all_bytes_of_a_block_are_uniform() -> None:
    for word in random._blocks(keys(64), (512,)):
        for shift in (0, 8, 16, 24):
            assert _fits(torch.bincount((word >> shift & 255).flatten(), minlength=256))


@pytest.mark.parametrize(("low", "high"), [(0, 7), (-2, 1), (0, 1000)])
def test_randint(low: int, high: int) -> None:
    x = random.randint(keys(), (50_000,), low=low, high=high)
    assert _fits(torch.bincount(x - low, minlength=high - low))


def test_randint_has_no_bias_over_a_large_span() -> None:
    """At 3/4 of 2**31 a modulo of 32 bits would make the low half twice as likely as it should be."""
    span = 3 * 2**29
    x = random.randint(keys(), (50_000,), high=span)
    assert _fits(torch.bincount(x * 12 // span, minlength=12))
    assert _fits(torch.bincount(x % 12, minlength=12))


@pytest.mark.parametrize("p", [1e-3, 0.3, 0.5, 0.999])
def test_bernoulli(p: float) -> None:
    x = random.bernoulli(keys(), p, (50_000,))
    assert x.dtype == torch.bool
    assert stats.binomtest(int(x.sum()), 50_000, p).pvalue > ALPHA


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_categorical(dtype: torch.dtype) -> None:
    logits = torch.tensor([0.0, -torch.inf, 2.0, -3.0, 100.0 - 99.0], dtype=dtype)
    counts = torch.bincount(random.categorical(keys(N), logits.expand(N, 5)), minlength=5)
    legal = torch.isfinite(logits)
    assert counts[~legal].sum() == 0
    assert _fits(counts[legal], torch.softmax(logits[legal].double(), -1))


def test_permutation() -> None:
    x = random.permutation(keys(24_000), 4)
    orders = torch.tensor(list(permutations(range(4))))
    counts = (x.unsqueeze(1) == orders).all(-1).sum(0)
    assert counts.sum() == 24_000
    assert _fits(counts)
    assert random.permutation(keys(3), 0).shape == (3, 0)
    assert torch.equal(random.permutation(keys(3), 500).sort(-1).values, torch.arange(500).expand(3, 500))


# ---------------------------------------------------------------- independence

LANES = keys(256)
STEPS = torch.stack([random.fold_in(LANES, t) for t in range(129)])  # [T, lanes, 2]
TAGGED = [random.fold_in(STEPS[:-1], tag) for tag in range(3)]
NEXT_SEEDS = torch.stack((torch.arange(32_769), torch.zeros(32_769, dtype=torch.int64)), -1)
JUMPS = torch.stack([random.jump(LANES, t) for t in range(129)])
NEIGHBOURS = {
    "lanes": (STEPS[:, :-1], STEPS[:, 1:]),
    "steps": (STEPS[:-1], STEPS[1:]),
    "tags": (TAGGED[0], TAGGED[1]),
    "tag of the next step": (TAGGED[2][:-1], TAGGED[0][1:]),
    "seeds": (NEXT_SEEDS[:-1], NEXT_SEEDS[1:]),
    "elements": (STEPS, random.skip(STEPS, 1)),
    "jumps": (JUMPS[:-1], JUMPS[1:]),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_are_independent(name: str) -> None:
    """Correlation of the normals; a chi-square over a 16 x 16 grid of pairs of the uniforms (each in one pair)."""
    pairs = torch.stack(NEIGHBOURS[name]).flatten(1, -2)
    x, y = random.normal(pairs, dtype=torch.float64)
    assert abs(float((x * y).mean())) < Z / math.sqrt(x.numel())
    assert abs(float(((x * x - 1) * (y * y - 1)).mean())) < Z * 2 / math.sqrt(x.numel())
    u, v = (random.uniform(pairs) * 16).long()
    assert _fits(torch.bincount(16 * u + v, minlength=256))


# ---------------------------------------------------------------- the gamma sampler settles

REJECTED = "0.018340038704786732"  # of a candidate at shape 2, the smallest that is ever proposed for


def _rejected(shape: float) -> float:
    """1 - E[min(1, exp(x^2 / 2 + d (1 - v + log v)))] over x ~ N(0, 1), where v = (1 + x / sqrt(9 d))^3 > 0."""
    d = shape - 1 / 3

    def accepted(x: float) -> float:
        v = (1 + x / math.sqrt(9 * d)) ** 3
        return math.exp(d * (1 - v + math.log(v))) / math.sqrt(2 * math.pi) if v > 0 else 0.0

    return float(1 - integrate.quad(accepted, -math.sqrt(9 * d), 12, epsabs=1e-13, epsrel=1e-13, limit=200)[0])


def test_rejection_is_likeliest_at_shape_2() -> None:
    assert math.isclose(_rejected(2), float(REJECTED), rel_tol=1e-9)
    rejected = [_rejected(shape) for shape in (2, 2.001, 2.1, 3, 5, 10, 30, 100)]
    assert rejected == sorted(rejected, reverse=True)


def test_proposals_are_rejected_as_often_as_computed() -> None:
    v = random._propose(random._blocks(keys(), (200_000,)), torch.tensor(5 / 3))
    assert stats.binomtest(int((v < 0).sum()), 200_000, float(REJECTED)).pvalue > ALPHA


@pytest.mark.parametrize("n", [1, 2, 10, 20, 31, 32, 40, 63, 64, 128, 256, 512, 1024, 2048, 4096])
def test_gamma_leaves_nothing_unsettled(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """m of n pending after two rounds stay pending where fewer than m of the retries succeed."""
    calls: list[Tensor] = []
    monkeypatch.setattr(random, "_propose", lambda words, d: calls.append(d) or torch.ones_like(words[0] * d))
    random.gamma(keys(), torch.ones(n))
    assert [d.numel() for d in calls] == [n, n] + [1] * (len(calls) - 2)
    with mp.workdps(60):
        r, retries = mpf(REJECTED), len(calls) - 2
        left = mpf(0)
        for m in range(1, n + 1):
            pending = binomial(n, m) * r ** (2 * m) * (1 - r * r) ** (n - m)
            few = range(min(m, retries + 1))
            left += pending * sum(binomial(retries, k) * (1 - r) ** k * r ** (retries - k) for k in few)
            if pending < mpf(10) ** -40 and m > n * r:
                break
        assert left < mpf(10) ** -12


def test_gamma_reads_no_block_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = random._blocks

    def blocks(rng: Tensor, shape: Sequence[int], first: int = 0) -> random.Words:
        read.extend(range(first, first + math.prod(shape)))
        return real(rng, shape, first)

    monkeypatch.setattr(random, "_blocks", blocks)
    random.gamma(keys(), torch.ones(70))
    assert len(read) > 3 * 70
    assert sorted(read) == sorted(set(read))


def test_retries_serve_the_first_unsettled_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both rounds reject items 1 and 3 of 4; the retries reject once, then accept v = 8: d, 8 d, d, 8 d come out."""
    calls: list[Tensor] = []

    def propose(words: tuple[Tensor, ...], d: Tensor) -> Tensor:
        calls.append(d)
        if len(calls) <= 2:
            return torch.tensor([1.0, -1.0, 1.0, -1.0])
        return torch.tensor(-1.0 if len(calls) == 3 else 8.0)

    monkeypatch.setattr(random, "_propose", propose)
    shape = torch.tensor([1e6, 2e6, 3e6, 4e6])
    torch.testing.assert_close(
        random.gamma(keys(), shape), shape * torch.tensor([1.0, 8.0, 1.0, 8.0]), rtol=1e-4, atol=0
    )
    served = [float(d) for d in calls[2:5]]
    assert served == pytest.approx([2e6, 2e6, 4e6], rel=1e-5)


def test_gamma_falls_back_on_the_median_of_its_proposal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        random, "_propose", lambda words, d: torch.full(torch.broadcast_shapes(words[0].shape, d.shape), -1.0)
    )
    x = random.gamma(keys(5), torch.tensor([1e-3, 1.0, 1e4]).expand(5, 3))
    assert torch.isfinite(x).all()
    torch.testing.assert_close(x[:, 2], torch.full((5,), 1e4), rtol=5e-3, atol=0)
    u = random._open01(*random._blocks(keys(5), (3,), 6)[:2], torch.float32)
    w = random._open01(*random._blocks(keys(5), (3,), 6)[2:], torch.float32)
    torch.testing.assert_close(x[:, 1], (1 + 5 / 3) * u[:, 1] * w[:, 1].sqrt(), rtol=1e-4, atol=0)


def test_gamma_and_beta_at_the_edge_of_their_domain() -> None:
    edge = torch.tensor([0.0, -0.5, -1.0, -5.0, torch.nan])
    x = random.gamma(keys(100), edge.expand(100, 5))
    assert ((x == 0) | torch.isnan(x)).all()
    tiny = torch.full((100, 2), 1e-30)
    y = random.beta(keys(100), tiny, tiny)
    assert ((y == 0) | (y == 1)).all()  # a point mass at either end
    assert stats.binomtest(int(y.sum()), 200, 0.5).pvalue > ALPHA
    large = torch.full((100, 2), 1e30)
    torch.testing.assert_close(random.beta(keys(100), large, large), torch.full((100, 2), 0.5), rtol=0, atol=1e-4)


def test_nan_does_not_use_up_the_retries_of_its_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """An item that can never settle must not push its neighbours onto the fallback, which is within 100 of 1e6 here
    where the law has a standard deviation of 1000."""
    rounds = iter([True, True])
    real = random._propose

    def propose(words: random.Words, d: Tensor) -> Tensor:
        v = real(words, d)
        return torch.full_like(v, -1) if next(rounds, False) else v

    monkeypatch.setattr(random, "_propose", propose)
    x = random.gamma(keys(200), torch.tensor([torch.nan, 1e6]).expand(200, 2))
    assert torch.isnan(x[:, 0]).all()
    assert ((x[:, 1] - 1e6).abs() > 100).double().mean() > 0.5


# ---------------------------------------------------------------- CUDA


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestCuda:
    """Bit for bit as on the CPU, and as torch's own keys where the two share a definition."""

    RNG = torch.tensor([[42, 0], [-1, 7], [2**63 - 1, -(2**63)], [5, 2**32 - 2]])

    def test_bits_and_keys_equal_those_of_the_cpu(self) -> None:
        rng = self.RNG.cuda()
        assert torch.equal(random.bits(rng, (1000,)).cpu(), random.bits(self.RNG, (1000,)))
        assert torch.equal(random.split(rng, 100).cpu(), random.split(self.RNG, 100))
        assert torch.equal(random.uniform(rng, (1000,)).cpu(), random.uniform(self.RNG, (1000,)))
        assert torch.equal(random.permutation(rng, 50).cpu(), random.permutation(self.RNG, 50))
        assert torch.equal(random.randint(rng, (50,), high=1000).cpu(), random.randint(self.RNG, (50,), high=1000))

    def test_floats_are_near_those_of_the_cpu(self) -> None:
        rng, shape = self.RNG.cuda(), _positive(4, 3)
        torch.testing.assert_close(random.normal(rng, (100,)).cpu(), random.normal(self.RNG, (100,)), rtol=0, atol=1e-5)
        torch.testing.assert_close(
            random.gamma(rng, shape.cuda()).cpu(), random.gamma(self.RNG, shape), rtol=1e-4, atol=0
        )

    def test_keys_equal_those_of_torch(self) -> None:
        peer = pytest.importorskip("torch.func._random")
        rng = self.RNG.cuda()
        assert torch.equal(random.split(rng, 10), peer.split(rng.view(torch.uint64), 10).view(torch.int64))
        for data in (0, 1, 12_345):
            assert torch.equal(random.fold_in(rng, data), peer.fold_in(rng.view(torch.uint64), data).view(torch.int64))

    def test_element_i_is_element_4i_of_torch(self) -> None:
        """torch hands out all four words of a block."""
        peer = pytest.importorskip("torch.func._random")
        rng = random.key(42, device="cuda")
        assert torch.equal(random.uniform(rng, (100,)), peer.uniform(rng.view(torch.uint64), 400)[::4])
