"""Lanes whose episodes end and start again: the steps of `simulate`, another key for every draw, lanes on their own."""

from functools import partial
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._pytree import tree_leaves, tree_map

from armfold.core import episodes, random, simulate
from armfold.core.bandits import epsilon_greedy
from armfold.core.check import ShapeError
from armfold.core.envs import bernoulli, drifting
from armfold.core.types import Env, Step
from tests.corridor import CORRIDOR, Walker
from tests.purity import check_pure, same_bits
from tests.worlds import BANDITS, ENVS, K

bandits = pytest.mark.parametrize("name", BANDITS)


def keys(batch, seed=0):
    return random.split(random.key(seed), max(1, torch.Size(batch).numel())).reshape(*batch, 2)


def same(left, right):
    """Bitwise, whatever the layout in memory."""
    left, right = tree_map(torch.Tensor.contiguous, (left, right))
    return all(same_bits(a, b) for a, b in zip(tree_leaves(left), tree_leaves(right), strict=True))


@bandits
@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
def test_the_steps_are_those_of_simulate(name, batch):
    """A learner plays; its actions, fed to lanes with the same keys, meet the same world bit for bit."""
    env, rng = ENVS[name], keys(batch)
    bandit = epsilon_greedy(arms=K, epsilon=0.5)
    carry, lanes = simulate.init(bandit, env, rng), episodes.init(env, rng)
    sums = episodes.Totals(0.0, 0.0, 0)
    for _ in range(6):
        assert same(lanes.env, carry.env)
        carry, trace = simulate.step(bandit, env, carry)
        lanes, outcome = episodes.step(env, lanes, trace.action)
        assert same([outcome.reward, outcome.regret], [trace.reward, trace.regret])
        assert not (outcome.terminated | outcome.truncated).any()
        told = trace.regret.double(), trace.reward.double(), trace.optimal
        sums = episodes.Totals(*(total + value for total, value in zip(sums, told, strict=True)))
    assert same(lanes.env, carry.env)
    assert same(lanes.time, carry.time)
    assert same(lanes.totals, sums)


@settings(max_examples=5)
@given(st.integers(0, 2**32), st.none() | st.integers(1, 6))
def test_episodes_against_plain_python(seed, max_steps):
    rng, count = keys((4,), seed), 15
    actions = random.randint(random.fold_in(random.key(seed), 99), (count, 4), high=4)
    walkers, lanes = [Walker(key, max_steps) for key in rng], episodes.init(CORRIDOR, rng)
    assert lanes.env.place.tolist() == [walker.place for walker in walkers]
    earned = 0.0
    for action in actions:
        wanted = [walker.step(int(a)) for walker, a in zip(walkers, action, strict=True)]
        lanes, outcome = episodes.step(CORRIDOR, lanes, action, max_steps=max_steps)
        assert outcome.reward.tolist() == [seen.reward for seen in wanted]
        assert outcome.terminated.tolist() == [seen.terminated for seen in wanted]
        assert outcome.truncated.tolist() == [seen.truncated for seen in wanted]
        assert lanes.env.place.tolist() == [seen.last for seen in wanted]
        assert not outcome.regret.any()
        lanes = episodes.restart(CORRIDOR, lanes, outcome.terminated | outcome.truncated)
        assert lanes.env.place.tolist() == [seen.place for seen in wanted]
        assert (lanes.time - lanes.begun).tolist() == lanes.env.steps.tolist() == [w.taken for w in walkers]
        earned += torch.tensor([seen.reward for seen in wanted], dtype=torch.float64)
    assert torch.equal(lanes.totals.reward, earned)
    assert lanes.time.tolist() == [count] * 4


def test_bandits_are_cut_off_and_walk_on_in_new_arms():
    env = drifting(arms=K)
    lanes, starts = episodes.init(env, keys((6,))), []
    for t in range(1, 10):
        begun = lanes.env.p
        starts += [begun] if (t - 1) % 3 == 0 else []
        lanes, outcome = episodes.step(env, lanes, torch.full((6,), t % K), max_steps=3)
        assert (outcome.truncated == (t % 3 == 0)).all()
        lanes = episodes.restart(env, lanes, outcome.truncated)
        assert lanes.begun.tolist() == [t // 3 * 3] * 6
    values = torch.cat(starts).flatten()
    assert len(values) == len(values.unique()) == 3 * 6 * K


class Nested(NamedTuple):
    """A state of states, with something that is no tensor."""

    pair: tuple
    name: str


def nested():
    def init(rng):
        drawn = random.uniform(rng)
        return Nested((drawn, torch.stack((drawn, -drawn), -1)), "nested")

    def step(state, rng, action):
        ended = torch.zeros_like(action, dtype=torch.bool)
        return state, Step(state.pair[0], ended, ended)

    return Env(init, lambda state: state.pair[1], lambda state: None, step)


def test_only_lanes_that_ended_start_again():
    env, ended = nested(), torch.tensor([[True, False, True], [False, False, True]])
    lanes, _ = episodes.step(env, episodes.init(env, keys((2, 3))), torch.zeros(2, 3, dtype=torch.int64))
    restarted = episodes.restart(env, lanes, ended)
    assert restarted.env.name == "nested"
    for new, old in zip(restarted.env.pair, lanes.env.pair, strict=True):
        assert torch.equal(new[~ended], old[~ended])
        assert (new[ended] != old[ended]).all()
    assert torch.equal(restarted.begun, ended.long())
    assert same([restarted.rng, restarted.time, restarted.totals], [lanes.rng, lanes.time, lanes.totals])


def test_an_episode_without_a_step_is_followed_by_another_one():
    """Else who resets twice would meet the same arms again."""
    env, lanes = bernoulli(arms=K), episodes.init(bernoulli(arms=K), keys((4,)))
    ended, seen = torch.tensor([True, True, False, True]), [lanes.env.p]
    for _ in range(3):
        lanes = episodes.restart(env, lanes, ended)
        seen.append(lanes.env.p)
    assert len(torch.stack(seen)[:, ended].flatten().unique()) == 4 * 3 * K
    assert all(torch.equal(p[2], seen[0][2]) for p in seen)
    assert lanes.time.tolist() == lanes.begun.tolist() == [3, 3, 0, 3]


def test_no_key_serves_twice():
    """Every key that a lane's steps or its episodes are drawn from, in every lane, is another one."""
    given, used = {}, []

    def note(name, at):
        def noting(*arguments):
            given[name] = arguments[at]
            return getattr(CORRIDOR, name)(*arguments)

        return noting

    env = CORRIDOR._replace(init=note("init", 0), step=note("step", 1))
    lanes, actions = episodes.init(env, keys((20,))), random.randint(random.key(5), (40, 20), high=4)
    used.append(given["init"])
    for action in actions:
        lanes, outcome = episodes.step(env, lanes, action, max_steps=4)
        ended = outcome.terminated | outcome.truncated
        lanes = episodes.restart(env, lanes, ended)
        used += [given["step"], given["init"][ended]]  # for other lanes, what `init` drew is not looked at
    for _ in range(2):
        ended = lanes.time == lanes.begun
        assert ended.any()
        lanes = episodes.restart(env, lanes, ended)
        used.append(given["init"][ended])
    lanes, _ = episodes.step(env, lanes, actions[0])
    every_key = torch.cat([*used, given["step"]])
    assert len(every_key) > 20 * (2 + 40 + 10)
    assert len(every_key.unique(dim=0)) == len(every_key)


def move(env, lanes, action):
    moved, outcome = episodes.step(env, lanes, action, max_steps=2)
    return episodes.restart(env, moved, outcome.terminated | outcome.truncated), outcome


def some_way_on(env, action):
    lanes, _ = episodes.step(env, episodes.init(env, keys((5,))), action)
    return episodes.restart(env, lanes, torch.tensor([True, False, False, True, False]))


@pytest.mark.parametrize("name", ENVS)
def test_lanes_are_pure_and_on_their_own(name, variants):
    env, action = ENVS[name], torch.tensor([0, 2, 1, 0, 2])
    lanes = some_way_on(env, action)
    check_pure(partial(episodes.init, env), keys((5,)))
    check_pure(partial(move, env), lanes, action)
    variants(partial(episodes.init, env), keys((5,)), exact=True, traced=False)
    _, outcome = variants(partial(move, env), lanes, action, traced=False)
    assert (outcome.truncated | outcome.terminated).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["corridor", "contextual"])
def test_lanes_traced_agree(name, variants):
    action = torch.tensor([0, 2, 1, 0, 2])
    variants(partial(move, ENVS[name]), some_way_on(ENVS[name], action), action)


def test_an_end_by_the_rules_is_no_cut():
    def step(state, rng, action):
        return state, Step(state.pair[0], action == 0, action <= 1)

    env, action = nested()._replace(step=step), torch.tensor([0, 1, 2])
    for max_steps, cut in ((1, [False, True, True]), (2, [False, True, False]), (None, [False, True, False])):
        _, outcome = episodes.step(env, episodes.init(env, keys((3,))), action, max_steps=max_steps)
        assert outcome.terminated.tolist() == [True, False, False]
        assert outcome.truncated.tolist() == cut


def test_wrong_keys_and_actions_are_refused():
    rng = keys((4,))
    for bad in (rng.int(), rng.double(), torch.tensor(1), torch.zeros(4, 3, dtype=torch.int64)):
        with pytest.raises(ShapeError, match=r"rng "):
            episodes.init(bernoulli(arms=K), bad)
    lanes = episodes.init(bernoulli(arms=K), rng)
    for bad in (torch.zeros(4), torch.zeros(3, dtype=torch.int64), torch.tensor(0)):
        with pytest.raises(ShapeError, match=r"action "):
            episodes.step(bernoulli(arms=K), lanes, bad)
