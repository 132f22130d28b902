"""Pixel environments against a model in plain Python and NumPy, on a toy machine; and on a real one."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.pixels import FullInfo, StatsInfo, choose_start, downsample, goal_distance
from armfold.shell.backends.gameboy import GameBoy
from armfold.shell.backends.gameboy.machine import MemoryLayout
from armfold.shell.envs.pixel_tasks import goal_task
from armfold.shell.envs.pixels import GoalEnv, MemoryReward, PixelsEnv, TaskEnv
from armfold.shell.envs.reset_cache import ResetCache, load_starts
from tests.purity import same_bits
from tests.shell.helpers import allocations
from tests.shell.toy import BREAK, LAST, LEFT, REST, RIGHT, State, Toy, bar

N = 5
GOAL = 6  # the length of the bar that is looked for
LIMIT = 7  # steps of an episode


def keys(lanes: int = N, seed: int = 0) -> Tensor:
    return random.split(random.key(seed), lanes)


def plays(steps: int, lanes: int = N, high: int = 3, seed: int = 7) -> Tensor:
    """Actions [steps, lanes], of which the first three stop no lane; lane i's do not depend on how many there are."""
    return random.randint(random.key(seed), (steps, 64), high=high)[:, :lanes]


def starts(*places: int) -> State:
    """A snapshot of each place, as somebody would capture it who had walked there."""
    toy = Toy(num_envs=len(places))
    for _ in range(LAST):
        toy.step(torch.where(toy.state.place < torch.tensor(places), RIGHT, REST))
    return toy.snapshot()


def goal_env(lanes: int = N, **options: Any) -> GoalEnv:
    settings = {"k": 2, "max_steps": LIMIT, "compile": "off", "starts": starts(3, 9, 5), **options}
    draw = settings.pop("draw", "half")
    return GoalEnv(Toy(num_envs=lanes, draw=draw), settings.pop("goal", bar(GOAL)), **settings)


def number_env(lanes: int = N, **options: Any) -> PixelsEnv:
    settings = {"reward": MemoryReward(0, 2), "max_steps": LIMIT, "compile": "off", "starts": starts(3, 9), **options}
    return PixelsEnv(Toy(num_envs=lanes), **settings)


def copied(tree: Any) -> Any:
    return pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, tree)


def equal(left: Any, right: Any) -> bool:
    """Bit for bit."""
    return all(same_bits(*pair) for pair in zip(pytree.tree_leaves(left), pytree.tree_leaves(right), strict=True))


def without_final(step: Any) -> Any:
    """A step without what means nothing where no lane has ended."""
    *outcome, info = step
    return [*outcome, info._replace(final_obs=None)]


class Walker:
    """A lane of `goal_env` in plain Python."""

    def __init__(self, key: Tensor, places: tuple[int, ...], stack_k: int) -> None:
        self.key, self.places, self.stack_k, self.episode = key, places, stack_k, -1
        self.begin()

    def begin(self) -> None:
        self.episode += 1
        self.place = self.places[int(choose_start(random.fold_in(self.key, self.episode), starts=len(self.places)))]
        self.frames = [bar(self.place).numpy()] * self.stack_k
        self.before, self.streak, self.steps, self.stopped = self.dist(), 0, 0, False

    def dist(self) -> np.float32:
        apart = self.frames[-1].astype(float) - bar(GOAL).numpy()
        return np.float32(np.abs(apart).mean() / 3)

    def step(self, action: int) -> tuple[np.float32, bool, bool, np.float32, bool]:
        self.stopped |= action == BREAK
        move = 0 if self.stopped else {LEFT: -1, RIGHT: 1}.get(action, 0)
        self.place = min(max(self.place + move, 0), LAST)
        self.frames = [*self.frames[1:], bar(self.place).numpy()]
        self.steps += 1
        dist = self.dist()
        self.streak = self.streak + 1 if dist < 0.05 else 0
        done = self.streak >= 2
        reward = np.float32(-0.01) + (self.before - dist) + np.float32(10 * done)
        self.before = dist
        return reward, done, not done and (self.steps >= LIMIT or self.stopped), dist, self.stopped


@pytest.mark.parametrize(("stack_k", "skip"), [(1, False), (2, True), (4, False)])
def test_every_lane_is_a_walker(stack_k: int, skip: bool) -> None:
    """Stacks, final observations, starts by key, rewards, ends and faults, over many episodes of every lane."""
    places = (3, 9, 5)
    env = goal_env(stack_k=stack_k, skip_reset_if_empty=skip)
    obs, info = env.reset(keys())
    walkers = [Walker(key, places, stack_k) for key in keys()]
    ends = np.zeros(3, int)
    for action in plays(40, high=40).clamp(max=41).apply_(lambda x: x % 3 if x < 39 else BREAK):
        np.testing.assert_array_equal(obs, [walker.frames for walker in walkers])
        obs, reward, terminated, truncated, info = env.step(action)
        assert info.final_obs is not None
        wanted = [walker.step(one) for walker, one in zip(walkers, action.tolist(), strict=True)]
        paid, done, cut, dist, faults = (np.array(x) for x in zip(*wanted, strict=True))
        np.testing.assert_allclose(reward, paid, rtol=0, atol=1e-6)
        assert [terminated.tolist(), truncated.tolist()] == [done.tolist(), cut.tolist()]
        assert isinstance(info.metrics, FullInfo)
        assert info.metrics.dist is not None
        np.testing.assert_array_equal(info.metrics.dist, dist)
        assert info.metrics.reset_mask.tolist() == (done | cut).tolist()
        assert info.faults.tolist() == faults.tolist()
        for lane in np.flatnonzero(done | cut):
            np.testing.assert_array_equal(info.final_obs[lane], walkers[lane].frames)
            walkers[lane].begin()
        ends += [done.sum(), (cut & ~faults).sum(), faults.sum()]
    assert ends.min() >= 3, ends
    assert min(walker.episode for walker in walkers) >= 4


@pytest.mark.parametrize("draw", ["half", "full"])
@pytest.mark.parametrize("stack_k", [1, 4])
def test_the_newest_frame_is_what_the_backend_drew(stack_k: int, draw: str) -> None:
    env = PixelsEnv(Toy(num_envs=N, draw=draw), stack_k=stack_k, max_steps=3, compile="off")
    obs, _ = env.reset(keys())
    for action in plays(7):
        assert obs.shape == (N, stack_k, 72, 80)
        screen = env.backend.screen
        assert torch.equal(obs[:, stack_k - 1], downsample(screen) if draw == "full" else screen)
        assert torch.equal(obs[:, -1], env.pixels)
        obs, *_ = env.step(action)


# Resets


@pytest.mark.parametrize("limit", [1, 4, 1000])
@pytest.mark.parametrize("make", [goal_env, number_env])
def test_asking_first_whether_anybody_ended_changes_nothing(make: Callable[..., TaskEnv], limit: int) -> None:
    """Also where every lane ends at every step, and where none ever does."""
    envs = [make(max_steps=limit, skip_reset_if_empty=skip) for skip in (False, True)]
    first = [env.reset(keys()) for env in envs]
    assert equal(*(without_final(x) for x in first))
    ends = 0
    for action in plays(12):
        steps = [env.step(action) for env in envs]
        assert equal(*map(without_final, steps))
        ended = steps[0][2] | steps[0][3]
        assert equal(*(step[4].final_obs[ended] for step in steps))
        assert equal(*(env.snapshot() for env in envs))
        assert not ended.any() or limit < 1000 or steps[0][2].any()
        ends += bool(ended.any())
    always, asked = (env.backend.resets for env in envs)  # type: ignore[attr-defined]
    assert (always, asked) == (13, 1 + ends)


def test_lanes_that_end_at_every_step_are_paid_from_their_start() -> None:
    env = goal_env(max_steps=1, alpha=8.0, starts=starts(3))
    env.reset(keys())
    near, far = (goal_distance(bar(place), bar(GOAL)) for place in (4, 3))
    for _ in range(3):
        _, reward, _, truncated, info = env.step(torch.full((N,), RIGHT))
        assert truncated.all()
        assert reward.tolist() == [pytest.approx(-0.01 + 8 * float(far - near))] * N
        assert info.metrics.dist.tolist() == [near] * N
        assert env.state.prev_dist.tolist() == [far] * N


def test_every_path_leaves_the_distance_of_the_frame_now_seen() -> None:
    """From which the next step is paid: after a reset, a step, an end, a fault, a restart by hand and a restored
    snapshot, also where nothing starts again by itself, and whether the host asks first."""
    for options in ({}, {"skip_reset_if_empty": True}, {"autoreset": False}):
        env = goal_env(**options)

        def check(env: GoalEnv = env) -> None:
            assert torch.equal(env.state.prev_dist, goal_distance(env.pixels, bar(GOAL)))

        env.reset(keys())
        check()
        for action in plays(3 * LIMIT, high=4):
            env.step(action)
            check()
        taken = env.snapshot()
        env.restart(torch.tensor([True, False, True, False, False]))
        check()
        env.step(plays(1)[0])
        env.restore(taken)
        check()


def test_a_start_is_chosen_by_its_lane_alone() -> None:
    many, one = goal_env(), goal_env(1)
    for lane in (0, 3):
        obs, single = many.reset(keys())[0], one.reset(keys()[lane : lane + 1])[0]
        for action in plays(12):
            assert torch.equal(obs[lane], single[0])
            obs, reward, *_ = many.step(action)
            single, alone, *_ = one.step(action[lane : lane + 1])
            assert reward[lane] == alone[0]


def test_some_lanes_may_start_again() -> None:
    env = goal_env(stack_k=1)
    env.reset(keys())
    for action in plays(3):
        kept = env.step(action)[0]
    before, mask = kept.clone(), torch.tensor([True, False, True, False, False])
    obs, info = env.restart(mask)
    assert torch.equal(kept, before), "what the last step returned"
    assert torch.equal(obs[~mask], before[~mask])
    choice = choose_start(random.fold_in(keys(), 1), starts=3)
    for lane in (0, 2):
        assert torch.equal(obs[lane, 0], bar((3, 9, 5)[choice[lane]]))
        assert torch.equal(info.final_obs[lane], before[lane])
    assert info.metrics.reset_mask.tolist() == mask.tolist()
    assert env.state.steps.tolist() == [0, 3, 0, 3, 3]


def test_without_autoreset_what_ended_stays() -> None:
    env = goal_env(autoreset=False, max_steps=2, goal=bar(0))
    env.reset(keys())
    env.step(torch.full((N,), RIGHT))
    obs, _, _, truncated, _ = env.step(torch.full((N,), RIGHT))
    assert truncated.all()
    place = env.backend.state.place.clone()
    assert torch.equal(obs[:, -1], torch.stack([bar(int(x)) for x in place]))
    assert env.backend.resets == 1  # type: ignore[attr-defined]
    env.restart(truncated)
    assert env.state.steps.tolist() == [0] * N


def test_without_autoreset_lanes_stay_as_they_ended() -> None:
    """At the goal, cut off, or stopped, whatever comes then: they are paid once, until they are started again; also on
    from a snapshot."""
    env = goal_env(4, autoreset=False, max_steps=3, goal=bar(3), starts=starts(3), k=1)
    env.reset(keys(4))
    for actions, done, cut, paid in (
        ((REST, RIGHT, RIGHT, RIGHT), (1, 0, 0, 0), (0, 0, 0, 0), (1, 1, 1, 1)),
        ((RIGHT, RIGHT, BREAK, LEFT), (1, 0, 0, 1), (0, 0, 1, 0), (0, 1, 1, 1)),
        ((RIGHT, RIGHT, RIGHT, RIGHT), (1, 0, 0, 1), (0, 1, 1, 0), (0, 1, 0, 0)),
        ((LEFT, LEFT, LEFT, LEFT), (1, 0, 0, 1), (0, 1, 1, 0), (0, 0, 0, 0)),
    ):
        obs, reward, *ends, info = env.step(torch.tensor(actions))
        assert [x.int().tolist() for x in (*ends, reward != 0)] == [list(x) for x in (done, cut, paid)]
        assert info.metrics.reset_mask.tolist() == (ends[0] | ends[1]).tolist()
        env.restore(env.snapshot())
    assert torch.equal(obs[0, -1], bar(4)), "the machine goes on"
    env.restart(torch.tensor([True, False, True, False]))
    _, reward, *ends, _ = env.step(torch.full((4,), REST))
    assert reward.tolist() == pytest.approx([9.99, 0, 9.99, 0])
    assert [x.int().tolist() for x in ends] == [[1, 0, 1, 1], [0, 1, 0, 0]]


def test_the_goal_is_a_copy() -> None:
    """It may be a live screen, which would then always be the goal."""
    live = bar(GOAL)
    env = goal_env(goal=live)
    live.zero_()
    env.reset(keys())
    assert torch.equal(env.step(plays(1)[0])[4].metrics.dist, goal_distance(env.pixels, bar(GOAL)))


def test_what_a_step_returned_outlives_one_more_step() -> None:
    env = goal_env()
    env.reset(keys())
    last = env.step(plays(1)[0])
    for action in plays(10):
        before = copied(last)
        step = env.step(action)
        assert equal(last, before)
        last = step


@pytest.mark.parametrize("make", [goal_env, number_env])
@pytest.mark.parametrize("stack_k", [1, 3])
def test_snapshots_play_on_bit_for_bit(stack_k: int, make: Callable[..., TaskEnv]) -> None:
    """In the same environment, and in another one that was never reset."""
    env, other, actions = make(stack_k=stack_k), make(stack_k=stack_k), plays(20)
    env.reset(keys())
    for action in actions[:10]:
        obs = env.step(action)[0]
    taken, seen = env.snapshot(), obs.clone()
    after = [copied(without_final(env.step(action))) for action in actions[10:]]
    for again in (env, other):
        assert torch.equal(again.restore(taken)[0], seen)
        assert equal([copied(without_final(again.step(action))) for action in actions[10:]], after)


# Rewards from memory, and what is told


def test_memory_pays() -> None:
    """By how much a number has grown, within an episode; by any function; and by nothing at all."""
    toy = lambda: Toy(num_envs=N)  # noqa: E731
    made = [
        PixelsEnv(toy(), reward=MemoryReward(0, 2, 0.5), max_steps=4, compile="off"),
        PixelsEnv(
            toy(), reward=MemoryReward(8, 1, function=lambda x, y: (y[:, 0] > 2).float()), max_steps=4, compile="off"
        ),
        PixelsEnv(toy(), max_steps=4, compile="off"),
    ]
    for env in made:
        env.reset(keys())
    weights = torch.arange(N) / 2
    made.append(PixelsEnv(toy(), reward=MemoryReward(0, 2, weights), max_steps=4, compile="off"))
    made[-1].reset(keys())
    for t, action in enumerate(plays(13)):
        before = made[0].backend.state.place.clone()
        change, late, nothing, weighed = (env.step(action)[1] for env in made)
        after = before + torch.tensor([-1, 1, 0])[action]
        assert change.tolist() == ((after.clamp(min=0) - before) / 2).tolist()
        assert late.tolist() == [float(t % 4 >= 2)] * N
        assert nothing.tolist() == [0] * N
        assert weighed.tolist() == (2 * change * weights).tolist()


def test_what_is_told() -> None:
    envs = [goal_env(info_mode=mode) for mode in ("full", "stats", "none")]
    for env in envs:
        env.reset(keys())
    for action in plays(8):
        full, stats, none = (env.step(action)[4].metrics for env in envs)
        assert list(none._asdict()) == []
        assert isinstance(stats, StatsInfo)
        assert stats.dist_mean is not None
        np.testing.assert_allclose(stats.dist_mean, full.dist.numpy().mean(), rtol=1e-6)
        quantiles = [stats.dist_p10, stats.dist_p50, stats.dist_p90]
        np.testing.assert_allclose(quantiles, np.quantile(full.dist.numpy(), [0.1, 0.5, 0.9]), rtol=1e-6)
        assert float(stats.reset_rate) == pytest.approx(full.reset_mask.float().mean())
    bare = PixelsEnv(Toy(), info_mode="stats", final_obs=False, compile="off")
    _, info = bare.reset(keys(1))
    assert info.final_obs is None
    assert (info.metrics.dist_mean, float(info.metrics.reset_rate)) == (None, 1.0)


# The cache


def test_starts_from_play_and_from_files(tmp_path: Path) -> None:
    toy = Toy(num_envs=3)
    for action in plays(9, 3):
        toy.step(action)
    before = toy.snapshot()
    for lane in (2, 0):
        toy.save_state(tmp_path / f"{lane}.state", lane)
    loaded = load_starts(toy, [tmp_path / "2.state", tmp_path / "0.state"])
    assert equal(toy.snapshot(), before)
    assert equal(loaded, toy.snapshot([2, 0]))
    assert equal(load_starts(toy, str(tmp_path / "0.state")), toy.snapshot([0]))
    three = load_starts(toy, (toy.snapshot([2, 0]), str(tmp_path / "2.state")))
    assert equal(three, toy.snapshot([2, 0, 2]))
    for given, wanted in (([toy.snapshot([1]), tmp_path / "0.state"], [1, 0]), (tmp_path / "2.state", [2])):
        assert equal(PixelsEnv(toy, starts=given, compile="off").cache.starts, toy.snapshot(wanted))
    assert three.place.data_ptr() != load_starts(toy, three).place.data_ptr(), "a copy"


@pytest.mark.parametrize("layout", ["contiguous", "interleaved"])
def test_starts_lie_as_the_machine_wants_them(layout: MemoryLayout) -> None:
    """Else every reset would lay them anew. Of machines that lie otherwise; for one saved lane, however many starts."""
    machine = GameBoy("lantern", 1, threads=1, layout=layout)
    other = GameBoy("lantern", 3, threads=1, layout="interleaved" if layout == "contiguous" else "contiguous")
    other.step(torch.arange(3))
    saved, snapshot = [], machine.snapshot
    machine.snapshot = lambda lanes=None: saved.append(lanes) or snapshot(lanes)  # type: ignore[method-assign]
    for given in (other.snapshot(), [other.snapshot([0]), other.snapshot([1, 2])]):
        laid = ResetCache(machine, given).starts
        assert machine.machine.lay(laid) is laid
        assert equal(pytree.tree_map(Tensor.contiguous, laid), pytree.tree_map(Tensor.contiguous, other.state))
    assert saved == [[0], [0]]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("mask", [[True] * N, [False] * N, [True, False, True, True, False]])
def test_the_cache_restores_lanes_of_the_mask_alone(mask: list[bool], skip: bool) -> None:
    toy, kept, choice = Toy(num_envs=N), starts(3, 9, 5), [0, 2, 1, 0, 2]
    for action in plays(4):
        toy.step(action)
    before = toy.snapshot()
    called = ResetCache(toy, kept, skip_if_empty=skip).restore(torch.tensor(mask), torch.tensor(choice))
    assert called == (any(mask) or not skip)
    for lane, (restored, place) in enumerate(zip(mask, choice, strict=True)):
        wanted = [x[place] for x in kept] if restored else [x[lane] for x in before]
        assert equal([x[lane] for x in toy.state], wanted)


# Compiled


def check_compiled(make: Callable[..., TaskEnv], folder: Path) -> None:
    """Steps that allocate nothing and are those of eager ones, whatever K is, whether the host asks first, and whether
    last observations are kept; and what one returned outlives the next."""
    actions = plays(2 * LIMIT)
    for stack_k, skip, final in itertools.product((1, 4), (False, True), (False, True)):
        options = {"stack_k": stack_k, "skip_reset_if_empty": skip, "final_obs": final}
        eager, compiled = (make(compile=mode, **options) for mode in ("off", "on"))
        assert (eager.compiled, compiled.compiled) == (False, True)
        assert equal(*(env.reset(keys())[0] for env in (compiled, eager)))
        last = before = None
        for action in actions:
            ours, wanted = compiled.step(action), eager.step(action)
            torch.testing.assert_close(ours[1], wanted[1], rtol=0, atol=1e-6)
            assert equal([ours[0], *without_final(ours)[2:]], [wanted[0], *without_final(wanted)[2:]])
            assert equal(*(ends_of(step) for step in (ours, wanted)))
            assert equal(last, before)
            last, before = ours, copied(ours)
        assert allocations(lambda env=compiled: [env.step(action) for action in actions], folder) == []


def ends_of(step: Any) -> list[Tensor]:
    """What the lanes that have ended saw last."""
    _, _, terminated, truncated, info = step
    return [] if info.final_obs is None else [info.final_obs[terminated | truncated]]


@pytest.mark.slow
def test_compiled_steps_towards_a_goal_allocate_nothing(tmp_path: Path) -> None:
    check_compiled(goal_env, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("draw", ["half", "full"])
def test_compiled_steps_for_nothing_allocate_nothing(draw: str, tmp_path: Path) -> None:
    """Where no memory is watched; and of screens that are halved."""
    eager, env = (PixelsEnv(Toy(num_envs=N, draw=draw), max_steps=4, compile=mode) for mode in ("off", "on"))
    actions = plays(2 * LIMIT)
    assert equal(*(each.reset(keys())[0] for each in (env, eager)))
    for action in actions:
        assert equal(*(without_final(each.step(action)) for each in (env, eager)))
    assert allocations(lambda: [env.step(action) for action in actions], tmp_path) == []


@pytest.mark.slow
def test_compiled_steps_for_a_number_allocate_nothing(tmp_path: Path) -> None:
    check_compiled(number_env, tmp_path)


# Bad input


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"goal": torch.zeros(72, 79, dtype=torch.uint8)}, ShapeError, r"goal .*\(72, 80\), got \(72, 79\)"),
        ({"goal": torch.zeros(1, 72, 80, dtype=torch.uint8)}, ShapeError, r"goal .*\(1, 72, 80\)"),
        ({"goal": torch.zeros(72, 80)}, ShapeError, "goal must be uint8 .*float32"),
        ({"goal": torch.full((72, 80), 4, dtype=torch.uint8)}, ValueError, r"goal must lie in \[0, 3\], got 4"),
        ({"tau": 0.0}, ValueError, r"tau .*\(0.0, 1.0\], got 0.0"),
        ({"tau": 1.5}, ValueError, "tau .*1.5"),
        ({"tau": torch.tensor([0.1, 0.1, 2.0, 0.1, 0.1])}, ValueError, r"tau .*\(0.0, 1.0\], got 2.0"),
        ({"tau": torch.tensor(0.0)}, ValueError, r"tau .*\(0.0, 1.0\], got 0.0"),
        ({"alpha": torch.full((N,), torch.nan)}, ValueError, "alpha must be finite .*nan"),
        ({"goal_reward": torch.full((N,), -torch.inf)}, ValueError, "goal_reward must be finite .*-inf"),
        ({"step_penalty": torch.zeros(N - 1)}, ShapeError, r"step_penalty must have shape \(5,\), got \(4,\)"),
        (
            {"goal": "goals/win"},
            TypeError,
            "goal must be a tensor, got str: load_goal reads paths, make_pixels",
        ),
        ({"reward": None}, TypeError, "option 'reward' goes without a goal: PixelsEnv has it"),
        ({"stak_k": 1}, TypeError, "unknown option 'stak_k': did you mean 'stack_k'"),
        ({"goal": None}, TypeError, "goal must be a tensor, got NoneType"),
        ({"goal": bar(1).numpy()}, TypeError, "goal must be a tensor, got ndarray"),
        ({"info_mode": None}, ValueError, "unknown info_mode 'None'"),
        ({"k": 0}, ValueError, "k must be an integer >= 1, got 0"),
        ({"alpha": float("inf")}, ValueError, "alpha .*inf"),
        ({"stack_k": 0}, ValueError, "stack_k must be an integer >= 1, got 0"),
        ({"max_steps": 0}, ValueError, "max_steps .*0"),
        ({"info_mode": "ful"}, ValueError, "info_mode 'ful': did you mean 'full'"),
        ({"compile": "yes"}, ValueError, "compile .*yes"),
        ({"starts": 3}, TypeError, "starts must be a State of this backend or a file, or several of these, got int"),
        ({"starts": (starts(1), 2)}, TypeError, r"starts\[1\] must be a State of this backend or a file, got int"),
        ({"starts": []}, ValueError, "starts must hold at least one State or file, got none"),
        ({"starts": Toy(draw="full").snapshot()}, ShapeError, r"starts.screen .*72, 80\) .*, got .*144, 160\)"),
        ({"starts": [starts(1), Toy(draw="full").snapshot()]}, ShapeError, r"starts\[1\].screen .*144, 160\)"),
        ({"starts": goal_task(bar(1))}, ShapeError, "starts must be .*toy.State, got .*Task"),
        ({"starts": starts()}, ShapeError, "starts must have at least one lane, got none"),
        ({"starts": starts(1)._replace(place=torch.zeros(1))}, ShapeError, "starts.place must be .*int64 .*float32"),
        ({"starts": starts(1, 2)._replace(place=torch.tensor([1]))}, ShapeError, r"starts.steps .* \(2,\)"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        goal_env(**options)


def test_other_bad_input_is_refused() -> None:
    toy = Toy()
    toy.draw = "none"
    with pytest.raises(ValueError, match=r"draw must be 'half' or 'full' .*'none'"):
        PixelsEnv(toy)
    with pytest.raises(TypeError, match=r"backend must be machines, as open_backend or make_pixels .*, got str"):
        PixelsEnv("lantern")  # type: ignore[arg-type]
    for name, complaint in (
        ("goal", "'goal' needs a goal: GoalEnv has it"),
        ("frames_per_step", "'frames_per_step' is one of machines: give it to open_backend or to make_pixels"),
        ("workers", "'workers' is one of machines"),
    ):
        with pytest.raises(TypeError, match=f"option {complaint}"):
            PixelsEnv(Toy(), **{name: 4})  # type: ignore[arg-type]
    for bad, complaint in (
        (MemoryReward(-1), "address .*-1"),
        (MemoryReward(0, 8), "length must be at most 7 .*8"),
        (MemoryReward(0, weight=torch.inf), "reward.weight must be finite .*inf"),
        (MemoryReward(0, weight=torch.tensor([torch.nan])), "reward.weight must be finite .*nan"),
        (MemoryReward(0, weight=torch.ones(2)), r"weight must have shape \(1,\), got \(2,\)"),
    ):
        with pytest.raises(ValueError, match=complaint):
            PixelsEnv(Toy(), reward=bad)
    with pytest.raises(TypeError, match=r"reward must be a MemoryReward or None, got \(0, 1\)"):
        PixelsEnv(Toy(), reward=(0, 1))  # type: ignore[arg-type]
    env = goal_env()
    for use in (lambda: env.step(plays(1)[0]), env.snapshot, lambda: env.restart(torch.ones(N) > 0), lambda: env.state):
        with pytest.raises(ValueError, match="call reset"):
            use()
    with pytest.raises(ShapeError, match="rng must"):
        env.reset(keys(N + 1))
    env.reset(keys())
    before = env.snapshot()
    for actions in (plays(1, 4)[0], plays(1), torch.zeros(N), torch.zeros(N, dtype=torch.bool)):
        with pytest.raises(ShapeError, match=r"actions must be integers of shape \(5,\)"):
            env.step(actions)
    for mask in (torch.ones(4, dtype=torch.bool), torch.ones(N)):
        with pytest.raises(ShapeError, match=r"ended must be bool of shape \(5,\)"):
            env.restart(mask)
    with pytest.raises(ShapeError, match=r"ended must be a tensor, got list"):
        env.restart([True] * N)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"snapshot.obs must have shape \(5, 2, 72, 80\)"):
        goal_env(stack_k=2).restore(before)
    with pytest.raises(ShapeError, match=r"snapshot.lanes.task must be .*MemoryState, got .*GoalState"):
        number_env().restore(before)
    env.step(plays(1)[0])
    after = env.snapshot()
    for wrong, complaint in (
        (before._replace(obs=before.obs.int()), "snapshot.obs must be uint8 .*int32"),
        (
            before._replace(lanes=before.lanes._replace(episode=before.lanes.episode[:1])),
            r"snapshot.lanes.episode must be torch.int64 \(5,\) .* got torch.int64 \(1,\)",
        ),
        (
            before._replace(lanes=before.lanes._replace(rng=before.lanes.rng.int())),
            "snapshot.lanes.rng must be torch.int64 .* got torch.int32",
        ),
        (
            before._replace(lanes=before.lanes._replace(task=before.lanes.task._replace(streak=None))),
            "snapshot.lanes.task.streak must be a tensor, got NoneType",
        ),
    ):
        with pytest.raises(ShapeError, match=complaint):
            env.restore(wrong)
        assert equal(env.snapshot(), after)
    with pytest.raises(TypeError, match="snapshot must be a Snapshot, got Lanes"):
        env.restore(before.lanes)  # type: ignore[arg-type]
    env.restore(before)
    with pytest.raises(ShapeError, match=r"what function gives must have shape \(5,\), got \(5, 2\)"):
        number_env(reward=MemoryReward(0, 2, function=torch.add))
    assert equal(env.snapshot(), before)
    env.close()
    assert env.backend.closed  # type: ignore[attr-defined]
    mask = torch.ones(N, dtype=torch.bool)
    closed = (lambda: env.reset(keys()), lambda: env.step(plays(1)[0]), lambda: env.restart(mask), env.snapshot)
    for use in (*closed, lambda: env.restore(before), lambda: env.state):
        with pytest.raises(ValueError, match="the environment is closed"):
            use()
