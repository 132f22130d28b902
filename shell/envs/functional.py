"""The face of Gymnasium's functional interface: a bandit environment as it is in the core."""

from typing import Any

import torch
from gymnasium.experimental.functional import FuncEnv
from torch import Tensor

from armfold.core.types import BanditEnv
from armfold.shell.envs.spaces import bandit_spaces


class BanditFuncEnv(FuncEnv[Any, Tensor, Tensor, Tensor, Tensor, Any, Any]):
    """Pure functions of torch's tensors with any lane dimensions *B: Gymnasium's names for those of a `BanditEnv`.

    `rng` is a key of `armfold.core.random`, int64 [*B, 2]; `transition` and `reward` of one step take the same one.
    Observations are [*B, K, d], or [*B, 1] of zeros where there is no context; actions int64 [*B].
    """

    def __init__(self, env: BanditEnv, options: dict[str, Any] | None = None) -> None:
        """A view of `env`. options: attributes to set, as Gymnasium has it."""
        super().__init__(options)
        self.env = env
        self.observation_space, self.action_space = bandit_spaces(env)

    def initial(self, rng: Tensor, params: Any = None) -> Any:
        """The state at the start."""
        return self.env.init(rng)

    def observation(self, state: Any, rng: Tensor | None = None, params: Any = None) -> Tensor:
        """What the state shows; nothing is drawn."""
        obs = self.env.observe(state)
        return torch.zeros_like(self.env.means(state)[..., :1]) if obs is None else obs

    def transition(self, state: Any, action: Tensor, rng: Tensor, params: Any = None) -> Any:
        """The state after the pull."""
        return self.env.pull(state, rng, action)[0]

    def reward(self, state: Any, action: Tensor, next_state: Any, rng: Tensor, params: Any = None) -> Tensor:
        """What the pull pays, [*B]."""
        return self.env.pull(state, rng, action)[1]

    def terminal(self, state: Any, rng: Tensor | None = None, params: Any = None) -> Tensor:
        """False, [*B]: a bandit never ends."""
        return torch.zeros_like(self.env.means(state)[..., 0], dtype=torch.bool)

    def state_info(self, state: Any, params: Any = None) -> dict[str, Any]:
        """The expected rewards now, [*B, K]."""
        return {"means": self.env.means(state)}
