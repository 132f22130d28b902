"""Counter-based random numbers with explicit keys: Philox4x32-10 (Salmon et al. 2011, Random123).

A key is an int64 tensor [*B, 2] that holds (seed, offset) as 64-bit words. Block j of a key's stream is
Philox(key = seed, counter = offset + j), four 32-bit words. `split` and `fold_in` turn block j into a new key, as
torch.func._random does. A key is consumed once: by `split`, by `fold_in` (with distinct data), or by one draw.

Draws put their own shape behind the key's batch shape: [*B, *shape]. Element i of a draw takes block i whole, which
wastes words but fuses into the loop that uses it; normals, which cost more, take four from a block (docs/design.md).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from armfold.core.check import ShapeError, check_key, check_seed

Words = tuple[Tensor, Tensor, Tensor, Tensor]

_M0, _M1 = 0xD2511F53, 0xCD9E8D57  # multipliers
_W0, _W1 = 0x9E3779B9, 0xBB67AE85  # Weyl increments of the key
_ROUNDS = 10
_LOW32 = 0xFFFFFFFF
_FEW = 1 << 13  # blocks, up to which eager calls cost more than what they compute


def _philox(seed: Tensor, counter: Tensor) -> Words:
    """Four words in [0, 2**32), as int64, of Philox4x32-10 with a 64-bit key and a 64-bit counter."""
    # int64 products and sums wrap as unsigned ones do, and only the low 32 bits of any value matter until it is
    # multiplied: so words are masked there and at the end, nowhere else.
    pairs = not torch.compiler.is_compiling() and counter.numel() <= _FEW
    c0, c1, c2, c3 = (_rounds_of_pairs if pairs else _rounds)(seed, counter)
    return c0 & _LOW32, c1 & _LOW32, c2 & _LOW32, c3 & _LOW32


def _rounds(seed: Tensor, counter: Tensor) -> Words:
    """Ten rounds, each word a tensor: compiled, they are one loop without temporaries."""
    k0, k1 = seed, seed >> 32
    c0, c1 = counter, counter >> 32
    c2 = c3 = torch.zeros_like(counter)
    for i in range(_ROUNDS):
        p0, p1 = (c0 & _LOW32) * _M0, (c2 & _LOW32) * _M1
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ (k0 + i * _W0), p1, (p0 >> 32) ^ c3 ^ (k1 + i * _W1), p0
    return c0, c1, c2, c3


def _rounds_of_pairs(seed: Tensor, counter: Tensor) -> Words:
    """The same, two words to a tensor: eager, every operation is a call that costs more than the work on few blocks."""
    pair = torch.arange(2, device=counter.device).reshape(2, *(1,) * counter.ndim)
    multiplier, increment = pair * (_M1 - _M0) + _M0, pair * (_W1 - _W0) + _W0
    key = torch.stack((seed, seed >> 32)).reshape(2, *(1,) * (counter.ndim - seed.ndim), *seed.shape)
    even = torch.stack((counter, torch.zeros_like(counter)))  # c0, c2
    odd = torch.stack((counter >> 32, torch.zeros_like(counter)))  # c1, c3
    for _ in range(_ROUNDS):
        product = ((even & _LOW32) * multiplier).flip(0)
        even, odd, key = (product >> 32) ^ odd ^ key, product, key + increment
    (c0, c2), (c1, c3) = even.unbind(), odd.unbind()
    return c0, c1, c2, c3


def _blocks(rng: Tensor, shape: Sequence[int], first: int = 0) -> Words:
    """The words of prod(shape) blocks of each key, from block `first` on: four int64 tensors [*B, *shape].

    Laid out with the lanes last in memory, so that the compiler makes vectors of lanes, not of a few arms.
    """
    check_key(rng)
    lanes, event = rng.ndim - 1, len(shape)
    block = torch.arange(first, first + math.prod(shape), device=rng.device).reshape((*shape, *(1,) * lanes))
    words = _philox(rng[..., 0], rng[..., 1] + block)
    w0, w1, w2, w3 = (word.movedim(tuple(range(event)), tuple(range(lanes, lanes + event))) for word in words)
    return w0, w1, w2, w3


def _open01(high: Tensor, low: Tensor, dtype: torch.dtype) -> Tensor:
    """A uniform on the open interval (0, 1) from two words (float64) or from the first (otherwise)."""
    if dtype == torch.float64:
        return (((high >> 6) << 26 | low >> 6).to(dtype) + 0.5) * 2.0**-52
    return (high.to(torch.float32) * 2.0**-32 + 2.0**-33).clamp(max=1 - 2.0**-24)


def _box_muller(words: Words, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two independent standard normals from the four words of a block (two words suffice below float64)."""
    if dtype == torch.float64:
        u, v = _open01(words[0], words[1], dtype), _open01(words[2], words[3], dtype)
    else:
        u, v = _open01(words[0], words[0], dtype), _open01(words[1], words[1], dtype)
    radius = torch.sqrt(-2 * torch.log(u))
    return radius * torch.cos(2 * math.pi * v), radius * torch.sin(2 * math.pi * v)


def _normals(rng: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Standard normals [*B, *shape], as many from each block as it has words for."""
    n, lanes, event = math.prod(shape), rng.ndim - 1, len(shape)
    double = dtype == torch.float64
    w0, w1, w2, w3 = (word.movedim(-1, 0) for word in _blocks(rng, (-(-n // (2 if double else 4)),)))
    parts: tuple[Tensor, ...] = _box_muller((w0, w1, w2, w3), dtype)
    if not double:
        parts += _box_muller((w2, w3, w0, w1), dtype)
    # Stacked with the lanes last in memory, each part is stored as it is computed; nothing has to be interleaved.
    drawn = torch.stack(parts, 1).flatten(0, 1)[:n].reshape(*shape, *rng.shape[:-1])
    return drawn.movedim(tuple(range(event)), tuple(range(lanes, lanes + event)))


def key(seed: int | Tensor, *, device: torch.device | str | None = None) -> Tensor:
    """A key [2] from an integer seed in [-2**63, 2**64), or keys [*B, 2] from seeds int64 [*B]."""
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64:
            raise ShapeError(f"seed must be an int or int64 [*B], got {seed.dtype} {tuple(seed.shape)}")
        return torch.stack((seed, torch.zeros_like(seed)), -1).to(device)
    check_seed("seed", seed)
    return torch.tensor([seed - 2**64 if seed >= 2**63 else seed, 0], dtype=torch.int64, device=device)


def _check_data(name: str, data: int | Tensor, rng: Tensor) -> None:
    if isinstance(data, Tensor):
        if data.dtype != torch.int64 or data.ndim > rng.ndim - 1:
            raise ShapeError(
                f"{name} must be an int or int64 [*B] for keys {tuple(rng.shape)}, got {data.dtype} {tuple(data.shape)}"
            )
    elif isinstance(data, bool) or not isinstance(data, int | torch.SymInt):
        raise ShapeError(f"{name} must be an int or int64 [*B], got {data!r}")


def fold_in(rng: Tensor, data: int | Tensor) -> Tensor:
    """Keys [*B, 2] derived from keys [*B, 2] and data: an int, or int64 [*B] with one value a lane."""
    check_key(rng)
    _check_data("data", data, rng)
    w0, w1, w2, w3 = _philox(rng[..., 0], rng[..., 1] + data)
    return torch.stack((w0 | w1 << 32, w2 | w3 << 32)).movedim(0, -1)


def split(rng: Tensor, num: int = 2) -> Tensor:
    """`num` new keys [num, *B, 2] from each key: split(rng, n)[i] equals fold_in(rng, i), whatever n is."""
    check_key(rng)
    data = torch.arange(num, device=rng.device).reshape(num, *(1,) * (rng.ndim - 1))
    return fold_in(rng.expand(num, *rng.shape), data)


def skip(rng: Tensor, blocks: int | Tensor) -> Tensor:
    """Keys whose draws start `blocks` (an int, or int64 [*B]) later in the same stream: uniform(skip(rng, i)) is
    uniform(rng, (n,))[..., i]. For reading one element of a draw without making the others."""
    check_key(rng)
    _check_data("blocks", blocks, rng)
    return torch.stack((rng[..., 0], rng[..., 1] + blocks)).movedim(0, -1)


def jump(rng: Tensor, times: int | Tensor) -> Tensor:
    """Keys `times` (an int, or int64 [*B]) strides of 2**32 blocks further in the same stream.

    For the steps of a loop: distinct keys for distinct times, at no cost, where `fold_in` would compute a block.
    """
    _check_data("times", times, rng)
    return skip(rng, times << 32)


def bits(rng: Tensor, shape: Sequence[int] = ()) -> Tensor:
    """Uniform integers in [0, 2**32), int64 [*B, *shape]: the first word of each block."""
    return _blocks(rng, shape)[0]


def uniform(
    rng: Tensor,
    shape: Sequence[int] = (),
    *,
    low: float | Tensor = 0.0,
    high: float | Tensor = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Uniform on [low, high), [*B, *shape], of 24 random bits (53 in float64); low and high broadcast against that.

    Where low and high are given, rounding may reach high.
    """
    w0, w1, _, _ = _blocks(rng, shape)
    if dtype == torch.float64:
        unit = ((w0 << 32 | w1) & (2**53 - 1)).to(dtype) * 2.0**-53
    else:
        unit = ((w0 & (2**24 - 1)).to(torch.float32) * 2.0**-24).to(dtype)
        if dtype != torch.float32:
            unit = unit.clamp(max=1 - torch.finfo(dtype).eps / 2)  # half precision would round up to 1
    if isinstance(low, float) and isinstance(high, float) and (low, high) == (0.0, 1.0):
        return unit
    return low + (high - low) * unit


def normal(
    rng: Tensor,
    shape: Sequence[int] = (),
    *,
    mean: float | Tensor = 0.0,
    std: float | Tensor = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Normal draws [*B, *shape]; mean and std broadcast against that (Box and Muller 1958). |draw| < 6.8 std below
    float64.

    A block holds four of them, two in float64: element i is in block i // 4.
    """
    if math.prod(shape) == 1:
        return mean + std * _box_muller(_blocks(rng, shape), dtype)[0].to(dtype)
    return mean + std * _normals(rng, shape, dtype).to(dtype)


def exponential(rng: Tensor, shape: Sequence[int] = (), *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Exponential with rate 1, [*B, *shape], never 0."""
    w0, w1, _, _ = _blocks(rng, shape)
    return -torch.log(_open01(w0, w1, dtype)).to(dtype)


def gumbel(rng: Tensor, shape: Sequence[int] = (), *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard Gumbel, [*B, *shape], always finite."""
    return -torch.log(exponential(rng, shape, dtype=dtype))


def bernoulli(rng: Tensor, p: float | Tensor, shape: Sequence[int] = ()) -> Tensor:
    """True with probability p, bool [*B, *shape]; p broadcasts against that shape."""
    return uniform(rng, shape) < p


def categorical(rng: Tensor, logits: Tensor) -> Tensor:
    """A draw from softmax(logits), int64 [*B], for logits [*B, K] (Gumbel-max). See `masked.categorical` for masks."""
    if logits.ndim == 0 or logits.shape[:-1] != rng.shape[:-1]:
        raise ShapeError(f"logits must be [*B, K] for a key [*B, 2], got {tuple(logits.shape)}, {tuple(rng.shape)}")
    return torch.argmax(logits + gumbel(rng, logits.shape[-1:], dtype=logits.dtype), -1)


def randint(rng: Tensor, shape: Sequence[int] = (), *, low: int = 0, high: int | Tensor) -> Tensor:
    """Uniform integers in [low, high), int64 [*B, *shape], for spans below 2**31 (bias under 2**-32)."""
    if isinstance(high, int) and high <= low:
        raise ValueError(f"high must be above low, got low={low}, high={high}")
    w0, w1, _, _ = _blocks(rng, shape)
    span = high - low
    return low + (w0 * span + (w1 * span >> 32) >> 32)


def _propose(words: Words, d: Tensor) -> Tensor:
    """A candidate v > 0 for Gamma(d + 1/3) = d v, or -1 where it is rejected (Marsaglia and Tsang 2000)."""
    x = _box_muller(words, torch.float32)[0].to(d.dtype)
    u = _open01(words[2], words[3], torch.float32).to(d.dtype)
    y = x / torch.sqrt(9 * d)
    inside = y.clamp(min=-1 + 2**-20)
    # log u < x^2/2 + d (1 - v + log v) with v = (1 + y)^3, arranged so that nothing cancels for large d.
    bound = x * x * (1 / 6 - inside / 9) + 3 * d * (torch.log1p(inside) - inside)
    return torch.where((torch.log(u) < bound) & (inside == y), (1 + inside) * (1 + inside) * (1 + inside), -1)


def _loggamma(rng: Tensor, concentration: Tensor) -> Tensor:
    """Log of standard gamma draws for concentration [*B, n]: rejection without branching.

    Shapes are raised by 2 and brought back by two uniforms, Gamma(a) = Gamma(a + 2) U^(1/a) V^(1/(a+1)) (Stuart
    1962), so a candidate is rejected with probability below 0.0184. Two rounds over all n leave few to settle; then
    each retry serves the first unsettled one of its lane. All n are settled but with probability below 1e-12
    (tests/core/test_random.py computes it); one that is not takes its proposal's median, v = 1.
    """
    n = concentration.shape[-1]
    valid = concentration >= 0  # others are settled as they are, so that they take no retry from their lane
    d = torch.where(valid, concentration, 1) + (2 - 1 / 3)
    v = _propose(_blocks(rng, (n,)), d)
    v = torch.where(v > 0, v, _propose(_blocks(rng, (n,), n), d))
    item = torch.arange(n, device=rng.device)
    for i in range(7 + n // 32):
        turn = item == torch.where(v > 0, n, item).amin(-1, keepdim=True)
        again = _propose(_blocks(rng, (), 3 * n + i), torch.where(turn, d, 0).sum(-1).clamp(min=1))
        v = torch.where(turn, again.unsqueeze(-1), v)
    v = torch.where(v > 0, v, 1)
    w0, w1, w2, w3 = _blocks(rng, (n,), 2 * n)
    boost = torch.log(_open01(w0, w1, concentration.dtype)) / concentration
    boost = boost + torch.log(_open01(w2, w3, concentration.dtype)) / (concentration + 1)
    return torch.where(valid, torch.log(d * v) + boost, torch.nan)


def _items(rng: Tensor, name: str, value: Tensor) -> Tensor:
    """`value` [*B, *S] as [*B, n]."""
    check_key(rng)
    batch = rng.shape[:-1]
    if not value.is_floating_point() or value.shape[: len(batch)] != batch:
        raise ShapeError(
            f"{name} must be floating [*B, *S] for a key [*B, 2], "
            f"got {value.dtype} {tuple(value.shape)} for {tuple(rng.shape)}"
        )
    return value.reshape(*batch, math.prod(value.shape[len(batch) :]))


def gamma(rng: Tensor, concentration: Tensor) -> Tensor:
    """Standard gamma draws, of the shape [*B, *S] of `concentration` > 0. Exact but with probability below 1e-12.

    A concentration of 0 gives 0; one that is negative or NaN gives NaN.
    """
    items = _items(rng, "concentration", concentration)
    return torch.exp(_loggamma(rng, items)).reshape(concentration.shape)


def beta(rng: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Beta draws, of the shape [*B, *S] of a > 0 and b > 0: a ratio of two gammas, taken in logs. See `gamma`."""
    if a.shape != b.shape:
        raise ShapeError(f"a and b must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    pair = torch.cat([_items(rng, name, x).movedim(-1, 0) for name, x in (("a", a), ("b", b))])  # lanes last
    log_a, log_b = _loggamma(rng, pair.movedim(0, -1)).chunk(2, -1)
    return torch.sigmoid(log_a - log_b).reshape(a.shape)


def permutation(rng: Tensor, n: int) -> Tensor:
    """Uniform permutations of range(n), int64 [*B, n]."""
    w0, w1, _, _ = _blocks(rng, (n,))
    return torch.argsort(w0 << 31 | w1 >> 1, dim=-1, stable=True)
