"""Utilities of mixtures: exact enumeration, what baselines must and must not do, and averages against plain loops."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.regret import (
    BINS,
    Moves,
    UtilityState,
    advantage,
    discounted_returns,
    episode_metrics,
    hybrid,
    immediate,
    meta_regret_init,
    meta_regret_probs,
    meta_regret_step,
    utility_init,
)
from armfold.core.regret.window import Window, window_init, window_mean, window_push
from armfold.shell.store import checkpoint
from tests.purity import check_pure, same_bits

NAN = math.nan
K = len(BINS)
LAM = torch.tensor(BINS, dtype=torch.float64)


def keys(*batch: int, seed: int = 0) -> Tensor:
    return random.split(random.key(seed), math.prod(batch)).reshape(*batch, 2)


def nothing(*batch: int, **windows: int) -> UtilityState:
    return utility_init(keys(*batch), dtype=torch.float64, **windows)


def plain(*batch: int) -> UtilityState:
    """Without moving averages."""
    return nothing(*batch, advantage_window=1)


def decisions(seed: int, *rows: int, actions: int = 4) -> Moves:
    """Random decisions with a mask; what is illegal holds NaN and mass that must not count."""
    k = random.split(random.key(seed), 8)
    legal = random.bernoulli(k[0], 0.7, (*rows, actions))
    legal = legal | (torch.arange(actions) == random.randint(k[1], rows, high=actions).unsqueeze(-1))
    actor, regret = (torch.softmax(random.normal(k[i], (*rows, actions), dtype=torch.float64), -1) for i in (2, 3))
    values = torch.where(legal, random.normal(k[4], (*rows, actions), dtype=torch.float64), NAN)
    action = torch.where(legal, random.uniform(k[5], (*rows, actions)), -1).argmax(-1)
    propensity = random.uniform(k[6], rows, low=0.1, high=1.0, dtype=torch.float64)
    returns = random.normal(k[7], rows, dtype=torch.float64)
    return Moves(
        actor,
        regret,
        legal=legal,
        action=action,
        propensity=propensity,
        returns=returns,
        values=torch.where(legal, values, NAN),
    )


def laws(d: Moves) -> Tensor:
    """pi_k [*rows, K, A], from the definition."""
    actor, regret = (torch.where(d.legal, p, 0) / torch.where(d.legal, p, 0).sum(-1, keepdim=True) for p in d[:2])
    lam = LAM.unsqueeze(-1)
    return lam * actor.unsqueeze(-2) + (1 - lam) * regret.unsqueeze(-2)


# ---------------------------------------------------------------- advantage


def test_advantages_are_values_of_mixtures_less_one_baseline() -> None:
    d = decisions(0, 3, 6)
    worth = (laws(d) * torch.nan_to_num(d.values).unsqueeze(-2)).sum(-1)
    _, got = advantage(plain(3), d)
    torch.testing.assert_close(got, worth - worth.mean(-1, keepdim=True))
    weights = torch.softmax(random.normal(random.key(9), (3, 6, K), dtype=torch.float64), -1)
    _, got = advantage(plain(3), d._replace(weights=weights))
    torch.testing.assert_close(got, worth - (weights * worth).sum(-1, keepdim=True))


def test_advantages_are_not_zero_and_say_which_bin_is_best() -> None:
    """A baseline of each bin's own, its mean under its own policy, makes every utility 0: the fault to avoid."""
    d = decisions(1, 50)
    probs, values = laws(d), torch.nan_to_num(d.values).unsqueeze(-2)
    own = (probs * values).sum(-1, keepdim=True)
    assert (probs * (values - own)).sum(-1).abs().max() < 1e-12
    _, got = advantage(plain(), d)
    assert (got.abs().amax(-1) > 1e-3).double().mean() > 0.9
    gap = own[..., -1, 0] - own[..., 0, 0]
    assert torch.equal(got.argmax(-1), torch.where(gap > 0, K - 1, 0))


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_advantages_are_linear_in_lambda(seed: int) -> None:
    """So no bin between the ends is ever strictly best in expectation, and a constant on all values does not matter."""
    d = decisions(seed, 4)
    _, got = advantage(plain(), d)
    slope = (got[..., -1:] - got[..., :1]) * LAM
    torch.testing.assert_close(got, got[..., :1] + slope, rtol=0, atol=1e-12)
    assert (got.mean(-1).abs() < 1e-12).all()
    _, shifted = advantage(plain(), d._replace(values=d.values + 100))
    torch.testing.assert_close(shifted, got, rtol=0, atol=1e-10)


def test_the_meta_learner_learns_from_advantages_to_play_the_better_policy() -> None:
    actor, regret = torch.tensor([[1.0, 0.0]] * 2), torch.tensor([[0.0, 1.0]] * 2)
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    state, learned, key = plain(), meta_regret_init(random.key(0)), torch.tensor([4, 9])
    for _ in range(50):
        state, utility = advantage(state, Moves(actor, regret, values=values))
        learned = meta_regret_step(learned, key, utility)
    lam = (meta_regret_probs(learned, key) * LAM).sum(-1)
    assert lam[0] > 0.85
    assert lam[1] < 0.15


# ---------------------------------------------------------------- immediate


@pytest.mark.parametrize("past", [0, 4, 5, 30])
def test_immediate_utilities_are_unbiased(past: int) -> None:
    """Their mean over the actions played, enumerated exactly, is what each bin earns less the baseline."""
    d = decisions(2, 1)
    before = random.normal(random.key(3), (past,), dtype=torch.float64) + 2
    state = plain()
    state = state._replace(returns=window_push(state.returns, before)[0])
    baseline = float(before.mean()) if past >= 5 else 0.0
    behaviour = 0.6 * laws(d)[0].mean(0) + 0.4 * d.legal[0] / d.legal[0].sum()
    earned = torch.nan_to_num(d.values[0])  # of each action, on average
    expected = torch.zeros(K, dtype=torch.float64)
    for a in range(4):
        if behaviour[a] > 0:
            for noise in (-1.0, 1.0):
                played = d._replace(
                    action=torch.tensor([a]), propensity=behaviour[a : a + 1], returns=earned[a : a + 1] + noise
                )
                expected += behaviour[a] / 2 * immediate(state, played)[1][0]
    torch.testing.assert_close(expected, (laws(d)[0] * earned).sum(-1) - baseline)


def test_the_baseline_is_of_earlier_calls_and_of_finite_returns() -> None:
    """Returns of the same call would depend on the action: a baseline of them would be biased."""
    d = decisions(4, 7)
    state, first = immediate(plain(), d)
    chance = torch.take_along_dim(laws(d), d.action[..., None, None], -1).squeeze(-1)
    torch.testing.assert_close(first, chance / d.propensity.unsqueeze(-1) * d.returns.unsqueeze(-1))
    wrong = d._replace(returns=torch.where(torch.arange(7) == 2, NAN, d.returns))
    state, second = immediate(state, wrong)
    scale = (wrong.returns - d.returns.mean()) / d.propensity
    torch.testing.assert_close(second, chance * scale.unsqueeze(-1), equal_nan=True)
    assert int(state.returns.filled) == 13
    state, _ = immediate(state, d._replace(valid=torch.arange(7) < 3))
    assert int(state.returns.filled) == 16


@pytest.mark.parametrize("wrong", ["illegal", "negative", "too large", "no propensity", "NaN propensity"])
def test_actions_that_cannot_be_played_give_nan_and_no_lesson(wrong: str) -> None:
    d = decisions(5, 1)._replace(legal=torch.tensor([[True, True, True, False]]), action=torch.tensor([0]))
    action = {"illegal": 3, "negative": -1, "too large": 4}.get(wrong, 0)
    propensity = {"no propensity": 0.0, "NaN propensity": NAN}.get(wrong, 0.5)
    d = d._replace(action=torch.tensor([action]), propensity=torch.tensor([propensity], dtype=torch.float64))
    _, utility = immediate(plain(), d)
    assert utility.isnan().all()
    learned = meta_regret_step(meta_regret_init(random.key(0)), torch.tensor([3]), utility)
    assert (int(learned.clock), int(learned.faults)) == (0, 1)


# ---------------------------------------------------------------- all of them

KINDS = {"immediate": immediate, "advantage": advantage, "hybrid": hybrid}


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 1.0])
def test_hybrid_utilities_are_the_weighted_sum(weight: float) -> None:
    first, second = decisions(6, 2, 5), decisions(7, 2, 5)
    a = b = c = nothing(2)
    for d in (first, second):
        (a, x), (b, y), (c, z) = immediate(a, d), advantage(b, d), hybrid(c, d, weight=weight)
        torch.testing.assert_close(z, weight * x + (1 - weight) * y)
    for got, want in zip(c.returns + c.advantages, a.returns + b.advantages):
        assert same_bits(got, want)


def test_half_and_half_is_what_hybrid_means_by_itself() -> None:
    d = decisions(8, 4)
    assert torch.equal(hybrid(plain(), d)[1], hybrid(plain(), d, weight=0.5)[1])
    lanes = decisions(8, 2, 4)
    _, swept = hybrid(plain(2), lanes, weight=torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(swept[0], advantage(plain(2), lanes)[1][0])
    torch.testing.assert_close(swept[1], immediate(plain(2), lanes)[1][1])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_illegal_does_not_count(kind: str) -> None:
    """Neither probabilities nor values there, NaN included; without a mask all is legal."""
    d = decisions(10, 6)
    illegal = ~d.legal
    other = d._replace(actor=d.actor + illegal, regret=torch.where(illegal, NAN, d.regret), values=d.values)
    torch.testing.assert_close(KINDS[kind](plain(), other)[1], KINDS[kind](plain(), d)[1])
    values = torch.nan_to_num(d.values)
    free = d._replace(legal=None, values=values)
    everything = d._replace(legal=torch.ones_like(d.legal), values=values)
    assert torch.equal(KINDS[kind](plain(), free)[1], KINDS[kind](plain(), everything)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_cannot_be_used_is_nan_and_alone(kind: str) -> None:
    d = decisions(11, 5)
    row = (torch.arange(5) == 2).unsqueeze(-1)
    for name in ("actor", "legal"):
        bad = torch.where(row, NAN, d.actor) if name == "actor" else d.legal & ~row
        state, utility = KINDS[kind](nothing(), d._replace(**{name: bad}))
        assert utility.isnan().all(-1).tolist() == [False, False, True, False, False]
        assert not utility[[0, 1, 3, 4]].isnan().any()
        assert torch.isfinite(state.advantages.recent).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bins", [(0.0, 1.0), (0.5,), (0.1, 0.2, 0.7)])
def test_bins_may_be_others_and_differ_by_lane(kind: str, bins: tuple[float, ...]) -> None:
    d, state = decisions(12, 2, 3), nothing(2, bins=len(bins))
    values = torch.tensor(bins, dtype=torch.float64)
    _, want = KINDS[kind](state, d, bins=bins)
    assert want.shape == (2, 3, len(bins))
    _, got = KINDS[kind](state, d, bins=torch.stack((values, values / 2)))
    _, half = KINDS[kind](state, d, bins=values / 2)
    assert torch.equal(got, torch.stack((want[0], half[1])))


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_utilities_agree_in_every_variant(kind: str, batch: tuple[int, ...], variants) -> None:
    state, _ = hybrid(nothing(*batch, advantage_window=3), decisions(13, *batch, 6))
    variants(KINDS[kind], state, decisions(14, *batch, 4), batch=len(batch), traced=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_utilities_agree_when_traced(kind: str, variants) -> None:
    state, _ = hybrid(nothing(3, advantage_window=3), decisions(13, 3, 6))
    variants(KINDS[kind], state, decisions(14, 3, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_utilities_are_pure_and_need_no_rows(kind: str) -> None:
    check_pure(KINDS[kind], nothing(2), decisions(15, 2, 3))
    state, utility = KINDS[kind](nothing(2), decisions(15, 2, 0))
    assert utility.shape == (2, 0, K)
    assert all(same_bits(a, b) for a, b in zip(state.returns + state.advantages, sum(nothing(2), ())))
    assert KINDS[kind](nothing(0), decisions(15, 0, 3))[1].shape == (0, 3, K)


# ---------------------------------------------------------------- windows


@settings(max_examples=15)
@given(st.integers(1, 5), st.lists(st.lists(st.sampled_from([1.0, 2.5, -4.0, NAN, math.inf, 0.125]), max_size=7)))
def test_windows_hold_the_last_values(window: int, calls: list[list[float]]) -> None:
    state, kept, taken = window_init(keys(2), 2, window=window, dtype=torch.float64), [], 0
    mean = 0.0
    for call in calls:
        value = torch.tensor(call, dtype=torch.float64)[:, None] * torch.tensor([1.0, -2.0])
        state, means = window_push(state, torch.stack((value, torch.zeros_like(value))))
        for x, got in zip(call, means[0].tolist()):
            kept = (kept + [x] * math.isfinite(x))[-window:]
            mean = sum(kept) / max(len(kept), 1)
            assert got == pytest.approx([mean, -2 * mean], abs=1e-12)
        taken += len(call)
        assert state.filled.tolist() == [len(kept), min(taken, window)]
        assert state.recent[0, window - len(kept) :, 0].tolist() == kept
        assert window_mean(state)[0].tolist() == pytest.approx([mean, -2 * mean], abs=1e-12)


def test_a_mean_of_too_few_values_is_zero() -> None:
    state, _ = window_push(window_init(random.key(0), window=9), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert float(window_mean(state, min_samples=4)) == 2.5
    assert float(window_mean(state, min_samples=5)) == 0


def test_advantages_are_averaged_over_the_window() -> None:
    """In one call or in several, to rounding; and bit for bit after a checkpoint between two."""
    d = decisions(16, 2, 25)
    _, each = advantage(plain(2), d)
    state, got = advantage(nothing(2), d)
    want = torch.stack([each[:, max(0, i - 9) : i + 1].mean(1) for i in range(25)], 1)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    parts, halves = nothing(2), []
    for rows in (slice(0, 7), slice(7, 25)):
        parts, utility = advantage(parts, Moves(*(None if x is None else x[:, rows] for x in d)))
        halves.append(utility)
    torch.testing.assert_close(torch.cat(halves, 1), got, rtol=0, atol=1e-12)
    assert all(same_bits(a, b) for a, b in zip(parts.advantages, state.advantages))


def test_split_runs_go_on_to_the_last_bit(tmp_path: Path) -> None:
    whole = parts = nothing(2)
    for i in range(4):
        if i == 2:
            tensors = {f"{name}.{k}": v for name, w in parts._asdict().items() for k, v in w._asdict().items()}
            checkpoint.save(tmp_path, tensors, {})
            loaded = checkpoint.load(tmp_path)[0]
            parts = UtilityState(*(Window(loaded[f"{n}.recent"], loaded[f"{n}.filled"]) for n in UtilityState._fields))
        d = decisions(i, 2, 6)
        (whole, x), (parts, y) = hybrid(whole, d), hybrid(parts, d)
        assert same_bits(x, y)


# ---------------------------------------------------------------- returns and episodes


@settings(max_examples=15)
@given(st.integers(0, 17), st.sampled_from([0.0, 0.5, 0.99, 1.0]), st.integers(0, 10**6))
def test_returns_are_discounted_sums(horizon: int, gamma: float, seed: int) -> None:
    reward = random.normal(random.key(seed), (horizon,), dtype=torch.float64)
    ended = random.bernoulli(random.key(seed + 1), 0.3, (horizon,))
    for ends in (None, ended):
        want, later = [0.0] * horizon, 0.0
        for t in reversed(range(horizon)):
            later = float(reward[t]) + gamma * (0.0 if ends is not None and ends[t] else later)
            want[t] = later
        assert discounted_returns(reward, gamma=gamma, ended=ends).tolist() == pytest.approx(want, abs=1e-12)


def test_what_comes_after_an_episode_does_not_matter_even_if_it_is_nan(variants) -> None:
    reward = torch.tensor([[1.0, 2.0, NAN, 4.0], [1.0, 1.0, 1.0, 1.0]])
    ended = torch.tensor([[False, True, False, True], [False, False, False, False]])
    gamma = torch.tensor([0.5, 0.1])
    got = variants(lambda r, g, e: discounted_returns(r, gamma=g, ended=e), reward, gamma, ended, traced=False)
    torch.testing.assert_close(got, torch.tensor([[2.0, 2.0, NAN, 4.0], [1.111, 1.11, 1.1, 1.0]]), equal_nan=True)
    check_pure(lambda r, e: discounted_returns(r, ended=e), reward, ended)


def test_episode_metrics_are_those_of_numpy(variants) -> None:
    k = random.split(random.key(0), 4)
    reward, lam = (random.uniform(key, (2, 3, 6), dtype=torch.float64) for key in k[:2])
    policy = torch.softmax(random.normal(k[2], (2, 3, 6, 4), dtype=torch.float64), -1)
    length = random.randint(k[3], (2, 3), low=1, high=7)
    valid = torch.arange(6) < length.unsqueeze(-1)
    dirty = torch.where(valid, reward, NAN), torch.where(valid, lam, NAN), policy, valid
    got = variants(lambda r, p, q, v: episode_metrics(r, p, q, valid=v), *dirty, batch=1, traced=False)
    for lane in range(2):
        mask = valid[lane].numpy()
        p = policy[lane].numpy()[mask]
        chosen = lam[lane].numpy()[mask]
        assert float(got.returns[lane]) == pytest.approx(reward[lane].numpy()[mask].sum() / 3)
        assert float(got.length[lane]) == pytest.approx(mask.sum() / 3)
        assert float(got.lam_mean[lane]) == pytest.approx(chosen.mean())
        assert float(got.lam_std[lane]) == pytest.approx(chosen.std())
        assert float(got.entropy[lane]) == pytest.approx(-(p * np.log(p)).sum(-1).mean())
    check_pure(lambda *x: episode_metrics(*x[:3], valid=x[3]), *dirty)
    assert float(episode_metrics(reward, lam, policy).length[0]) == 6


# ---------------------------------------------------------------- bad input


def test_wrong_shapes_are_named() -> None:
    d, state = decisions(17, 2, 3), nothing(2)
    for call, complaint in (
        (lambda: advantage(state, d._replace(regret=d.regret[..., :2])), r"regret must have shape \(2, 3, 4\), got"),
        (lambda: advantage(state, d._replace(values=d.values[:, :1])), r"values must have shape \(2, 3, 4\), got"),
        (lambda: advantage(state, d._replace(weights=d.actor)), r"weights must have shape \(2, 3, 5\), got"),
        (lambda: advantage(nothing(3), d), r"actor must have shape \(3, 3, 4\), got \(2, 3, 4\)"),
        (lambda: advantage(nothing(), d), r"actor must have shape \('n', 'A'\), got \(2, 3, 4\)"),
        (lambda: advantage(state, d._replace(actor=d.action)), r"actor must be floating of shape \(\*B, A\), got"),
        (lambda: advantage(state, d._replace(legal=d.values)), r"legal must have dtype torch.bool, got torch.float64"),
        (lambda: advantage(state, d, bins=(0.0, 1.0)), r"bins must have shape \(5,\), got \(2,\)"),
        (lambda: immediate(state, d._replace(action=d.action[:1])), r"action must have shape \(2, 3\), got \(1, 3\)"),
        (lambda: hybrid(state, d._replace(valid=d.legal)), r"valid must have shape \(2, 3\), got \(2, 3, 4\)"),
        (lambda: window_push(state.returns, d.values), r"value must have shape \(2, 3\), got \(2, 3, 4\)"),
        (lambda: window_push(state.returns, d.returns, d.legal), r"valid must have shape \(2, 3\)"),
        (lambda: discounted_returns(d.returns, ended=d.legal), r"ended must have shape \(2, 3\), got \(2, 3, 4\)"),
        (lambda: episode_metrics(d.returns[0], d.returns, d.actor), r"reward must have shape \(2, 3\), got \(3,\)"),
        (lambda: episode_metrics(d.returns, d.returns, d.actor[0]), r"policy must have shape \(\*B, E, T, A\)"),
    ):
        with pytest.raises(ShapeError, match=complaint):
            call()


def test_what_is_missing_or_out_of_range_is_named() -> None:
    d, state = decisions(18, 3), nothing()
    for name, kind in (
        ("values", advantage),
        ("action", immediate),
        ("propensity", immediate),
        ("returns", hybrid),
        ("values", hybrid),
    ):
        with pytest.raises(ValueError, match=f"moves must have {name} for this utility, got None"):
            kind(state, d._replace(**{name: None}))
    for call, complaint in (
        (lambda: advantage(state, d, bins=(0.0, 0.5, 0.4, 0.8, 1.0)), "bins must be sorted"),
        (lambda: advantage(state, d, bins=(0.0, 0.5, 0.7, 0.8, 1.1)), r"bins must be .* in \[0, 1\].* got .*1.1"),
        (lambda: hybrid(state, d, weight=1.5), r"weight must be finite and in \[0.0, 1.0\], got 1.5"),
        (lambda: immediate(state, d, min_samples=0), "min_samples must be an integer >= 1, got 0"),
        (lambda: discounted_returns(d.returns, gamma=1.1), r"gamma must be finite and in \[0.0, 1.0\], got 1.1"),
        (lambda: nothing(baseline_window=0), "window must be an integer >= 1, got 0"),
    ):
        with pytest.raises(ValueError, match=complaint):
            call()
