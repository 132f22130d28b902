"""Distances against exact fractions; episodes against one lane at a time in plain Python."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.pixels import GoalState, check_goal_frame, goal_distance, goal_init, goal_restart, goal_step
from tests.purity import check_pure, same_bits

SHAPES = st.sampled_from([(), (1,), (4,), (2, 2), (0,)])
SEEDS = st.integers(0, 10**6)


def frames(seed: int, *shape: int, shades: int = 4) -> Tensor:
    return random.randint(random.key(seed), shape, high=shades).to(torch.uint8)


def distances(seed: int, *batch: int) -> Tensor:
    """A few values only, so that streaks come about; one of them is the threshold itself."""
    values = torch.tensor([0.0, 0.01, 0.05, 0.4])
    return values[random.randint(random.key(seed), batch, high=4)]


# ---------------------------------------------------------------- distance


@given(SHAPES, st.integers(1, 4), st.integers(1, 5), SEEDS, st.sampled_from([4, 256]), st.booleans())
def test_distance_is_the_exact_mean(
    batch: tuple[int, ...], h: int, w: int, seed: int, shades: int, alone: bool
) -> None:
    frame = frames(seed, *batch, h, w, shades=shades)
    goal = frames(seed + 1, *(batch * (not alone)), h, w, shades=shades)
    got = goal_distance(frame, goal)
    total = np.abs(frame.numpy().astype(np.int64) - goal.numpy().astype(np.int64)).sum((-2, -1))
    want = [float(np.float32(float(Fraction(int(x), 3 * h * w)))) for x in total.reshape(-1)]
    assert (got.dtype, got.shape) == (torch.float32, batch)
    assert got.reshape(-1).tolist() == want


def test_distance_does_not_wrap() -> None:
    white, black = torch.zeros(2, 72, 80, dtype=torch.uint8), torch.full((72, 80), 3, dtype=torch.uint8)
    assert goal_distance(white, black).tolist() == [1.0, 1.0]
    assert goal_distance(black, white[0]).item() == 1
    assert goal_distance(white, white[0]).tolist() == [0.0, 0.0]
    assert goal_distance(torch.full((72, 80), 255, dtype=torch.uint8), white[0]).item() == 85


def test_distance_is_the_same_however_a_device_divides() -> None:
    """Every total that a 72 x 80 frame can have: a multiplication by the reciprocal rounds to the same float32."""
    total = torch.arange(3 * 72 * 80 + 1, dtype=torch.float64)
    assert torch.equal((total / 17280).float(), (total * (1 / torch.tensor(17280.0).double())).float())


def test_distance_does_not_depend_on_strides() -> None:
    frame, goal = frames(0, 5, 8, 12), frames(1, 8, 12)
    moved = frame.movedim(0, -1).contiguous().movedim(-1, 0)
    assert same_bits(goal_distance(moved, goal.T.contiguous().T), goal_distance(frame, goal))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_distance_is_that_of_the_cpu_on_a_gpu() -> None:
    frame, goal = frames(0, 512, 72, 80), frames(1, 72, 80)
    want = goal_distance(frame, goal)
    assert torch.equal(goal_distance(frame.cuda(), goal.cuda()).cpu(), want)
    compiled = torch.compile(goal_distance, fullgraph=True)
    assert torch.equal(compiled(frame.cuda(), goal.cuda()).cpu(), want)


# ---------------------------------------------------------------- steps


class Lane:
    """One lane, in the order in which the rule is told."""

    def __init__(self, dist: float) -> None:
        self.restart(dist)

    def restart(self, dist: float) -> None:
        self.prev, self.streak, self.steps = dist, 0, 0

    def step(self, dist: float, knobs: dict[str, float]) -> tuple[float, bool, bool]:
        self.steps += 1
        self.streak = self.streak + 1 if dist < knobs["tau"] else 0
        done = self.streak >= knobs["k"]
        reward = knobs["step_penalty"] + knobs["alpha"] * (self.prev - dist) + (knobs["goal_reward"] if done else 0)
        self.prev = dist
        return reward, done, self.steps >= knobs["max_steps"] and not done


@settings(max_examples=20)
@given(SHAPES, SEEDS, st.integers(1, 3), st.integers(1, 6), st.booleans())
def test_episodes_are_those_of_one_lane_at_a_time(
    batch: tuple[int, ...], seed: int, k: int, max_steps: int, restarts: bool
) -> None:
    """prev_dist is right on every path: ends, cuts, lanes that go on, and ended lanes that nobody starts again."""
    tau = float(np.float32(0.05))  # as a float32 distance meets it
    knobs = {"tau": tau, "k": k, "alpha": 2.0, "step_penalty": -0.01, "goal_reward": 10.0, "max_steps": max_steps}
    first = distances(seed, *batch)
    state, lanes = goal_init(first), [Lane(x) for x in first.double().reshape(-1).tolist()]
    for t in range(1, 10):
        dist, start = distances(seed + t, *batch), distances(seed - t, *batch)
        state, outcome = goal_step(state, dist, **knobs)
        want = [lane.step(x, knobs) for lane, x in zip(lanes, dist.double().reshape(-1).tolist(), strict=True)]
        reward = torch.tensor([row[0] for row in want], dtype=torch.float64).reshape(batch)
        torch.testing.assert_close(outcome.reward.double(), reward, rtol=1e-6, atol=1e-6)
        assert outcome.reward.dtype == torch.float32
        assert outcome.terminated.reshape(-1).tolist() == [row[1] for row in want]
        assert outcome.truncated.reshape(-1).tolist() == [row[2] for row in want]
        assert outcome.dist is dist
        if restarts:
            ended = outcome.terminated | outcome.truncated
            state = goal_restart(state, start, ended)
            for lane, x, begin in zip(lanes, start.double().reshape(-1).tolist(), ended.reshape(-1).tolist()):
                if begin:
                    lane.restart(x)
        for got, name in zip(state, ("prev", "streak", "steps"), strict=True):
            assert got.reshape(-1).tolist() == [getattr(lane, name) for lane in lanes], name


def test_defaults_are_those_of_the_goal_environment() -> None:
    state, seen = goal_init(torch.tensor(0.5)), []
    for dist in (0.25, 0.04, 0.05, 0.04, 0.03, 0.02, 0.01):
        state, outcome = goal_step(state, torch.tensor(dist))
        seen.append((round(outcome.reward.item(), 5), outcome.terminated.item()))
    rewards = (0.24, 0.2, -0.02, 0.0, 0.0, 0.0, 10.0)
    assert seen == [(reward, reward == 10) for reward in rewards]
    assert not goal_step(state._replace(steps=state.steps + 10**6), torch.tensor(1.0), max_steps=None)[1].truncated
    assert goal_step(state._replace(steps=torch.tensor(511)), torch.tensor(1.0))[1].truncated


def test_the_goal_on_the_last_step_is_no_cut() -> None:
    state = GoalState(torch.zeros(2), torch.tensor([3, 2]), torch.tensor([511, 511]))
    _, outcome = goal_step(state, torch.zeros(2))
    assert outcome.terminated.tolist() == [True, False]
    assert outcome.truncated.tolist() == [False, True]


def test_a_distance_that_is_not_known_is_told_and_forgotten() -> None:
    state = GoalState(torch.tensor([0.3]), torch.tensor([2]), torch.tensor([7]))
    state, outcome = goal_step(state, torch.tensor([math.nan]))
    assert outcome.reward.isnan().all()
    assert [x.tolist() for x in state] == [[pytest.approx(0.3)], [0], [8]]
    assert not (outcome.terminated | outcome.truncated).any()
    assert goal_step(state, torch.tensor([0.1]))[1].reward.item() == pytest.approx(0.19)


@settings(max_examples=10)
@given(SEEDS)
def test_tunables_may_differ_by_lane(seed: int) -> None:
    state, dist = goal_init(distances(seed, 4)), distances(seed + 1, 4)
    knobs = {name: random.uniform(random.key(seed + i), (4,)) for i, name in enumerate(FLOATS)}
    both, outcome = goal_step(state, dist, k=1, **{name: x.double() for name, x in knobs.items()})
    for i in range(4):
        alone = GoalState(*(x[i] for x in state))
        one, single = goal_step(alone, dist[i], k=1, **{name: x[i].item() for name, x in knobs.items()})
        assert [x[i] for x in both] == list(one)
        assert [x[i] for x in outcome] == [x if x.dtype == torch.bool else pytest.approx(x.item()) for x in single]


# ---------------------------------------------------------------- ways to run them

FLOATS = ("tau", "alpha", "step_penalty", "goal_reward")


def functions(state: GoalState, dist: Tensor, ended: Tensor, tau: Tensor, frame: Tensor, goal: Tensor) -> tuple:
    moved = goal_step(state, dist, tau=tau, k=1, max_steps=3)
    return goal_distance(frame, goal), goal_init(dist), moved, goal_restart(moved[0], tau, ended)


def inputs(*batch: int) -> tuple:
    steps = torch.arange(math.prod(batch)).reshape(batch)
    state = GoalState(distances(0, *batch), steps, steps)
    ended = random.bernoulli(random.key(2), 0.5, batch)
    return state, distances(1, *batch), ended, distances(3, *batch), frames(4, *batch, 4, 6), frames(5, *batch, 4, 6)


@pytest.mark.parametrize(
    "batch", [(3,), pytest.param((), marks=pytest.mark.slow), pytest.param((2, 2), marks=pytest.mark.slow)]
)
def test_functions_agree_in_every_variant(batch: tuple[int, ...], variants) -> None:
    variants(functions, *inputs(*batch), batch=len(batch), traced=batch == (3,))


def test_one_goal_serves_all_lanes(variants) -> None:
    goal = frames(9, 4, 6)
    variants(lambda frame: goal_distance(frame, goal), frames(4, 3, 4, 6), exact=True, traced=False)


@pytest.mark.slow
def test_functions_agree_when_compiled(variants) -> None:
    variants(functions, *inputs(3), compiled=True)
    goal = frames(9, 72, 80)
    variants(lambda frame: goal_distance(frame, goal), frames(4, 64, 72, 80), exact=True, compiled=True)


def test_functions_are_pure() -> None:
    check_pure(functions, *inputs(3))


def test_wrong_arguments_are_named() -> None:
    state, dist, ended, _, frame, goal = inputs(2)
    for call, complaint in (
        (lambda: goal_distance(frame, goal[:1]), r"goal must have shape \(2, 4, 6\), got \(1, 4, 6\)"),
        (lambda: goal_distance(frame, goal[0, :2]), r"goal must have shape \(4, 6\), got \(2, 6\)"),
        (lambda: goal_distance(frame.int(), goal), r"frame must be uint8 of shape \(\*B, H, W\), got torch.int32"),
        (lambda: goal_distance(frame[:, :0], goal[:, :0]), r"frame must have H and W >= 1, got \(2, 0, 6\)"),
        (lambda: check_goal_frame("frame", frame), r"frame must have shape \(4, 6\), got \(2, 4, 6\)"),
        (lambda: check_goal_frame("frame", frame[0], (72, 80)), r"frame must have shape \(72, 80\), got \(4, 6\)"),
        (lambda: goal_distance(frame, goal.float()), r"goal must be uint8 of shape \(\*B, H, W\), got torch.float32"),
        (lambda: goal_init(dist.long()), r"dist must be floating, got torch.int64"),
        (lambda: goal_step(state, dist[:1]), r"dist must have shape \(2,\), got \(1,\)"),
        (lambda: goal_step(state, dist.double()), r"dist must be torch.float32, got torch.float64"),
        (lambda: goal_step(state, dist, tau=torch.ones(3)), r"tau must have shape \(2,\), got \(3,\)"),
        (
            lambda: goal_step(state, dist, alpha=torch.ones(2).int()),
            r"alpha must be a floating tensor, got",
        ),
        (lambda: goal_restart(state, dist, ended.long()), r"mask must have dtype torch.bool, got torch.int64"),
        (lambda: goal_restart(state, dist[0], ended), r"start_dist must have shape \(2,\), got \(\)"),
    ):
        with pytest.raises(ShapeError, match=complaint):
            call()
    with pytest.raises(ValueError, match=r"frame must lie in \[0, 3\], got 4"):
        check_goal_frame("frame", frame[0] + 4)
    with pytest.raises(TypeError, match="frame must be a tensor, got ndarray"):
        check_goal_frame("frame", frame[0].numpy())
    for knobs, complaint in (
        ({"k": 0}, "k must be an integer >= 1, got 0"),
        ({"max_steps": 0}, "max_steps must be an integer >= 1, got 0"),
        ({"tau": math.nan}, "tau must be finite .* got nan"),
        ({"goal_reward": math.inf}, "goal_reward must be finite .* got inf"),
    ):
        with pytest.raises(ValueError, match=complaint):
            goal_step(state, dist, **knobs)
