"""Where the keys of a run's lanes come from."""

from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import check_seed, check_size


class Seeds(NamedTuple):
    """What the keys of each lane come from."""

    env: Tensor  # [runs, 2] int64, key of the seed that serves arms, contexts and rewards
    agent: Tensor  # [runs, 2] int64, key of the learner's seed
    number: Tensor  # [runs] int64, number of the lane

    def keys(self, lane: Tensor) -> tuple[Tensor, Tensor]:
        """The runs' keys [n, 2] at lane [n]: for the environment and for the learner."""
        number = self.number[lane]
        return random.fold_in(self.env[lane], number), random.fold_in(self.agent[lane], number)


def find_seeds(
    seed: int | Tensor, agent_seed: int | Tensor | None, number: int | Tensor, *, runs: int, device: torch.device
) -> Seeds:
    """The seeds of `runs` lanes: each an integer (the first one's, of lanes' numbers), or int64 [runs]."""
    agent_seed = seed if agent_seed is None else agent_seed
    for name, value in {"seed": seed, "agent_seed": agent_seed, "first_run": number}.items():
        if isinstance(value, Tensor) and (value.dtype != torch.int64 or value.shape != (runs,)):
            raise ValueError(f"{name} must be an integer or int64 [{runs}], got {value.dtype} {tuple(value.shape)}")
        if not isinstance(value, Tensor) and name != "first_run":
            check_seed(name, value)
    if not isinstance(number, Tensor):
        check_size("first_run", number, low=0)
        number = number + torch.arange(runs)
    env, agent = (random.key(value, device=device).expand(runs, 2) for value in (seed, agent_seed))
    return Seeds(env, agent, number.to(device))
