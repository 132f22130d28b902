"""The store against a plain model of dictionaries, the bound of regret matching, and what must stay as it was."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.regret import meta_regret_init, meta_regret_probs, meta_regret_stats, meta_regret_step
from armfold.core.regret.lru import EMPTY
from armfold.core.regret.meta import MetaRegret
from armfold.shell.store import checkpoint
from tests.purity import check_pure, same_bits

INF, NAN = math.inf, math.nan
PLAIN = {"decay": 0.0, "util_clip": INF, "regret_clip": INF, "regret_min": -INF, "smoothing_factor": 0.0}
BINS = 3


def keys(*batch: int, seed: int = 0) -> Tensor:
    return random.split(random.key(seed), math.prod(batch)).reshape(*batch, 2)


def store(*batch: int, bins: int = BINS, capacity: int = 6, dtype: torch.dtype = torch.float64) -> MetaRegret:
    return meta_regret_init(keys(*batch), bins=bins, capacity=capacity, dtype=dtype)


def data(seed: int, *rows: int, among: int = 12, bins: int = BINS) -> tuple[Tensor, Tensor]:
    """Keys and utilities of rows, float64."""
    k = random.split(random.key(seed), 2)
    return random.randint(k[0], rows, high=among), random.normal(k[1], (*rows, bins), dtype=torch.float64)


def held(state: MetaRegret) -> dict[int, tuple[int, list[float], list[float]]]:
    """The states of one lane: when they were used, regrets, utilities. Empty slots are last, and empty."""
    size = int((state.key < EMPTY).sum())
    assert (state.key[:size].diff() > 0).all()
    assert (state.key[size:] == EMPTY).all()
    assert not any(bool(x[size:].any()) for x in (state.used, state.regret, state.utility))
    used, regret, utility = (x[:size].tolist() for x in (state.used, state.regret, state.utility))
    return {k: (u, r, s) for k, u, r, s in zip(state.key[:size].tolist(), used, regret, utility)}


def same(x: MetaRegret, y: MetaRegret) -> bool:
    return all(same_bits(a, b) for a, b in zip(x, y))


class Model:
    """One lane in plain Python: an ordered dictionary, least recently used first."""

    def __init__(self, capacity: int, evict: int, **rule: float) -> None:
        self.states: OrderedDict[int, tuple[list[float], list[float]]] = OrderedDict()
        self.capacity, self.evict, self.rule = capacity, evict, rule
        self.updates = self.evicted = self.faults = 0

    def learn(self, key: int, utility: Sequence[float]) -> None:
        rule, n = self.rule, len(utility)
        regret, old = self.states.pop(key, ([rule["initial_regret"]] * n, [0.0] * n))
        clipped = [min(max(u, -rule["util_clip"]), rule["util_clip"]) for u in utility]
        smooth = [rule["decay"] * o + (1 - rule["decay"]) * c for o, c in zip(old, clipped)]
        total = sum(max(r, 0) for r in regret)
        play = [max(r, 0) / total if total > 0 else 1 / n for r in regret]
        play = [(1 - rule["smoothing_factor"]) * p + rule["smoothing_factor"] / n for p in play]
        mean = sum(p * s for p, s in zip(play, smooth))
        grown = [min(max(r + s - mean, rule["regret_min"]), rule["regret_clip"]) for r, s in zip(regret, smooth)]
        self.states[key] = grown, smooth
        self.updates += 1

    def steps(self, rows: Sequence[tuple[int, Sequence[float], bool]]) -> None:
        means: dict[int, list[Sequence[float]]] = {}
        for key, utility, valid in rows:
            if valid and 0 <= key < EMPTY and all(map(math.isfinite, utility)):
                means.setdefault(key, []).append(utility)
            else:
                self.faults += valid
        order = [k for k in means if k in self.states] + [k for k in means if k not in self.states]
        for key in order:
            if key not in self.states and len(self.states) == self.capacity:
                for old in [k for k in self.states if k not in means][: self.evict]:
                    del self.states[old]
                    self.evicted += 1
                if len(self.states) == self.capacity:
                    self.faults += 1
                    continue
            self.learn(key, [sum(u) / len(u) for u in zip(*means[key])])


# ---------------------------------------------------------------- the store

RULE = {
    "decay": 0.7,
    "util_clip": 2.0,
    "regret_clip": 3.0,
    "regret_min": -1.0,
    "initial_regret": 0.5,
    "smoothing_factor": 0.1,
}
ROW = st.tuples(
    st.sampled_from([0, 1, 2, 3, 5, 8, 13, 21, 2**62, EMPTY - 1, -1, EMPTY]),
    st.lists(st.sampled_from([0.0, 1.0, -0.5, 3.0, 0.25]) | st.sampled_from([NAN, INF]), min_size=BINS, max_size=BINS),
    st.booleans() | st.just(True),
)
CALLS = st.lists(st.lists(ROW, min_size=0, max_size=5), min_size=1, max_size=8)


@settings(max_examples=25)
@given(st.integers(5, 7), st.integers(0, 8), CALLS)
@example(5, 8, [[(k, [1.0, 0.0, 0.0], True) for k in ks] for ks in ([0, 1, 2, 3, 5], [0, 8, 1, 13], [21])])
def test_the_store_is_an_ordered_dictionary(capacity: int, evict: int, calls: list[list[tuple]]) -> None:
    """Size, membership, order of use, evictions in batches, means of repeated keys, faults, and all figures."""
    state, model = store(capacity=capacity), Model(capacity, evict, **RULE)
    for rows in calls:
        key, valid = (torch.tensor([r[i] for r in rows], dtype=d) for i, d in ((0, torch.int64), (2, torch.bool)))
        utility = torch.tensor([r[1] for r in rows], dtype=torch.float64).reshape(-1, BINS)
        state = meta_regret_step(state, key, utility, valid=valid, evict=evict, **RULE)
        model.steps(rows)
        got = held(state)
        assert len(got) <= capacity
        assert sorted(got, key=lambda k: got[k][0]) == list(model.states)
        assert [int(x) for x in state[4:]] == [model.updates, model.evicted, model.faults]
        for k, (regret, smooth) in model.states.items():
            assert got[k][1] == pytest.approx(regret, abs=1e-12)
            assert got[k][2] == pytest.approx(smooth, abs=1e-12)


def test_a_large_store_keeps_what_a_dictionary_keeps() -> None:
    state, model = store(capacity=300, dtype=torch.float32), Model(300, 40, **RULE)
    for i in range(4):
        key, utility = data(i, 250, among=900)
        state = meta_regret_step(state, key, utility.float(), evict=40, **RULE)
        model.steps([(k, u, True) for k, u in zip(key.tolist(), utility.tolist())])
        got = held(state)
        assert sorted(got, key=lambda k: got[k][0]) == list(model.states)
    assert int(state.evicted) == model.evicted > 150
    figures = torch.tensor([got[k][1] for k in model.states]), torch.tensor([r for r, _ in model.states.values()])
    torch.testing.assert_close(*figures, rtol=1e-4, atol=1e-4)


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_many_rows_are_single_steps_one_after_another(seed: int) -> None:
    """To the last bit: known states first, then new ones, each with the mean of its rows."""
    state = store(dtype=torch.float32)
    for i in range(2):
        key, utility = data(7 * seed + i, 5)
        utility = (utility * 4).round().float() / 4  # means of up to five are exact but for the last division
        known = set(held(state))
        order = sorted(dict.fromkeys(key.tolist()), key=lambda k: k not in known)
        one = state
        for k in order:
            one = meta_regret_step(one, torch.tensor(k), utility[key == k].double().mean(0).float(), evict=1)
        state = meta_regret_step(state, key, utility, evict=1)
        assert same(state, one)


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_what_a_call_updates_is_there_after_it(seed: int, evict: int) -> None:
    state = store(2, capacity=6)
    for i in range(3):
        key, utility = data(11 * seed + i, 2, 6)
        state = meta_regret_step(state, key, utility, evict=evict)
        for lane in range(2):
            assert set(key[lane].tolist()) <= set(held(MetaRegret(*(x[lane] for x in state))))


def test_without_eviction_a_full_store_stays() -> None:
    first = meta_regret_step(store(), *data(0, 6, among=10**9), evict=0)
    key, utility = data(1, 6, among=10**9)
    again = meta_regret_step(first, torch.cat((first.key[:2], key[:4])), utility, evict=0)
    assert torch.equal(again.key, first.key)
    assert int(again.faults) == 4
    assert int(again.clock) == 8
    assert not torch.equal(again.regret[:2], first.regret[:2])
    assert torch.equal(again.regret[2:], first.regret[2:])


@pytest.mark.parametrize("wrong", ["nan", "inf", "negative key", "key of the empty slot"])
def test_what_cannot_be_learned_from_changes_nothing(wrong: str) -> None:
    state = meta_regret_step(store(3), *data(0, 3, 4))
    key, utility = data(1, 3)
    if wrong in ("nan", "inf"):
        utility[1, 2] = {"nan": NAN, "inf": -INF}[wrong]
    else:
        key[1] = -1 if wrong == "negative key" else EMPTY
    after = meta_regret_step(state, key, utility)
    assert (after.faults - state.faults).tolist() == [0, 1, 0]
    assert all(same_bits(a[1], b[1]) for a, b in zip(after[:-1], state[:-1]))
    assert (after.clock - state.clock).tolist() == [1, 0, 1]


def test_rows_that_only_fill_up_are_no_faults() -> None:
    state, (key, utility) = store(), data(0, 4)
    utility[3] = NAN
    valid = torch.tensor([True, True, True, False])
    after = meta_regret_step(state, key, utility, valid=valid)
    assert same(after, meta_regret_step(state, key[:3], utility[:3]))
    assert int(after.faults) == 0
    assert same(meta_regret_step(after, key[:0], utility[:0]), after)


# ---------------------------------------------------------------- what is played


def test_known_states_are_regret_matched_and_others_uniform() -> None:
    state = store(2, capacity=9)
    for i in range(3):
        state = meta_regret_step(state, *data(i, 2, 9, among=9))
    probs = meta_regret_probs(state, torch.cat((state.key, torch.tensor([[99, -1, EMPTY]] * 2)), -1))
    torch.testing.assert_close(probs[:, -3:], torch.full_like(probs[:, -3:], 1 / 3))
    assert (state.key == torch.arange(9)).all()
    positive = state.regret.clamp(min=0)
    matched = torch.where(positive.any(-1, keepdim=True), positive / positive.sum(-1, keepdim=True), 1 / 3)
    wanted = (1 - 1e-6) * matched + 1e-6 / 3
    torch.testing.assert_close(probs[:, :-3], wanted, rtol=1e-12, atol=1e-12)
    assert (probs > 0).all()
    one = meta_regret_probs(state, state.key[:, 2])
    assert torch.equal(one, probs[:, 2])
    even = meta_regret_probs(state, state.key[:, 2], smoothing_factor=1.0)
    torch.testing.assert_close(even, torch.full_like(even, 1 / 3))


def test_tunables_may_differ_by_lane() -> None:
    values = {
        "decay": [0.0, 0.9, 0.5],
        "util_clip": [0.5, 5.0, INF],
        "regret_clip": [1.0, INF, 0.25],
        "regret_min": [0.0, -INF, -0.5],
        "initial_regret": [0.0, 0.5, 0.25],
        "smoothing_factor": [0.0, 0.5, 1e-6],
    }
    state, (key, utility) = store(3), data(0, 3, 5)
    swept = {name: torch.tensor(v, dtype=torch.float64) for name, v in values.items()}
    for i in range(3):
        state = meta_regret_step(state, key.roll(i, -1), utility, **swept)
    for lane in range(3):
        own = {name: v[lane] for name, v in values.items()}
        alone = store()
        for i in range(3):
            alone = meta_regret_step(alone, key[lane].roll(i, -1), utility[lane], **own)
        assert same(MetaRegret(*(x[lane] for x in state)), alone)


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 1e3, 1e30, 3e38]), st.floats(0, 1), st.booleans())
def test_regrets_and_smoothed_utilities_stay_bounded(seed: int, scale: float, decay: float, extreme: bool) -> None:
    """Invariant D, at the default limits."""
    state = store(2, dtype=torch.float32)
    for i in range(3):
        key, utility = data(3 * seed + i, 2, 6, among=4)
        utility = scale * (utility.sign() if extreme else utility.clamp(-1, 1)).float()
        state = meta_regret_step(state, key, utility, decay=decay)
    assert ((state.regret >= 0) & (state.regret <= 10)).all()
    assert (state.utility.abs() <= 5 * (1 + 1e-6)).all()
    assert torch.isfinite(meta_regret_probs(state, state.key)).all()
    assert int(state.faults.sum()) == 0


# ---------------------------------------------------------------- the bound


def sequences(horizon: int, bins: int) -> Tensor:
    """Utilities [lanes, T, K] in [0, 1]: fixed sequences that are hard for learners, and random ones."""
    t, k = torch.arange(horizon).unsqueeze(-1), torch.arange(bins)
    fixed = [
        (k == 0).expand(horizon, -1),  # one bin is best
        t % bins == k,  # each in turn
        t * bins // horizon == k,  # each for a while
        (t % 2 == k % 2) | (t >= horizon // 2) & (k == 1),
        t.bitwise_xor(t >> 1) % bins == k,
    ]
    drawn = random.uniform(keys(6), (horizon, bins), dtype=torch.float64)
    return torch.cat((torch.stack([x.double() for x in fixed]), drawn, drawn.round()))


@pytest.mark.parametrize("bins", [2, 5])
@pytest.mark.parametrize("floor", [-INF, 0.0])
def test_regret_stays_below_the_bound_of_regret_matching(bins: int, floor: float) -> None:
    """With clipping, smoothing and eviction off, at every T and for every state: sum of regrets <= U sqrt(K T).

    The last lanes face an adversary that pays least for what is played most. The floor at 0 is that of regret
    matching plus, whose bound is the same (Tammelin et al. 2015, lemma 1).
    """
    horizon, states = 80, 2
    utility = sequences(horizon, bins)
    utility = torch.cat((utility, torch.zeros(2, horizon, bins, dtype=torch.float64)))
    lanes, rule = len(utility), {**PLAIN, "regret_min": floor}
    state = store(lanes, bins=bins, capacity=states)
    earned, played = torch.zeros(lanes, states, bins, dtype=torch.float64), torch.zeros(lanes, states).double()
    key = torch.tensor([3, 7]).expand(lanes, states)
    for t in range(horizon):
        probs = meta_regret_probs(state, key, smoothing_factor=0.0)
        now = torch.stack((utility[:, t], 1 - utility[:, -1 - t]), 1)
        now[-2:] = (probs[-2:] < probs[-2:].amax(-1, keepdim=True)).double()
        now[-1:] = (probs[-1:] == probs[-1:].amin(-1, keepdim=True)).double()
        state = meta_regret_step(state, key, now, evict=0, **rule)
        earned, played = earned + now, played + (probs * now).sum(-1)
        regret = earned - played.unsqueeze(-1)
        assert (regret <= math.sqrt(bins * (t + 1)) + 1e-9).all()
        if floor == -INF:
            torch.testing.assert_close(state.regret, regret, rtol=1e-9, atol=1e-9)
    uniform = earned - earned.mean(-1, keepdim=True)
    assert (uniform > math.sqrt(bins * horizon)).any()  # so the bound does say something
    assert (regret.amax(-1) > 0.5).any()


# ---------------------------------------------------------------- figures, files, forms


def test_the_figures_are_those_of_the_states() -> None:
    state = store(2, capacity=4)
    nothing = meta_regret_stats(state)
    assert all(not x.any() for x in nothing)
    for i in range(5):
        state = meta_regret_step(state, *data(i, 2, 3), evict=2)
    got = meta_regret_stats(state)
    for lane in range(2):
        states = held(MetaRegret(*(x[lane] for x in state)))
        probs = meta_regret_probs(state, state.key)[lane, : len(states)]
        assert int(got.size[lane]) == len(states)
        assert float(got.regret[lane]) == pytest.approx(torch.tensor([r for _, r, _ in states.values()]).mean().item())
        assert float(got.utility[lane]) == pytest.approx(torch.tensor([u for _, _, u in states.values()]).mean().item())
        entropy = -sum(p * math.log(p) for row in probs.tolist() for p in row) / len(states)
        assert float(got.entropy[lane]) == pytest.approx(entropy)
    assert torch.equal(got.evicted, state.evicted)
    assert torch.equal(got.updates, state.clock)
    assert (got.evicted > 0).all()


def test_a_run_that_was_split_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    whole = parts = store(2, dtype=torch.float32)
    for i in range(8):
        if i == 4:
            checkpoint.save(tmp_path, parts._asdict(), {})
            parts = MetaRegret(**checkpoint.load(tmp_path)[0])
        key, utility = data(i, 2, 5)
        whole, parts = (meta_regret_step(x, key, utility.float(), evict=3) for x in (whole, parts))
    assert (whole.evicted > 0).all()
    assert same(whole, parts)


def filled(*batch: int) -> MetaRegret:
    state = store(*batch)
    for i in range(2):
        state = meta_regret_step(state, *data(i, *batch, 5), evict=2)
    return state


FUNCTIONS = {
    "step": lambda state, key, utility: meta_regret_step(state, key[..., 0], utility[..., 0, :], evict=2),
    "steps": lambda state, key, utility: meta_regret_step(state, key, utility, valid=utility[..., 0] < 1, evict=2),
    "steps without eviction": lambda state, key, utility: meta_regret_step(state, key, utility, evict=0),
    "probs": lambda state, key, utility: (meta_regret_probs(state, key), meta_regret_probs(state, key[..., 0])),
    "stats": lambda state, key, utility: meta_regret_stats(state),
}


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree_in_every_variant(name: str, batch: tuple[int, ...], variants) -> None:
    variants(FUNCTIONS[name], filled(*batch), *data(9, *batch, 4), batch=len(batch), traced=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree_when_traced(name: str, variants) -> None:
    variants(FUNCTIONS[name], filled(3), *data(9, 3, 4), compiled=name == "steps")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_pure(name: str) -> None:
    check_pure(FUNCTIONS[name], filled(2), *data(9, 2, 4))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_lanes_at_all(name: str) -> None:
    FUNCTIONS[name](store(0), torch.zeros((0, 4), dtype=torch.int64), torch.zeros(0, 4, BINS, dtype=torch.float64))


def test_wrong_shapes_are_named() -> None:
    state, (key, utility) = store(2), data(0, 2, 4)
    for call, complaint in (
        (lambda: meta_regret_step(state, key.int(), utility), r"key must be int64 .* got torch.int32 \(2, 4\)"),
        (lambda: meta_regret_step(state, key[0], utility), r"key must have shape \(2,\), got \(4,\)"),
        (lambda: meta_regret_step(state, key, utility[..., :2]), r"utility .* \(2, 4, 3\), got \(2, 4, 2\)"),
        (lambda: meta_regret_step(state, key, utility, valid=key), r"valid must be bool \(2, 4\), got torch.int64"),
        (lambda: meta_regret_step(state, key, utility[:, 0]), r"utility must have shape \(2, 4, 3\), got \(2, 3\)"),
        (lambda: meta_regret_step(state, key[:, 0], utility), r"utility must have shape \(2, 3\), got \(2, 4, 3\)"),
        (
            lambda: meta_regret_probs(state, key[:1]),
            r"key must be int64 with lanes \(2,\), .* got torch.int64 \(1, 4\)",
        ),
        (lambda: meta_regret_init(torch.zeros(2)), "rng must be an int64 key"),
    ):
        with pytest.raises(ShapeError, match=complaint):
            call()


@pytest.mark.parametrize(
    ("tunables", "complaint"),
    [
        ({"decay": 1.5}, r"decay must be finite and in \[0.0, 1.0\], got 1.5"),
        ({"util_clip": -1.0}, "util_clip must be finite and in .* got -1.0"),
        ({"util_clip": NAN}, "util_clip .* got nan"),
        ({"regret_clip": -INF}, "regret_clip .* got -inf"),
        ({"regret_min": 0.5}, "regret_min .* got 0.5"),
        ({"initial_regret": INF}, "initial_regret .* got inf"),
        ({"smoothing_factor": -0.1}, "smoothing_factor .* got -0.1"),
        ({"evict": -1}, "evict must be an integer >= 0, got -1"),
    ],
)
def test_tunables_out_of_range_are_named(tunables: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        meta_regret_step(store(), *data(0, 4), **tunables)


def test_more_rows_than_capacity_and_empty_stores_are_refused() -> None:
    with pytest.raises(ValueError, match="key has 7 rows for a store of capacity 6"):
        meta_regret_step(store(), *data(0, 7))
    with pytest.raises(ValueError, match="capacity must be an integer >= 1, got 0"):
        store(capacity=0)
    with pytest.raises(ValueError, match="bins must be an integer >= 1, got 0"):
        store(bins=0)
