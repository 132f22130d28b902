"""Pixel environments as Gymnasium and PufferLib see them, on the toy machine, and on Game Boys that play a game."""

import contextlib
import inspect
import json
import re
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.pixels import goal_distance
from armfold.shell.backends.gameboy import GameBoy, NoCompilerError
from armfold.shell.backends.gameboy.rom import SHIPPED
from armfold.shell.backends.pyboy import PyBoyBackend
from armfold.shell.envs import pixels
from armfold.shell.envs.pixels import GoalEnv, MemoryReward, PixelsEnv, TaskEnv, make_pixels
from armfold.shell.envs.pixels_gymnasium import PixelsGym, PixelsVectorEnv
from armfold.shell.envs.pixels_pufferlib import PixelsPufferEnv, make_puffer_vector
from armfold.shell.envs.pufferlib import lane_keys
from armfold.shell.envs.reset_cache import load_starts
from armfold.shell.store.goals import Goal, save_goal
from tests.shell.helpers import allocations
from tests.shell.test_pixels import N, copied, equal, goal_env, keys, number_env, plays, starts, without_final
from tests.shell.toy import bar

ID = "armfold/Pixels-v0"
LANTERN = json.loads((SHIPPED / "lantern.json").read_text("utf-8"))
NOOP = 0


# Gymnasium


@pytest.mark.parametrize("options", [{}, {"goal": bar(3).numpy(), "draw": "full", "stack_k": 1, "info_mode": "stats"}])
def test_gymnasium_finds_no_fault(options: dict[str, Any]) -> None:
    """Warnings are errors here."""
    env = gym.make(ID, frames_per_step=2, release_after_frames=1, threads=1, **options)
    check_env(env.unwrapped)
    env.close()


def test_gymnasium_finds_no_fault_with_any_backend() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not having a spec")
        check_env(PixelsGym(goal_env(1), render_mode="rgb_array"))


def test_gymnasiums_own_vector_agrees() -> None:
    """SyncVectorEnv over single environments, with the same list of seeds, over many episodes: everything but the
    infos of lanes that ended, where ours have the step's and theirs those of the new episode."""
    seeds = [5, 0, 2**40, 5]
    theirs = SyncVectorEnv([lambda: PixelsGym(goal_env(1))] * 4, autoreset_mode=AutoresetMode.SAME_STEP)
    ours = PixelsVectorEnv(goal_env(4))
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]
    same(ours.reset(seed=seeds), theirs.reset(seed=seeds))
    ends = 0
    for t, action in enumerate(plays(20, 4).numpy()):
        if t == 4:
            mask = np.array([False, True, False, True])
            got, wanted = (face.reset(options={"reset_mask": mask.copy()}) for face in (ours, theirs))
            same(got[0], wanted[0])
        (*outcome, info), (*outcome_, info_) = ours.step(action), theirs.step(action)
        same(outcome, outcome_)
        ended = outcome[2] | outcome[3]
        assert info.keys() == info_.keys()
        for name in ("dist", "fault"):
            np.testing.assert_array_equal(info[name][~ended], info_[name][~ended])
            assert info[f"_{name}"].all()
        if ended.any():
            ends += ended.sum()
            for lane in range(4):
                same(info["final_obs"][lane], info_["final_obs"][lane])
            same([info["final_info"][name] for name in ("dist", "fault", "_dist", "_fault")],
                 [info_["final_info"][name] for name in ("dist", "fault", "_dist", "_fault")])  # fmt: skip
            same([info["_final_obs"], info["_final_info"]], [ended, ended])
    assert ends >= 8


def test_ends_are_told_without_the_last_observations() -> None:
    vector = PixelsVectorEnv(goal_env(final_obs=False, max_steps=2))
    vector.reset(seed=0)
    vector.step([0] * N)
    *_, ended, info = vector.step([0] * N)
    assert ended.any()
    assert "final_obs" not in info
    same([info["_final_info"], info["final_info"]["dist"]], [ended, np.where(ended, info["dist"], 0)])


def same(got: Any, wanted: Any) -> None:
    if isinstance(wanted, tuple | list):
        for x, y in zip(got, wanted, strict=True):
            same(x, y)
    elif isinstance(wanted, dict):
        assert got.keys() == wanted.keys()
        for name in wanted:
            same(got[name], wanted[name])
    else:
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("copy", [True, False])
def test_a_seed_gives_the_lanes_of_the_face(copy: bool) -> None:
    vector, face = PixelsVectorEnv(goal_env(), copy=copy), goal_env()
    seen, (wanted, _) = vector.reset(seed=3)[0], face.reset(keys(seed=3))
    for action in plays(12):
        same(seen, wanted)
        seen, *outcome, info = vector.step(action.numpy())
        wanted, *outcome_, info_ = face.step(action)
        same(outcome, outcome_)
        same(info["dist"], info_.metrics.dist)
        assert np.shares_memory(seen, vector.face._outputs[vector.face._turn].obs.numpy()) != copy


def test_seeds() -> None:
    """A seed starts over, without one the next episode comes, and who was never seeded draws from its own generator."""
    for make in (lambda: PixelsGym(goal_env(1)), lambda: PixelsVectorEnv(goal_env())):
        env, other = make(), make()
        first = env.reset(seed=1)[0]
        later = [env.reset()[0] for _ in range(6)]
        assert any((x != first).any() for x in later)
        same(env.reset(seed=np.int64(1))[0], first)
        same([env.reset()[0] for _ in range(6)], later)
        for one in (env, other):
            one.close()
        env, other = make(), make()
        env.np_random, other.np_random = np.random.default_rng(1), np.random.default_rng(1)
        same([env.reset()[0] for _ in range(3)], [other.reset()[0] for _ in range(3)])


def test_statistics_of_episodes() -> None:
    vector = RecordEpisodeStatistics(PixelsVectorEnv(number_env(max_steps=4)))
    vector.reset(seed=3)
    returns = np.zeros(N)
    for t, action in enumerate(plays(12).numpy()):
        _, reward, _, truncated, info = vector.step(action)
        returns += reward
        if t % 4 == 3:
            assert truncated.all()
            assert info["episode"]["l"].tolist() == [4] * N
            np.testing.assert_allclose(info["episode"]["r"], returns)
            returns[:] = 0


@pytest.mark.parametrize("draw", ["half", "full"])
def test_screens_can_be_looked_at(draw: str) -> None:
    single = PixelsGym(goal_env(1, draw=draw, starts=None), render_mode="rgb_array")
    vector = PixelsVectorEnv(goal_env(draw=draw, starts=None), render_mode="rgb_array")
    for env in (single, vector):
        env.reset(seed=0)
    single.step(1)
    vector.step([1] * N)
    image, images = single.render(), vector.render()
    assert image is not None
    assert images is not None
    assert len(images) == N
    shape = (72, 80, 3) if draw == "half" else (144, 160, 3)
    for one in (image, *images):
        assert (one.shape, one.dtype) == (shape, np.uint8)
        assert (one[0, :: shape[1] // 16, 0].tolist()) == [0] * 3 + [255] * 13
    assert PixelsGym(goal_env(1)).render() is None
    assert PixelsVectorEnv(goal_env()).render() is None
    assert single.metadata["render_fps"] == pytest.approx(59.7275 / 24, rel=1e-4)


def test_the_end_is_shown_until_the_reset() -> None:
    env = PixelsGym(goal_env(1, max_steps=2, starts=starts(9), stack_k=1), render_mode="rgb_array")
    env.reset(seed=0)
    env.step(1)
    obs, _, _, truncated, info = env.step(1)
    assert truncated
    assert (obs[0] == bar(11).numpy()).all()
    assert info == {"dist": pytest.approx(5 / 16), "fault": False}
    assert (env.render()[0, :, 0] == 255 - 85 * obs[0, 0].astype(int)).all()  # type: ignore[index]
    with pytest.raises(ResetNeeded):
        env.step(1)
    assert (env.reset()[0] == bar(9).numpy()).all()


@pytest.mark.parametrize("mode", ["stats", "none"])
def test_infos_of_other_modes(mode: Any) -> None:
    names = ["dist_mean", "dist_p10", "dist_p50", "dist_p90", "done_rate", "trunc_rate", "reset_rate", "fault_rate"]
    for env, action in (
        (PixelsGym(goal_env(1, info_mode=mode)), 1),
        (PixelsVectorEnv(goal_env(info_mode=mode)), [1] * N),
    ):
        env.reset(seed=0)
        info = env.step(action)[4]
        assert list(info) == (names if mode == "stats" else [])
        assert all(isinstance(value, float) for value in info.values())


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="face must have num_envs 1, got 5"):
        PixelsGym(goal_env())
    for make in (partial(PixelsGym, goal_env(1)), partial(PixelsVectorEnv, goal_env())):
        with pytest.raises(ValueError, match=r"render_mode .*'human'"):
            make(render_mode="human")
        env = make()
        with pytest.raises(ResetNeeded):
            env.step(0)
        with pytest.raises(ValueError, match="no option 'level'"):
            env.reset(options={"level": 3})
    single, vector = PixelsGym(goal_env(1)), PixelsVectorEnv(goal_env())
    single.reset(seed=0)
    vector.reset(seed=0)
    for seed in (1.5, [1, 2]):
        with pytest.raises(ValueError, match="seed must be an integer or a list of 5"):
            vector.reset(seed=seed)
    for action in (4, -1, 1.0, True, None):
        with pytest.raises(ValueError, match="action must be an integer in"):
            single.step(action)
    for actions in ([0] * 4, [4] * N, [-1] * N, [0.5] * N):
        with pytest.raises(ValueError, match="actions must"):
            vector.step(actions)
    with pytest.raises(ValueError, match="autoreset True"):
        PixelsVectorEnv(goal_env(autoreset=False))


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"rom": "lanter"}, ValueError, "did you mean 'lantern'"),
        ({"stack_k": 0}, ValueError, "stack_k .*0"),
        ({"draw": "none"}, ValueError, "draw .*'none'"),
        ({"goal": [[0.0]]}, TypeError, "goal must be a tensor, an array or the path of a goal, got list"),
        ({"goal": np.zeros((72, 80))}, ShapeError, r"goal must be uint8 of shape \(72, 80\), got float64"),
        ({"goal": "nowhere"}, ValueError, "goal 'nowhere' is not there"),
        ({"starts": "nowhere.state"}, ValueError, "nowhere.state"),
        ({"starts": []}, ValueError, "starts must hold at least one State or file, got none"),
        ({"starts": [3]}, TypeError, r"starts\[0\] must be a State of this backend or a file, got int"),
        ({"frames_per_step": 0}, ValueError, "frames_per_step .*0"),
        ({"reward": (0, 1)}, TypeError, r"reward must be a MemoryReward or None, got \(0, 1\)"),
    ],
)
def test_bad_keywords_are_refused(options: dict[str, Any], error: type[Exception], complaint: str) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(error, match=complaint):
            make(ID, **options)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"knobs": {}}, "unknown option 'knobs'"),
        ({"stak_k": 1}, "unknown option 'stak_k': did you mean 'stack_k'"),
        ({"goal": bar(3), "reward": None}, "option 'reward' goes without a goal"),
        ({"tau": 0.1}, "option 'tau' needs a goal"),
        ({"k": 3}, "option 'k' needs a goal"),
    ],
)
def test_unknown_options_are_refused_before_a_machine_is_made(
    options: dict[str, Any], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "open_backend", None)
    for make in (partial(gym.make, ID), partial(gym.make_vec, ID), make_pixels):
        with pytest.raises(TypeError, match=complaint):
            make(**options)


@pytest.mark.parametrize("id", [ID, "armfold/BernoulliBandit-v0"])
def test_one_lane_is_told_from_many(id: str) -> None:
    with pytest.raises(TypeError, match=r"option 'num_envs' is of gymnasium\.make_vec"):
        gym.make(id, num_envs=3)


def test_a_goal_of_a_folder_brings_its_knobs(tmp_path: Path) -> None:
    """Its frame, tau, k and start, where none are given; in every face, and of this ROM alone."""
    backend, folder = game(1), tmp_path / "win"
    backend.step(torch.tensor([3]))
    kept = Goal(bar(3), 0.25, 2, backend.rom.sha256)
    save_goal(folder, kept, start=backend.save_state, draw=Path.touch)
    options: dict[str, Any] = {"stack_k": 1, "threads": 1, "compile": "off"}
    first, power_on = backend.screen.clone(), game(1).screen
    given = {"tau": 0.125, "k": 9, "starts": None}
    for goal, own, tau, k, seen in (
        (str(folder), {}, 0.25, 2, first),
        (folder / "goal.safetensors", {}, 0.25, 2, first),
        (folder, given, 0.125, 9, power_on),
    ):
        env = make_pixels("lantern", 2, goal=goal, **options, **own)
        assert torch.equal(env.reset(keys(2))[0], seen.expand(2, 1, 72, 80))
        had = env.task.step.keywords  # type: ignore[attr-defined]
        assert (had["tau"], had["k"]) == (tau, k)
        assert torch.equal(had["goal"], bar(3))
    same(gym.make(ID, goal=folder, **options).reset(seed=0)[0], first)
    same(gym.make_vec(ID, num_envs=2, goal=str(folder), **options).reset(seed=0)[0], first.expand(2, 1, 72, 80))
    make = partial(make_pixels, "lantern", 2, goal=folder, **options)
    same(make_puffer_vector(make).reset(seed=0)[0], first.expand(2, 1, 72, 80))
    save_goal(tmp_path / "other", kept._replace(rom="ab"), start=backend.save_state, draw=Path.touch)
    with pytest.raises(ValueError, match=r"other' is of another ROM \(sha256 ab\)"):
        gym.make(ID, goal=tmp_path / "other")


def test_the_page_has_every_knob_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "pixels.md").read_text("utf-8")
    table = page.split("## The environments")[1].split("\n## ")[0]
    rows = "".join(re.findall(r"^\| (`.*?) \|", table, re.M))
    told = {name: default.strip("`") for name, default in re.findall(r"`(\w+)`(?: \((`?[\w.-]+`?))?", rows)}
    code: dict[str, Any] = {}
    for kind in (TaskEnv, PixelsEnv, GoalEnv):
        code |= {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    machine = inspect.signature(GameBoy).parameters
    code |= {name: machine[name].default for name in ("frames_per_step", "release_after_frames")}
    for name in code.keys() - {"backend", "task", "knobs"}:
        default = code[name]
        wanted = "" if default in (None, inspect.Parameter.empty) else default
        assert told[name] == (f"{wanted:g}" if isinstance(wanted, float) else str(wanted)), name
    assert told.keys() >= {"actions", "draw", "seed"}


# PufferLib


def make_toy(**options: Any) -> TaskEnv:
    return goal_env(3, **options)


@pytest.mark.parametrize("stack_k", [1, 4])
def test_pufferlib_gets_the_lanes_of_the_face(stack_k: int) -> None:
    """In its own buffers; and twice three lanes are six."""
    six = goal_env(6, stack_k=stack_k)
    vec = make_puffer_vector(partial(make_toy, stack_k=stack_k), num_workers=2)
    obs, seen = vec.reset(seed=4)[0], six.reset(random.split(random.key(4), 6))[0]
    ended = 0
    for action in plays(14, 6):
        same(obs, seen)
        obs, reward, terminated, truncated, infos = vec.step(action.numpy())[:5]
        seen, *outcome, _ = six.step(action)
        same([reward, terminated, truncated], outcome)
        ends = [half for half in (outcome[1] | outcome[2]).view(2, 3) if half.any()]
        assert len(infos) == len(ends)
        ended += len(ends)
        for info in infos:
            assert list(info) == ["episode_return", "episode_length", "episode_goal", "episode_fault"]
    assert ended >= 4
    env = vec.envs[0]
    assert np.shares_memory(env.observations, env.face.step(torch.zeros(3, dtype=torch.int64))[0].numpy())
    vec.close()


def test_pufferlib_is_told_of_episodes() -> None:
    env = PixelsPufferEnv(partial(number_env, 4, max_steps=3, starts=starts(3)))
    env.reset(seed=0)
    for t in range(6):
        *_, infos = env.step(np.array([1, 1, 0, 2]))
        wanted = {"episode_return": (3 + 3 - 3) / 4, "episode_length": 3.0, "episode_goal": 0.0, "episode_fault": 0.0}
        assert infos == ([wanted] if t % 3 == 2 else [])
    same(env.reset()[0], goal_env(4, starts=starts(3)).reset(lane_keys(0, 4))[0])
    for actions in (np.zeros(3, int), np.full(4, 4)):
        with pytest.raises(ValueError, match="actions must"):
            env.step(actions)
    env.close()
    for bad in (lambda: 3, partial(goal_env, autoreset=False)):
        with pytest.raises(ValueError, match="make must make"):
            PixelsPufferEnv(bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_workers must be an integer >= 1, got 0"):
        make_puffer_vector(make_toy, num_workers=0)


@pytest.mark.slow
def test_pufferlibs_workers_agree() -> None:
    serial, workers = (
        make_puffer_vector(make_toy, backend=backend, num_workers=2, overwork=True) for backend in ("serial", "mp")
    )
    same(workers.reset(seed=4)[0], serial.reset(seed=4)[0])
    for action in plays(20, 6).numpy():
        same(workers.step(action)[:4], serial.step(action)[:4])
    workers.close()
    serial.close()


def make_lantern(starts: Any) -> TaskEnv:
    return GoalEnv(GameBoy("lantern", 3), torch.zeros(72, 80, dtype=torch.uint8), starts=starts, max_steps=5)


@pytest.mark.slow
def test_pufferlibs_workers_play_game_boys() -> None:
    """From several starts, compiled, in forks of a process whose own Game Boys have used threads of theirs."""
    parent = GameBoy("lantern", 64, threads=2)
    for action in plays(8, 64, high=8):
        parent.step(action)
    make = partial(make_lantern, parent.snapshot([0, 5, 9]))
    serial, workers = (make_puffer_vector(make, backend=backend, num_workers=2) for backend in ("serial", "mp"))
    same(workers.reset(seed=4)[0], serial.reset(seed=4)[0])
    for action in plays(20, 6, high=8).numpy():
        same(workers.step(action)[:4], serial.step(action)[:4])
    parent.step(plays(1, 64)[0])
    workers.close()
    serial.close()


# Game Boys


def play(env: TaskEnv, steps: Tensor) -> list[Any]:
    return [copied(env.step(action)) for action in steps]


def game(lanes: int, **options: Any) -> GameBoy:
    return GameBoy("lantern", lanes, threads=1, **options)


@pytest.fixture(scope="module")
def goal() -> Tensor:
    """The screen of a game that is won, uint8 [72, 80]."""
    backend = game(1)
    for action in [*solution(), *[NOOP] * 8]:
        backend.step(torch.tensor([action]))
    return backend.screen[0].clone()


def solution() -> list[int]:
    return [game(1).actions.index(name) for name in LANTERN["solution"]]


def test_a_script_reaches_the_goal_and_random_agents_do_not(goal: Tensor) -> None:
    """Lane 0 plays the script, and the two others at random: with other keys, one of these would reach the goal in less
    than 1 of 100 tests (95 % confidence, from 768 lanes of which none did in 512 steps)."""
    env = GoalEnv(game(3), goal, compile="off", stack_k=2, starts=None)
    env.reset(keys(3))
    script = solution()
    actions = random.randint(random.key(1), (len(script) + 6, 3), high=8)
    actions[:, 0] = torch.tensor([*script, *[NOOP] * 6])
    steps = play(env, actions)
    reached = torch.stack([step[2] for step in steps])
    assert reached[:, 0].sum() == 1
    assert not reached[:, 1:].any()
    last = int(reached[:, 0].int().argmax())
    assert last >= len(script) - 1
    _, reward, _, truncated, info = steps[last]
    assert reward[0] > 9.9
    assert not truncated.any()
    assert (info.final_obs[0, -1] != goal).float().mean() < 0.05
    assert info.metrics.dist[0] < 0.05


def test_game_boys_agree_on_every_path(goal: Tensor) -> None:
    """With and without a look at who ended, from starts chosen by key, on from a snapshot, and alone."""
    walked = game(3)
    for t, action in enumerate(plays(12, 3, high=8)):
        walked.step(action if t else torch.tensor([3, 3, 0]))
    options: dict[str, Any] = {"starts": walked.snapshot([0, 1, 2]), "compile": "off", "max_steps": 4, "stack_k": 2}
    envs = [GoalEnv(game(3), goal, skip_reset_if_empty=skip, **options) for skip in (False, True)]
    alone = GoalEnv(game(1), goal, **options)
    for env in envs:
        env.reset(keys(3))
    alone.reset(keys(3)[1:2])
    actions = plays(18, 3, high=8)
    first, second = (play(env, actions[:10]) for env in envs)
    assert equal(*([without_final(step) for step in steps] for steps in (first, second)))
    singles = play(alone, actions[:10, 1:2])
    assert equal([[x[1:2] for x in step[:4]] for step in first], [step[:4] for step in singles])
    taken = envs[0].snapshot()
    fresh = GoalEnv(game(3), goal, **options)
    fresh.restore(taken)
    after = [[without_final(step) for step in play(env, actions[10:])] for env in (envs[0], fresh, envs[1])]
    assert equal(after[0], after[1])
    assert equal(after[0], after[2])
    for env in (envs[0], fresh):
        assert torch.equal(env.pixels, env.backend.screen)


def test_starts_are_of_one_rom(tmp_path: Path) -> None:
    backend = game(2)
    backend.step(torch.tensor([3, 0]))
    backend.save_state(tmp_path / "a.state", 0)
    kept = load_starts(backend, [tmp_path / "a.state"] * 2)
    assert equal(kept, backend.snapshot([0, 0]))
    with pytest.raises(ValueError, match=r"b\.state"):
        load_starts(backend, [tmp_path / "a.state", tmp_path / "b.state"])
    assert equal(kept, backend.snapshot([0, 0]))
    data = bytearray((SHIPPED / "lantern.gb").read_bytes())
    data[-1] ^= 1
    with pytest.raises(ValueError, match="another ROM"):
        load_starts(GameBoy(bytes(data), 1, threads=1), [tmp_path / "a.state"])
    env = gym.make_vec(ID, num_envs=2, starts=tmp_path / "a.state", stack_k=1, threads=1)
    same(env.reset(seed=0)[0], kept.screen[:, None])
    several = [backend.snapshot(), str(tmp_path / "a.state"), backend.snapshot([1])]
    cached = make_pixels("lantern", 2, starts=several, threads=1, compile="off").cache
    assert (cached.count, equal(cached.starts, backend.snapshot([0, 1, 0, 1]))) == (4, True)


def brittle(lanes: int) -> GameBoy:
    """Game Boys with a cartridge that waits for the button A, and then meets an instruction that there is not."""
    data = bytearray((SHIPPED / "lantern.gb").read_bytes())
    data[0x100:0x103] = b"\xc3\x50\x01"  # jp $0150
    wait = b"\x3e\x10\xe0\x00\xf0\x00\xe6\x01\x20\xf6"  # ld a,$10; ldh ($00),a; ldh a,($00); and 1; jr nz,wait
    data[0x150:0x15B] = wait + b"\xd3"
    return GameBoy(bytes(data), lanes, threads=1)


def brittle_env(lanes: int = 3, **options: Any) -> GoalEnv:
    return GoalEnv(brittle(lanes), torch.zeros(72, 80, dtype=torch.uint8), compile="off", stack_k=2, k=1000, **options)


A, LANE = 1, 1  # the action that breaks a lane, and the lane that takes it at every fifth step


def breaking(steps: int = 15, lanes: int = 3) -> list[Tensor]:
    return [torch.where(torch.arange(lanes) == LANE, A * (t % 5 == 4), NOOP) for t in range(steps)]


def test_a_lane_at_an_illegal_opcode_starts_again_and_the_others_go_on() -> None:
    """Paid like any other step, cut off, told, and back at power-on in the same step."""
    env, twin = brittle_env(), brittle(3)
    first = env.reset(keys(3))[0].clone()
    for t, action in enumerate(breaking()):
        twin.step(torch.full((3,), NOOP))
        obs, reward, terminated, truncated, info = env.step(action)
        broke = [t % 5 == 4 and lane == LANE for lane in range(3)]
        assert info.faults.tolist() == truncated.tolist() == info.metrics.reset_mask.tolist() == broke
        assert not terminated.any()
        assert reward.isfinite().all()
        assert not env.backend.faults.any()
        assert env.state.steps.tolist() == [t + 1, (t + 1) % 5, t + 1]
        assert torch.equal(env.state.prev_dist, goal_distance(env.pixels, torch.zeros(72, 80, dtype=torch.uint8)))
        assert torch.equal(obs[[0, 2], -1], twin.screen[[0, 2]])
        assert not any(broke) or torch.equal(obs[LANE], first[LANE])
    assert equal([x[[0, 2]] for x in env.backend.state], twin.snapshot([0, 2]))


def test_gymnasium_and_pufferlib_tell_of_illegal_opcodes() -> None:
    vector, single = PixelsVectorEnv(brittle_env()), PixelsGym(brittle_env(1))
    puffer, stats = PixelsPufferEnv(brittle_env), PixelsVectorEnv(brittle_env(info_mode="stats"))
    for env in (vector, single, puffer, stats):
        env.reset(seed=0)
    for t, action in enumerate(breaking()):
        broke = t % 5 == 4
        *_, truncated, info = vector.step(action.numpy())
        assert truncated.tolist() == info["fault"].tolist() == [False, broke, False]
        assert ("final_info" in info) == broke
        assert not broke or info["final_info"]["fault"][LANE]
        *_, cut, told = single.step(int(action[LANE]))
        assert (cut, told["fault"]) == (broke, broke)
        if broke:
            with pytest.raises(ResetNeeded):
                single.step(NOOP)
            single.reset()
        *_, cut, told = puffer.step(action.numpy())
        assert cut.tolist() == [False, broke, False]
        assert [one["episode_fault"] for one in told] == [1.0] * broke
        assert stats.step(action.numpy())[4]["fault_rate"] == pytest.approx(broke / 3)


def test_pyboy_plays_where_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a warning; and who has no PyBoy either is told what to install."""
    options: dict[str, Any] = {"num_envs": 1, "stack_k": 1, "frames_per_step": 2, "release_after_frames": 1}
    wanted = gym.make_vec(ID, threads=1, **options).reset(seed=0)[0]
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    with pytest.warns(RuntimeWarning, match=r"no C compiler found.*PyBoy plays instead") as caught:
        env = gym.make_vec(ID, threads=1, **options)
    assert len(caught) == 1
    assert isinstance(env.unwrapped.face.backend, PyBoyBackend)  # type: ignore[attr-defined]
    same(env.reset(seed=0)[0], wanted)
    env.close()
    install = r"no C compiler found.*(apt install|xcode-select)"
    with pytest.raises(NoCompilerError, match=install):
        gym.make_vec(ID, backend="gameboy", **options)
    monkeypatch.setitem(sys.modules, "pyboy", None)
    with pytest.raises(NoCompilerError, match=install):
        gym.make_vec(ID, **options)
    with pytest.raises(ValueError, match="PyBoy is not installed: pip install"):
        gym.make(ID, backend="pyboy")
    with pytest.raises(ValueError, match="backend 'gameboi': did you mean 'gameboy'"):
        gym.make(ID, backend="gameboi")


def test_memory_of_the_game_pays() -> None:
    address, length = LANTERN["memory"]["steps"]
    env = PixelsEnv(game(2), reward=MemoryReward(address, length, 0.5), compile="off", stack_k=1)
    env.reset(keys(2))
    script, paid = solution(), torch.zeros(2)
    for action in script[:12]:
        before = env.backend.read_memory(address, length).clone()
        paid += env.step(torch.tensor([action, NOOP]))[1]
        assert before.shape == (2, length)
    walked = env.backend.read_memory(address, length)
    assert walked[0, 0] > 2
    assert paid.tolist() == [walked[0, 0] / 2, 0]


@pytest.mark.slow
@pytest.mark.parametrize("stack_k", [1, 4])
@pytest.mark.parametrize("skip", [False, True])
def test_compiled_game_boys_allocate_nothing(stack_k: int, skip: bool, goal: Tensor, tmp_path: Path) -> None:
    env = GoalEnv(game(3), goal, max_steps=4, stack_k=stack_k, skip_reset_if_empty=skip)
    assert env.compiled
    env.reset(keys(3))
    actions = plays(9, 3, high=8)
    play(env, actions)
    assert allocations(lambda: [env.step(action) for action in actions], tmp_path) == []


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("stack_k", [1, 4])
@pytest.mark.parametrize("skip", [False, True])
def test_a_gpu_plays_the_same_and_allocates_nothing(stack_k: int, skip: bool, goal: Tensor) -> None:
    """And the host waits for nothing, but where it asks who ended."""
    options: dict[str, Any] = {"max_steps": 4, "stack_k": stack_k, "skip_reset_if_empty": skip}
    there = GoalEnv(GameBoy("lantern", 64, "cuda"), goal, **options)
    here = GoalEnv(game(64), goal, compile="off", **options)
    actions = plays(9, 64, high=8)
    on_device = actions.cuda()
    for env in (here, there):
        env.reset(keys(64))
    for ours, wanted in zip(play(there, on_device), play(here, actions), strict=True):
        assert equal([x.cpu() for x in (ours[0], *ours[2:4])], [wanted[0], *wanted[2:4]])
        torch.testing.assert_close(ours[1].cpu(), wanted[1], rtol=0, atol=1e-6)
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    with sync_errors(not skip):
        for action in on_device:
            there.step(action)
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


@contextlib.contextmanager
def sync_errors(wanted: bool) -> Iterator[None]:
    """Within it, an operation of torch that waits for the GPU raises an error, where that is wanted."""
    torch.cuda.set_sync_debug_mode("error" if wanted else "default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
def test_random_agents_rarely_reach_the_goal(goal: Tensor) -> None:
    """At most 2 of 64 lanes in 512 steps. None of 768 did when this was written, nor came nearer than 0.34, so that one
    does with a probability below 0.39 % (95 % confidence); with other keys this test then fails once in 480 times at
    most."""
    env = GoalEnv(game(64), goal, compile="off", stack_k=1, info_mode="none")
    env.reset(keys(64))
    reached = sum(int(env.step(action)[2].sum()) for action in random.randint(random.key(8), (512, 64), high=8))
    assert reached <= 2


@pytest.mark.slow
def test_pyboys_play_the_same(goal: Tensor) -> None:
    """With starts, resets by key, rewards from memory and snapshots, as Game Boys."""
    made = []
    for backend in (game(2), PyBoyBackend("lantern", 2)):
        for action in (3, 0, 6, 6):
            backend.step(torch.tensor([action, 0]))
        kept = backend.snapshot([0, 1])
        reward = MemoryReward(*LANTERN["memory"]["steps"])
        made.append(PixelsEnv(backend, reward=reward, starts=kept, max_steps=5, stack_k=2, compile="off"))
    for env in made:
        env.reset(keys(2))
    ours, theirs = ([without_final(step) for step in play(env, plays(14, 2, high=8))] for env in made)
    assert equal(ours, theirs)
    snapshot = made[1].snapshot()
    after = [without_final(step) for step in play(made[1], plays(6, 2, high=8, seed=8))]
    made[1].restore(snapshot)
    assert equal([without_final(step) for step in play(made[1], plays(6, 2, high=8, seed=8))], after)
    assert equal([without_final(step) for step in play(made[0], plays(6, 2, high=8, seed=8))], after)
    made[1].close()
