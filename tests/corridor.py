"""A small environment whose episodes end in every way there is, and the same in plain Python, a lane at a time."""

from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import random, simulate
from armfold.core.types import Env, Step

LENGTH = 7  # places 0 to 6: a pit, a corridor, a goal
LEFT, RIGHT, REST, SLEEP = range(4)


class State(NamedTuple):
    """Where each lane is."""

    place: Tensor  # [*B] int64
    steps: Tensor  # [*B] int64


def init(rng: Tensor) -> State:
    place = 1 + random.randint(rng, high=LENGTH - 2)
    return State(place, torch.zeros_like(place))


def observe(state: State) -> Tensor:
    return (state.place.unsqueeze(-1) == torch.arange(LENGTH, device=state.place.device)).float()


def legal(state: State) -> Tensor:
    """Everything, but resting at odd places."""
    odd = state.place % 2 == 1
    yes = torch.ones_like(odd)
    return torch.stack((yes, yes, ~odd, yes), -1)


def step(state: State, rng: Tensor, action: Tensor) -> tuple[State, Step]:
    """A step, which slips the other way one time in four; resting costs nothing, sleeping cuts the episode off."""
    slip = random.bernoulli(rng, 0.25)
    move = torch.where(action == RIGHT, 1, torch.where(action == LEFT, -1, 0))
    place = state.place + torch.where(slip, -move, move)
    goal, pit = place == LENGTH - 1, place == 0
    reward = torch.where(goal, 1.0, torch.where(pit, -1.0, torch.where(action == REST, 0.0, -0.125)))
    return State(place, state.steps + 1), Step(reward, goal | pit, action == SLEEP)


CORRIDOR = Env(init, observe, legal, step)


class Seen(NamedTuple):
    """What a lane shows of one step, and of the episode that began after it where one ended."""

    reward: float
    terminated: bool
    truncated: bool
    place: int
    last: int  # the place where the step led, before a new episode


class Walker:
    """One lane in plain Python: its rules, its keys and its episodes."""

    def __init__(self, rng: Tensor, max_steps: int | None) -> None:
        self.rng, self.max_steps, self.time = simulate.env_key(rng), max_steps, 0
        self._begin()

    def _begin(self) -> None:
        key = random.fold_in(random.jump(self.rng, -self.time), 0)
        self.place, self.taken = 1 + int(random.randint(key, high=LENGTH - 2)), 0

    def step(self, action: int) -> Seen:
        self.time += 1
        self.taken += 1
        slip = bool(random.bernoulli(random.jump(self.rng, self.time), 0.25))
        move = {LEFT: -1, RIGHT: 1}.get(action, 0)
        self.place += -move if slip else move
        terminated = self.place in (0, LENGTH - 1)
        truncated = not terminated and (action == SLEEP or self.taken == self.max_steps)
        reward = {0: -1.0, LENGTH - 1: 1.0}.get(self.place, 0.0 if action == REST else -0.125)
        last = self.place
        if terminated or truncated:
            self._begin()
        return Seen(reward, terminated, truncated, self.place, last)
