"""The torch-native vector face: the steps of the core, whatever the number of lanes, in buffers that take turns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import episodes, random
from armfold.core.check import ShapeError
from armfold.core.envs import bernoulli, drifting
from armfold.core.types import BanditEnv
from armfold.shell.envs.vector import VectorEnv
from tests.corridor import CORRIDOR, Walker
from tests.purity import same_bits
from tests.shell.helpers import allocations
from tests.worlds import BANDITS, ENVS, K

LANES, MOST = (1, 5, 70), 128
every = pytest.mark.parametrize("name", ENVS)
bandits = pytest.mark.parametrize("name", BANDITS)


def keys(lanes: int, seed: int = 0) -> Tensor:
    return random.split(random.key(seed), lanes)


def plays(steps: int, lanes: int, high: int = K, seed: int = 7) -> Tensor:
    """Actions [steps, lanes]; lane i's do not depend on how many there are."""
    return random.randint(random.fold_in(random.key(seed), 0), (steps, MOST), high=high)[:, :lanes]


def copied(tree: Any) -> Any:
    return pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, tree)


def equal(left: Any, right: Any) -> bool:
    """Bit for bit, whatever the layout in memory; what means nothing, of a lane that did not end, is left out."""
    pairs = zip(pytree.tree_leaves(left), pytree.tree_leaves(right), strict=True)
    return all(same_bits(*(x.contiguous() if isinstance(x, Tensor) else x for x in pair)) for pair in pairs)


def rows(value: Any, lanes: int) -> Any:
    return None if value is None else value[:lanes]


@every
@pytest.mark.parametrize("lanes", LANES)
def test_the_steps_are_those_of_the_core(name: str, lanes: int) -> None:
    """Bit for bit, by the lanes of a larger batch stepped by hand, across the ends of episodes."""
    env, actions = ENVS[name], plays(10, MOST)
    face, core = VectorEnv(env, lanes, max_steps=4), episodes.init(env, keys(MOST))
    legal = env.legal if name == "corridor" else lambda state: None
    obs, info = face.reset(keys(lanes))
    assert equal([obs, info.legal], [rows(x, lanes) for x in (env.observe(core.env), legal(core.env))])
    for action in actions:
        *seen, info = face.step(action[:lanes])
        core, outcome = episodes.step(env, core, action, max_steps=4)
        ended, last = (outcome.terminated | outcome.truncated)[:lanes], env.observe(core.env)
        core = episodes.restart(env, core, outcome.terminated | outcome.truncated)
        wanted = [env.observe(core.env), *outcome[:3], legal(core.env), outcome.regret]
        assert equal([*seen, info.legal, info.regret], [rows(x, lanes) for x in wanted])
        if last is not None:
            assert equal(info.final_obs[ended], last[:lanes][ended])
        assert equal(face.totals, pytree.tree_map(lambda x: x[:lanes], core.totals))
        assert equal(face.state, pytree.tree_map(lambda x: x[:lanes], core.env))
    assert core.begun.unique().numel() > 1 or core.begun[0] == 8


@settings(max_examples=4)
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 66]), st.none() | st.integers(1, 5))
def test_episodes_against_plain_python(seed: int, lanes: int, max_steps: int | None) -> None:
    rng, some = keys(lanes, seed), range(0, lanes, 13)
    walkers = {i: Walker(rng[i], max_steps) for i in some}
    face = VectorEnv(CORRIDOR, lanes, max_steps=max_steps)
    obs, info = face.reset(rng)
    for action in plays(12, lanes, high=4, seed=seed):
        before = info.legal
        obs, reward, terminated, truncated, info = face.step(action)
        assert before is not info.legal
        for i, walker in walkers.items():
            seen = walker.step(int(action[i]))
            got = (reward[i].item(), terminated[i].item(), truncated[i].item(), int(obs[i].argmax()))
            assert got == seen[:4]
            assert obs[i].sum() == 1
            assert not (seen.terminated or seen.truncated) or int(info.final_obs[i].argmax()) == seen.last
            assert info.legal[i].tolist() == [True, True, seen.place % 2 == 0, True]


@bandits
def test_a_bandit_without_a_limit_never_ends(name: str) -> None:
    face = VectorEnv(ENVS[name], 3)
    face.reset(keys(3))
    for action in plays(7, 3):
        _, _, terminated, truncated, _ = face.step(action)
        assert not (terminated | truncated).any()


@every
def test_what_a_step_returned_is_valid_until_the_second_one_after_it(name: str) -> None:
    face = VectorEnv(ENVS[name], 70, max_steps=3)
    returned: list[tuple[Any, Any]] = []

    def check(new: Any) -> None:
        returned.append((new, copied(new)))
        assert all(equal(*pair) for pair in returned[-2:])

    check(face.reset(keys(70)))
    for t, action in enumerate(plays(12, 70)):
        check(face.step(action))
        if t % 5 == 4:
            check(face.restart(torch.arange(70) % 3 == 0))
        if t == 8:
            check(face.restore(face.snapshot()))
    places = {x.data_ptr() for (x, *_), _ in returned if x is not None}
    assert len(places) == (0 if name in ("bernoulli", "drifting", "gaussian") else 2)


@every
def test_restart_begins_new_episodes_in_the_lanes_it_is_told(name: str) -> None:
    env, lanes = ENVS[name], 70
    face, core = VectorEnv(env, lanes, max_steps=5), episodes.init(env, keys(MOST))
    face.reset(keys(lanes))
    for t, action in enumerate(plays(12, MOST)):
        if t in (0, 1, 2, 7):
            chosen = torch.arange(MOST) % 3 == t % 3
            core = episodes.restart(env, core, chosen)
            obs, info = face.restart(chosen[:lanes])
            assert equal(obs, rows(env.observe(core.env), lanes))
            assert not info.regret.any()
        core, outcome = episodes.step(env, core, action, max_steps=5)
        core = episodes.restart(env, core, outcome.terminated | outcome.truncated)
        obs, *seen, _ = face.step(action[:lanes])
        assert equal([obs, *seen], [rows(x, lanes) for x in (env.observe(core.env), *outcome[:3])])
    assert equal(face.totals.reward, core.totals.reward[:lanes])


@every
def test_a_snapshot_goes_on_bit_for_bit(name: str) -> None:
    actions, lanes = plays(14, 70), 70
    face, other = VectorEnv(ENVS[name], lanes, max_steps=4), VectorEnv(ENVS[name], lanes, max_steps=4)
    face.reset(keys(lanes))
    for action in actions[:6]:
        seen = face.step(action)[0]
    kept = face.snapshot()
    held = copied(kept)
    obs, _ = other.restore(kept)  # in a face that was never reset
    assert equal(obs, seen)
    rest = [copied(face.step(action)[:4]) for action in actions[6:]]
    assert equal(rest, [copied(other.step(action)[:4]) for action in actions[6:]])
    face.restore(kept)  # and in the one that it is from
    assert equal(rest, [copied(face.step(action)[:4]) for action in actions[6:]])
    assert equal(kept, held)
    assert equal(face.totals, other.totals)


def test_reset_begins_anew_and_close_lets_go() -> None:
    face, action = VectorEnv(ENVS["contextual"], 5, max_steps=3), plays(4, 5)

    def play(seed: int) -> list[Any]:
        return [copied(face.reset(keys(5, seed))[0]), *(copied(face.step(a)[:4]) for a in action)]

    first = play(0)
    assert not equal(first, play(1))
    assert equal(first, play(0))
    assert face.totals.reward.tolist() == sum(reward.double() for _, reward, *_ in first[1:]).tolist()
    face.close()
    for use in (lambda: face.step(action[0]), face.snapshot, lambda: face.totals, lambda: face.state):
        with pytest.raises(ValueError, match="reset"):
            use()
    assert equal(first, play(0))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_actions_of_any_integer_dtype(dtype: torch.dtype) -> None:
    face, action = VectorEnv(bernoulli(arms=K), 5), torch.tensor([0, 1, 2, 1, 0])
    face.reset(keys(5))
    wanted = copied(face.step(action)[1])
    face.reset(keys(5))
    assert equal(face.step(action.to(dtype))[1], wanted)
    face.reset(keys(5))
    assert equal(face.step(action.tolist())[1], wanted)


def test_an_action_that_is_no_arm_is_paid_nan() -> None:
    face = VectorEnv(bernoulli(arms=K), 4)
    face.reset(keys(4))
    _, reward, *_ = face.step(torch.tensor([-1, 0, K, 2]))
    assert reward.isnan().tolist() == [True, False, True, False]


def test_wrong_arguments_are_refused() -> None:
    env = bernoulli(arms=K)
    for options in ({"lanes": 0}, {"lanes": 2.0}, {"max_steps": 0}, {"compile": "yes"}, {"device": "there"}):
        (name, value), *_ = options.items()
        with pytest.raises(ValueError, match=rf"{name} .*{value}"):
            VectorEnv(env, **{"lanes": 3, **options})
    with pytest.raises(ValueError, match=r"env .*int"):
        VectorEnv(3, 3)  # type: ignore[arg-type]
    face = VectorEnv(env, 3)
    for use in (lambda: face.step(torch.zeros(3, dtype=torch.int64)), lambda: face.restart(torch.ones(3) > 0)):
        with pytest.raises(ValueError, match=r"reset\(keys\) first"):
            use()
    for bad in (keys(2), keys(3).int(), keys(3)[0], torch.zeros(3, 3, dtype=torch.int64)):
        with pytest.raises(ShapeError, match="rng"):
            face.reset(bad)
    face.reset(keys(3))
    floats = torch.zeros(3)
    for actions in (floats, floats > 0, floats.to(torch.complex64), torch.zeros(2, dtype=torch.int64), torch.tensor(0)):
        with pytest.raises(ShapeError, match="actions"):
            face.step(actions)
    for ended in (torch.ones(3), torch.ones(2, dtype=torch.bool), torch.tensor(True)):
        with pytest.raises(ShapeError, match="ended"):
            face.restart(ended)
    with pytest.raises(ShapeError, match="ended must be a tensor, got list"):
        face.restart([True] * 3)  # type: ignore[arg-type]
    other = VectorEnv(env, 70)
    other.reset(keys(70))
    for taker in (face, VectorEnv(env, 3)):
        with pytest.raises(ShapeError, match=r"lanes\.time .*\(64,\).*\(128,\)"):
            taker.restore(other.snapshot())


def test_outputs_may_be_the_users_own() -> None:
    env = ENVS["contextual"]
    own = VectorEnv(env, 5)
    own.reset(keys(5))
    made = copied(own._outputs[:1])
    face = VectorEnv(env, 5, outputs=made)
    obs, _ = face.reset(keys(5))
    assert obs is made[0].obs
    for action in plays(3, 5):
        assert equal(face.step(action), own.step(action))
        assert made[0].reward is face.step(action)[1]
        own.step(action)


# Compiled


@pytest.mark.slow
@pytest.mark.parametrize("name", ["contextual", "corridor"])
def test_compiled_lanes_take_the_steps_of_eager_ones_and_allocate_nothing(name: str, tmp_path: Path) -> None:
    """Contexts up to rounding, all that is discrete exactly."""
    env, lanes = ENVS[name], 70
    eager, compiled = (VectorEnv(env, lanes, max_steps=4, compile=mode) for mode in ("off", "on"))
    assert (eager.compiled, compiled.compiled) == (False, True)
    for face in (eager, compiled):
        face.reset(keys(lanes))
    actions = plays(30, lanes)
    for action in actions:
        ours, wanted = compiled.step(action), eager.step(action)
        assert equal(ours[1:4], wanted[1:4])
        torch.testing.assert_close((ours[0], ours[4].regret), (wanted[0], wanted[4].regret), rtol=0, atol=1e-5)
    assert equal(compiled.totals.reward, eager.totals.reward)
    steps = 3 if isinstance(env, BanditEnv) else 8  # lanes of a bandit start again in a step of their own, an eager one
    compiled.reset(keys(lanes))
    assert allocations(lambda: [compiled.step(action) for action in actions[:steps]], tmp_path) == []


def test_tunables_may_differ_from_lane_to_lane() -> None:
    sigma = torch.linspace(0.01, 0.5, 70)
    face = VectorEnv(lambda lane: drifting(arms=K, sigma=sigma[lane]), 70)
    face.reset(keys(70))
    alone = VectorEnv(drifting(arms=K, sigma=sigma[13].item()), 1)
    alone.reset(keys(70)[13:14])
    for action in plays(5, 70):
        face.step(action)
        alone.step(action[13:14])
    torch.testing.assert_close(face.means()[13:14], alone.means())
    with pytest.raises(ValueError, match="or make one, got int"):
        VectorEnv(lambda lane: 3, 4)  # type: ignore[arg-type, return-value]


def test_only_bandits_have_means() -> None:
    face = VectorEnv(CORRIDOR, 3)
    with pytest.raises(ValueError, match="reset"):
        face.means()
    face.reset(keys(3))
    with pytest.raises(ValueError, match="this environment is an Env"):
        face.means()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compile", ["off", "on"])
@every
def test_a_gpu_takes_the_same_steps(name: str, compile: Any) -> None:
    here, there = (
        VectorEnv(ENVS[name], 70, max_steps=4),
        VectorEnv(ENVS[name], 70, max_steps=4, device="cuda", compile=compile),
    )
    seen = [face.reset(keys(70))[0] for face in (here, there)]
    for action in plays(10, 70):
        torch.testing.assert_close(*(None if x is None else x.cpu() for x in seen), rtol=1e-4, atol=1e-4)
        left, right = here.step(action), there.step(action.cuda())
        seen = [left[0], right[0]]
        for x, y in zip(left[2:4], right[2:4], strict=True):
            assert torch.equal(x, y.cpu())
        assert (left[1] - right[1].cpu()).abs().gt(1e-4).double().mean() < 0.1  # a coin may fall otherwise
