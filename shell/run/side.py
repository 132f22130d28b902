"""The learner's side of a run against a host: what selects and updates, and the buffers through which they meet."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import random
from armfold.core import simulate as core
from armfold.core.types import Bandit, BanditEnv, State
from armfold.shell.buffers import LANES, Layout, write
from armfold.shell.compiled import Mode, bind, choose, lane_tunables, tensor_tunables
from armfold.shell.run.bandit import check_arms
from armfold.shell.run.seeds import Seeds, find_seeds

Array = np.ndarray[Any, Any]


class Learner(NamedTuple):
    """What a batch of lanes carries on the learner's side."""

    state: State
    rng: Tensor  # [n, 2] int64, the learner's keys
    time: Tensor  # [n] int64, the step at hand, counted from 1


def select(bandit: Bandit, learner: Learner, obs: Tensor | None, action: Tensor) -> None:
    """The next action of every lane, written into `action`."""
    action.copy_(core.choose(bandit, learner.state, learner.rng, learner.time, obs))


def update(bandit: Bandit, learner: Learner, obs: Tensor | None, action: Tensor, reward: Tensor) -> None:
    """Learn from one step of every lane, written into `learner`."""
    state = core.learn(bandit, learner.state, learner.rng, learner.time, obs, action, reward)
    write(learner, Learner(state, learner.rng, learner.time + 1))


class _Crossing:
    """A buffer on the device, and one beside the host through which it is filled or read: pinned where that is CUDA,
    elsewhere the same memory."""

    def __init__(self, shape: tuple[int, ...], lanes: int, dtype: torch.dtype, device: torch.device) -> None:
        self.there = torch.zeros(shape, dtype=dtype, device=device)
        self.part = self.there[:lanes]  # what lies beyond only fills the last vector
        pinned = device.type == "cuda"
        self.here = torch.zeros_like(self.part, device="cpu", pin_memory=True) if pinned else self.part
        self.array: Array = self.here.numpy()

    def fill(self, values: Array) -> None:
        """Copy `values` to the device."""
        np.copyto(self.array, values)
        if self.here is not self.part:
            self.part.copy_(self.here, non_blocking=True)

    def read(self) -> Array:
        """What is on the device; the next `read` changes it."""
        if self.here is not self.part:
            self.here.copy_(self.part)
        return self.array


class Side:
    """The learner's side of one batch: its state, and the buffers through which it meets the host, made once."""

    def __init__(self, bandit: Bandit, seeds: Seeds, lanes: slice, obs_shape: tuple[int, ...] | None) -> None:
        self.lanes, self.device = lanes.stop - lanes.start, seeds.number.device
        filled = -(-self.lanes // LANES) * LANES  # every lane goes through the same vector code
        lane = torch.arange(lanes.start, lanes.start + filled, device=self.device).clamp(max=lanes.stop - 1)
        self.bandit: Bandit = lane_tunables(bandit, lane, seeds.number.numel())
        rng = core.agent_key(seeds.keys(lane)[1])
        state = self.bandit.init(random.fold_in(rng, 0))
        self.layout = Layout(all(leaf.ndim <= 2 for leaf in pytree.tree_leaves(state)), filled)
        start = Learner(state, rng, torch.ones(filled, dtype=torch.int64, device=self.device))
        self.learner: Learner = pytree.tree_map(self.layout.lay, start)
        self.action = _Crossing((filled,), self.lanes, torch.int64, self.device)
        self.reward = _Crossing((filled,), self.lanes, torch.float32, self.device)
        self.obs = (
            None if obs_shape is None else _Crossing((filled, *obs_shape), self.lanes, torch.float32, self.device)
        )

        self.lowest = np.full(self.lanes, np.inf, np.float32)  # rewards met
        self.highest = np.full(self.lanes, -np.inf, np.float32)

    def pay(self, rewards: Array) -> None:
        """Take in the rewards [n] of the last actions."""
        np.minimum(self.lowest, rewards, out=self.lowest)
        np.maximum(self.highest, rewards, out=self.highest)
        self.reward.fill(rewards)

    def bind(self, select: Callable[..., None], update: Callable[..., None]) -> None:
        """Make `select` and `update` this side's own."""
        obs, action, reward = self.obs and self.obs.there, self.action.there, self.reward.there
        self.select = bind(select, self.bandit, self.learner, obs, action)
        self.update = bind(update, self.bandit, self.learner, obs, action, reward)


def make_side(bandit: Bandit, env: BanditEnv, lanes: int, *, seed: int = 0, compile: Mode = "off") -> Side:
    """The learner's side of lanes 0 to `lanes` - 1, on the CPU: for loops of your own around a `Host`."""
    cpu = torch.device("cpu")
    bandit, seeds = tensor_tunables(bandit, cpu), find_seeds(seed, None, 0, runs=lanes, device=cpu)
    with torch.no_grad():
        side = Side(bandit, seeds, slice(0, lanes), context_shape(bandit, env, seeds))
    side.bind(*(choose(function, compile, device=cpu, calls=0)[0] for function in (select, update)))
    return side


def context_shape(bandit: Bandit, env: BanditEnv, seeds: Seeds) -> tuple[int, ...] | None:
    """The shape [K, d] of the context, None where there is none. Raises ValueError where the arms differ."""
    lane = torch.zeros(2, dtype=torch.int64, device=seeds.number.device)
    learner, world = lane_tunables(bandit, lane, seeds.number.numel()), tensor_tunables(env, lane.device)
    few = core.init(learner, world, seeds.keys(lane)[0])
    check_arms(learner, world, few)
    obs = env.observe(few.env)
    return None if obs is None else tuple(obs.shape[1:])
