"""Gymnasium's faces: its own checkers, its own vectors and the core agree with them, bit for bit where nothing else is
said."""

import copy
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from armfold.core import random, simulate
from armfold.core.envs import bernoulli, classification, contextual, dataset, drifting, gaussian, logistic
from armfold.core.types import Bandit, BanditEnv
from armfold.shell import simulate as run
from armfold.shell.envs.functional import BanditFuncEnv
from armfold.shell.envs.gymnasium import BanditGym, BanditVectorEnv
from armfold.shell.envs.registered import make_single
from armfold.shell.envs.vector import VectorEnv
from tests.purity import check_pure, same_bits
from tests.shell.helpers import labelled

K, D, MOST = 3, 4, 128
THETA = random.normal(random.key(2), (K, D))
X, P = random.normal(random.key(1), (11, K, 2)), random.uniform(random.key(3), (11, K))
ENVS: dict[str, BanditEnv] = {
    "bernoulli": bernoulli(arms=K),
    "drifting": drifting(arms=K, sigma=0.2),
    "gaussian": gaussian(arms=K),
    "contextual": contextual(theta=THETA),
    "dataset": dataset(x=X, p=P),
    "classification": labelled("blocks"),
}
every = pytest.mark.parametrize("name", ENVS)
IDS = [f"armfold/{name}Bandit-v0" for name in ("Bernoulli", "Drifting", "Contextual", "Dataset")]


def plays(steps: int, lanes: int) -> "np.ndarray[Any, Any]":
    """Actions [steps, lanes]; lane i's do not depend on how many there are."""
    return random.randint(random.key(7), (steps, MOST), high=K)[:, :lanes].numpy()


def bits(x: Any) -> Any:
    """What may be compared with ==, NaNs and signs of zeros included."""
    if isinstance(x, dict):
        return {key: bits(value) for key, value in x.items()}
    if isinstance(x, tuple | list):
        return [bits(value) for value in x]
    if isinstance(x, torch.Tensor):
        return bits(x.numpy())
    if isinstance(x, np.ndarray):
        return [bits(value) for value in x] if x.dtype == object else (str(x.dtype), x.shape, x.tobytes())
    return x


# Registration


@pytest.mark.parametrize("id", IDS)
def test_gymnasium_finds_no_fault(id: str) -> None:
    """Warnings are errors here."""
    env = gym.make(id)
    check_env(env.unwrapped)
    env.reset(seed=1)
    for _ in range(3):
        env.step(env.action_space.sample())
    env.close()


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "classification"])
def test_gymnasium_finds_no_fault_with_any_bandit(name: str) -> None:
    env = BanditGym(ENVS[name], limit=10.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not having a spec")
        check_env(env)


def test_names_are_known_as_soon_as_armfold_is_imported() -> None:
    """And torch comes only with use. Gymnasium 1 looks for no entry points; `armfold:` before a name imports it."""
    code = f"""
import sys, armfold, gymnasium
heavy = [name for name in sys.modules if name == "torch" or name.startswith("armfold.")]
assert not heavy, heavy
assert all(id in gymnasium.registry for id in {IDS}), "not registered"
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert gym.make(f"armfold:{IDS[0]}", arms=5).action_space.n == 5
    without = "import sys; sys.modules['gymnasium'] = None; import armfold"
    assert subprocess.run([sys.executable, "-c", without], check=False).returncode == 0


def test_keywords_are_those_of_the_core() -> None:
    made: dict[str, tuple[dict[str, Any], BanditEnv]] = {
        "Bernoulli": ({"p": [0.2, 0.5, 0.9]}, bernoulli(p=(0.2, 0.5, 0.9))),
        "Drifting": ({"arms": 3, "sigma": 0.3, "boundary": "reflect"}, drifting(arms=3, sigma=0.3, boundary="reflect")),
        "Contextual": ({"theta": THETA.tolist()}, contextual(theta=THETA)),
        "Dataset": (
            {"x": X[:, 0].double().numpy(), "p": P, "context": "blocks"},
            dataset(x=X[:, 0], p=P, context="blocks"),
        ),
    }
    for name, (options, core) in made.items():
        env, wanted = gym.make(f"armfold/{name}Bandit-v0", **options), BanditGym(core)
        vector = gym.make_vec(f"armfold/{name}Bandit-v0", num_envs=3, max_steps=2, **options)
        assert env.unwrapped.spec is not None
        seen = vector.reset(seed=5)[0]
        assert bits([env.reset(seed=5), seen[0]]) == bits([wanted.reset(seed=5), wanted.reset(seed=5)[0]])
        for t, action in enumerate(plays(4, 3)):
            assert bits(env.step(action[0])) == bits(wanted.step(action[0]))
            assert vector.step(action)[3].all() == (t % 2 == 1)
    assert gym.make(IDS[0]).action_space.n == 10
    assert json.loads(gym.spec(IDS[0]).to_json())["kwargs"] == {"env": "bernoulli"}


def test_data_sets_from_files(tmp_path: Any) -> None:
    np.savez(tmp_path / "data.npz", X=X.numpy(), P=P.numpy())
    (tmp_path / "data.csv").write_text("size,kind\n1,a\n-4,b\n3,a\n")
    env = gym.make(IDS[3], path=tmp_path / "data.npz")
    assert bits(env.reset(seed=1)) == bits(BanditGym(dataset(x=X, p=P)).reset(seed=1))
    assert env.observation_space.high.max() == X.abs().max()
    env = gym.make(IDS[3], path=str(tmp_path / "data.csv"), context="blocks")
    core = classification(x=torch.tensor([[1.0], [-4.0], [3.0]]), y=torch.tensor([0, 1, 0]), arms=2, context="blocks")
    assert bits(env.reset(seed=1)) == bits(BanditGym(core).reset(seed=1))
    assert env.observation_space == gym.spaces.Box(-4, 4, (2, 2), np.float32)


@pytest.mark.parametrize(
    ("id", "options", "complaint"),
    [
        (IDS[0], {"arms": 1}, "arms .*1"),
        (IDS[0], {"arms": 3, "p": [0.1, 0.2]}, "either p or arms"),
        (IDS[0], {"p": ["a", "b"]}, "p must be numbers"),
        (IDS[0], {"p": [0.1, 1.5]}, r"p must lie in \[0, 1\], got 1.5"),
        (IDS[0], {"max_steps": 0}, "max_steps .*0"),
        (IDS[0], {"compile": "yes"}, "compile .*yes"),
        (IDS[0], {"env": "bernouli"}, "did you mean 'bernoulli'"),
        (IDS[0], {"render_mode": "human"}, "render_mode .*human"),
        (IDS[1], {"sigma": -1.0}, "sigma .*-1"),
        (IDS[2], {"theta": [[1.0], [2.0, 3.0]]}, "theta must be numbers"),
        (IDS[3], {"path": "nowhere.csv"}, "no such file"),
        (IDS[3], {"context": "block"}, "context .*block"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*render_mode")  # of Gymnasium's own
def test_bad_keywords_are_refused(id: str, options: dict[str, Any], complaint: str) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=complaint):
            make(id, **options)
        with pytest.raises(TypeError, match="colour"):
            make(id, colour=1)


# Parity


def fed(actions: "np.ndarray[Any, Any]") -> Bandit:
    """A learner that plays the rows of `actions`, whatever happens."""
    table = torch.tensor(actions)
    return Bandit(
        lambda rng: torch.zeros(rng.shape[:-1], dtype=torch.int64),
        lambda state, rng, obs: table[int(state[0]), : len(state)],
        lambda state, rng, obs, action, reward: state + 1,
        lambda state, rng, obs, samples: torch.full((len(state), K), 1 / K),
    )


@every
def test_every_face_shows_what_the_core_has(name: str) -> None:
    """Observations, states, logits, probabilities, rewards and regrets of a seed, in one lane and in many."""
    env, steps = ENVS[name], 6
    actions = plays(steps, MOST)
    bandit = fed(actions)
    core = simulate.init(bandit, env, random.split(random.key(4), MOST))
    single, vectors = BanditGym(env), [BanditVectorEnv(env, lanes) for lanes in (1, 5, 70)]
    torch_native = VectorEnv(env, 5)
    obs = [single.reset(seed=4)[0][None], *(vector.reset(seed=4)[0] for vector in vectors)]
    obs.append(torch_native.reset(random.split(random.key(4), 5))[0])
    for t in range(steps + 1):
        context, means = env.observe(core.env), env.means(core.env)
        for face, seen in zip([single, *vectors, torch_native], obs, strict=True):
            lanes = 1 if face is single else face.num_envs
            if context is not None:
                assert bits(seen) == bits(context[:lanes])
            elif face is not torch_native:
                assert seen.shape == (lanes, 1)
                assert not seen.any()
            states = zip(face.state, core.env, strict=True)
            assert all(bits(x[None] if face is single else x) == bits(y[:lanes]) for x, y in states)
            if name == "contextual":
                logits = logistic.logits(face.state)
                assert bits(logits[None] if face is single else logits) == bits(logistic.logits(core.env)[:lanes])
            if face is not torch_native:
                assert bits(face.means() if face is not single else face.means()[None]) == bits(means[:lanes])
        if t == steps:
            break
        core, trace = simulate.step(bandit, env, core)
        one, reward, terminated, truncated, info = single.step(actions[t, 0])
        assert (reward, info["regret"]) == (trace.reward[0].item(), trace.regret[0].item())
        assert not terminated
        assert not truncated
        obs = [one[None]]
        for vector in vectors:
            seen, reward, terminated, truncated, info = vector.step(actions[t, : vector.num_envs])
            wanted = (trace.reward[: vector.num_envs], trace.regret[: vector.num_envs])
            assert bits([reward, info["regret"]]) == bits(wanted)
            assert not terminated.any()
            assert not truncated.any()
            obs.append(seen)
        obs.append(torch_native.step(torch.tensor(actions[t, :5]))[0])


def test_a_learner_outside_meets_what_simulate_meets() -> None:
    """Rewards of a whole run by hand, in a vector environment, are those of `simulate` with the same seed."""
    result = run(fed(plays(9, 128)), ENVS["contextual"], steps=9, runs=128, seed=11, compile="off", progress=False)
    vector = BanditVectorEnv(ENVS["contextual"], 128)
    vector.reset(seed=11)
    total = sum(vector.step(action)[1].astype(np.float64) for action in plays(9, 128))
    assert (total / 9).tolist() == result.reward.tolist()  # a step


# Seeds and episodes


@every
def test_gymnasiums_own_vector_agrees(name: str) -> None:
    """SyncVectorEnv over single environments, with the same list of seeds, through three episodes: everything but
    infos["regret"] of lanes that ended, where ours has the action's and theirs nothing."""
    env, seeds = ENVS[name], [5, 0, 2**40, 5]
    theirs = SyncVectorEnv([lambda: BanditGym(env, max_steps=3)] * 4, autoreset_mode=AutoresetMode.SAME_STEP)
    ours = BanditVectorEnv(env, 4, max_steps=3)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]
    assert bits(ours.reset(seed=seeds)) == bits(theirs.reset(seed=seeds))
    for t, action in enumerate(plays(9, 4)):
        if t == 4:
            mask = np.array([False, True, False, True])
            got, wanted = (face.reset(options={"reset_mask": mask.copy()}) for face in (ours, theirs))
            assert bits(got) == bits(wanted)
        (obs, reward, *ends, info), (obs_, reward_, *ends_, info_) = ours.step(action), theirs.step(action)
        assert bits([obs, ends]) == bits([obs_, ends_])
        assert reward.tolist() == reward_.tolist()
        ended = ends[1]
        assert info.keys() == info_.keys() | {"regret", "_regret"}
        assert set(info) == {"regret", "_regret"} | (
            {"final_obs", "_final_obs", "final_info", "_final_info"} if ended.any() else set()
        )
        if not ended.all():
            assert info["regret"][~ended].tolist() == info_["regret"][~ended].tolist()
            assert info_["_regret"].tolist() == (~ended).tolist()
        if ended.any():
            assert bits([info["final_obs"], info["_final_obs"]]) == bits([info_["final_obs"], info_["_final_obs"]])
            assert info["final_info"]["regret"].tolist() == info_["final_info"]["regret"].tolist()
            assert info["regret"][ended].tolist() == info["final_info"]["regret"][ended].tolist()
            for key in ("_final_info", "final_info"):
                mask = info[key] if key[0] == "_" else info[key]["_regret"]
                assert mask.tolist() == ended.tolist()


def test_statistics_of_episodes() -> None:
    vector = RecordEpisodeStatistics(BanditVectorEnv(ENVS["gaussian"], 5, max_steps=4))
    vector.reset(seed=3)
    returns, episodes = np.zeros(5), []
    for t, action in enumerate(plays(12, 5)):
        _, reward, _, truncated, info = vector.step(action)
        returns += reward
        if t % 4 == 3:
            assert truncated.all()
            assert info["episode"]["l"].tolist() == [4] * 5
            episodes += info["episode"]["r"].tolist()
            np.testing.assert_allclose(info["episode"]["r"], returns)
            returns[:] = 0
    assert list(vector.return_queue) == episodes


def start(env: Any) -> Any:
    """What the first steps of an episode show, expected rewards included."""
    action = np.array([1, 2, 0, 1, 2])
    first = env.reset()[0]
    return bits([first, env.means(), *(env.step(action if hasattr(env, "num_envs") else 1)[:2] for _ in range(2))])


@every
@pytest.mark.parametrize("make", [BanditGym, lambda env, **options: BanditVectorEnv(env, 5, **options)])
def test_seeds(name: str, make: Callable[..., Any]) -> None:
    """A seed starts over, without one the next episode comes, and who was never seeded draws from its own generator."""
    first, second = make(ENVS[name]), make(ENVS[name])
    for env in (first, second):
        env.reset(seed=1)
    assert start(first) == start(second)
    later = start(first)
    assert later == start(second)
    assert later != start(first)
    first.reset(seed=1)
    start(first)
    assert start(first) == later
    unseeded, other, third = make(ENVS[name]), make(ENVS[name]), make(ENVS[name])
    for env, entropy in ((unseeded, 1), (other, 1), (third, 2)):
        env.np_random = np.random.default_rng(entropy)
    assert start(unseeded) == start(other)
    assert start(make(ENVS[name])) != start(third)
    assert unseeded.np_random_seed == -1


def test_seeds_of_lanes() -> None:
    env = ENVS["contextual"]
    vector, single = BanditVectorEnv(env, 3), BanditGym(env)
    many = vector.reset(seed=[9, 4, 9])[0]
    assert bits(list(many)) == bits([single.reset(seed=seed)[0] for seed in (9, 4, 9)])
    assert bits(vector.reset(seed=4)[0][0]) == bits(many[1])
    for bad in ([1, 2], 1.5, "abcd", [1, 2, None], [1, 2, 2**64]):
        with pytest.raises(ValueError, match="seed"):
            vector.reset(seed=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed"):
        vector.reset(seed=2**64)
    for face in (vector, single):
        with pytest.raises(gym.error.Error, match="greater or equal to zero"):
            face.reset(seed=-1)


def test_an_episode_ends_and_waits_for_reset() -> None:
    env = BanditGym(ENVS["drifting"], max_steps=3)
    for use in (lambda: env.step(0), env.means, lambda: env.state):
        with pytest.raises((ResetNeeded, ValueError), match="reset"):
            use()
    env.reset(seed=0)
    for t in range(3):
        before = env.means()
        assert env.step(0)[3] is (t == 2)
    assert not np.array_equal(env.means(), before)
    last = env.means()
    with pytest.raises(ResetNeeded, match="ended"):
        env.step(0)
    assert np.array_equal(env.means(), last)  # still that of the episode that ended
    env.reset()
    assert not np.array_equal(env.means(), last)
    env.step(0)
    env.close()
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.close()
    endless = BanditGym(ENVS["bernoulli"], max_steps=None)
    endless.reset(seed=0)
    assert not any(endless.step(0)[3] for _ in range(5))


def test_a_vector_waits_for_reset() -> None:
    vector = BanditVectorEnv(ENVS["bernoulli"], 3)
    with pytest.raises(ResetNeeded, match="reset"):
        vector.step(np.zeros(3, int))
    with pytest.raises(ValueError, match="after a first reset"):
        vector.reset(options={"reset_mask": np.ones(3, bool)})
    vector.reset(seed=1)
    vector.close()
    with pytest.raises(ResetNeeded, match="reset"):
        vector.step(np.zeros(3, int))


# Bad input


@pytest.mark.parametrize("action", [-1, K, 1.0, "1", None, True, np.array([1]), np.float32(1), np.bool_(True), 10**30])
def test_what_is_no_action_is_refused(action: Any) -> None:
    env, other = BanditGym(ENVS["contextual"]), BanditGym(ENVS["contextual"])
    for each in (env, other):
        each.reset(seed=0)
    with pytest.raises(ValueError, match=r"action must be an integer in \[0, 3\), got"):
        env.step(action)
    assert bits(env.step(0)) == bits(other.step(0))  # nothing was lost


@pytest.mark.parametrize("action", [2, np.int64(2), np.uint8(2), np.array(2), torch.tensor(2)])
def test_any_integer_is_an_action(action: Any) -> None:
    env = BanditGym(ENVS["contextual"])
    env.reset(seed=0)
    wanted = env.step(2)
    env.reset(seed=0)
    assert bits(env.step(action)) == bits(wanted)


@pytest.mark.parametrize(
    "actions",
    [
        np.zeros(3),
        np.zeros(2, int),
        np.array([0, 1, K]),
        np.array([0, -1, 1]),
        np.ones(3, bool),
        1,
        np.zeros((3, 1), int),
        None,
    ],
)
def test_what_are_no_actions_are_refused(actions: Any) -> None:
    vector = BanditVectorEnv(ENVS["bernoulli"], 3)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="actions must"):
        vector.step(actions)


def test_actions_of_any_kind_of_array() -> None:
    vector, plain = BanditVectorEnv(ENVS["contextual"], 3), np.array([2, 0, 1])
    still = plain.copy()
    still.setflags(write=False)
    seen = []
    for actions in (plain, [2, 0, 1], plain.astype(np.uint8), plain[::-1].copy()[::-1], still, torch.tensor(plain)):
        vector.reset(seed=0)
        seen.append(bits(vector.step(actions)))
    assert all(one == seen[0] for one in seen)


def test_options_that_are_not_known_are_refused() -> None:
    single, vector = BanditGym(ENVS["bernoulli"]), BanditVectorEnv(ENVS["bernoulli"], 3)
    mask = np.array([True, False, True])
    for env in (single, vector):
        env.reset(seed=0, options={})
        with pytest.raises(ValueError, match="no option 'low'"):
            env.reset(options={"low": 1})
    with pytest.raises(ValueError, match="no option 'reset_mask'"):
        single.reset(options={"reset_mask": mask})
    for bad in (mask.tolist(), mask[:2], mask.astype(int), np.zeros(3, bool)):
        with pytest.raises(ValueError, match="reset_mask must be"):
            vector.reset(options={"reset_mask": bad})
    with pytest.raises(ValueError, match="without a seed"):
        vector.reset(seed=0, options={"reset_mask": mask})


# Arrays


@pytest.mark.parametrize("name", ["bernoulli", "contextual"])
@pytest.mark.parametrize("kept", [True, False])
def test_arrays_stay_as_they_are_for_ever_or_until_the_second_step(name: str, kept: bool) -> None:
    vector = BanditVectorEnv(ENVS[name], 5, max_steps=3, copy=kept)
    returned = [vector.reset(seed=0)]
    before = [copy.deepcopy(bits(returned[0]))]
    mask = np.array([True, False, True, False, True])
    for t, action in enumerate(plays(9, 5)):
        returned.append(vector.step(action))
        before.append(bits(returned[-1]))
        if t == 4:
            returned.append(vector.reset(options={"reset_mask": mask}))
            before.append(bits(returned[-1]))
        valid = slice(0 if kept else -2, None)
        assert [bits(x) for x in returned[valid]] == before[valid]
    rewards = [x[1] for x in returned if len(x) == 5]
    shared = [np.shares_memory(rewards[0], later) for later in rewards[1:]]
    assert any(shared) is not kept
    infos = [x[4] for x in returned if len(x) == 5 and "final_obs" in x[4]]
    assert len(infos) >= 2
    assert [bits(x["final_obs"]) for x in infos] == [
        b[4]["final_obs"] for b in before if len(b) == 5 and "final_obs" in b[4]
    ]


def test_an_environment_copied_goes_its_own_way() -> None:
    env = BanditGym(ENVS["contextual"])
    env.reset(seed=0)
    env.step(1)
    twin = copy.deepcopy(env)
    wanted = [bits(env.step(action)) for action in (0, 1, 2)]
    assert [bits(twin.step(action)) for action in (0, 1, 2)] == wanted


# FuncEnv


@every
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_the_functional_view_is_the_core(name: str, batch: tuple[int, ...]) -> None:
    env, view = ENVS[name], BanditFuncEnv(ENVS[name])
    rng = random.split(random.key(0), max(1, torch.Size(batch).numel())).reshape(*batch, 2)
    state = check_pure(view.initial, rng)
    assert all(same_bits(x, y) for x, y in zip(state, env.init(rng), strict=True))
    for t in range(3):
        key, action = random.fold_in(rng, t), torch.full(batch, t)
        obs, wanted = check_pure(view.observation, state, key), env.observe(state)
        assert same_bits(obs, torch.zeros(*batch, 1) if wanted is None else wanted)
        assert obs.shape == (*batch, *view.observation_space.shape)
        moved = check_pure(view.transition, state, action, key)
        reward = check_pure(view.reward, state, action, moved, key)
        following, paid = env.pull(state, key, action)
        assert all(same_bits(x, y) for x, y in zip((*moved, reward), (*following, paid), strict=True))
        assert same_bits(view.terminal(moved, key), torch.zeros(batch, dtype=torch.bool))
        assert same_bits(view.state_info(state)["means"], env.means(state))
        state = moved
    assert view.action_space == gym.spaces.Discrete(K)


def test_the_functional_view_may_be_transformed() -> None:
    view, rng = BanditFuncEnv(ENVS["contextual"]), random.split(random.key(0), 4)
    wanted = view.observation(view.initial(rng), rng)
    view.transform(torch.func.vmap)
    assert torch.equal(view.observation(view.initial(rng), rng), wanted)


def test_what_make_takes_is_what_it_says() -> None:
    assert make_single("gaussian", arms=4).action_space.n == 4
    assert make_single("abrupt", arms=4, period=3, max_steps=None).max_steps is None


def test_seeds_of_numpy_are_seeds() -> None:
    env, lanes = BanditGym(bernoulli(arms=K)), BanditVectorEnv(bernoulli(arms=K), 2)
    env.reset(seed=np.int64(5))
    one = env.means()
    env.reset(seed=5)
    assert np.array_equal(one, env.means())
    lanes.reset(seed=[np.int64(5), 7])
    assert np.array_equal(one, lanes.means()[0])
