"""The faces that Gymnasium knows: one lane, and many at once.

A seed means what it means to `simulate`: an environment reset with the seed s is lane 0 of `simulate(seed=s)`, and a
vector environment of N lanes has lanes 0 to N - 1.
"""

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core.check import check_size
from armfold.core.types import BanditEnv
from armfold.shell.compiled import Mode
from armfold.shell.envs.spaces import (
    Array,
    add_final,
    bandit_spaces,
    begin_episodes,
    check_action,
    check_actions,
    check_reset_mask,
    plain_seed,
    to_array,
)
from armfold.shell.envs.vector import Info, VectorEnv


class BanditGym(gymnasium.Env[Array, np.int64]):
    """One lane of a bandit environment; `face` is the `VectorEnv` beneath.

    Observations [K, d] float32, or [1], always 0, where there is no context; K actions; episodes are cut off after
    `max_steps`. `info["regret"]` is the regret of the action just taken, in expectation.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self, env: BanditEnv, *, max_steps: int | None = 1000, compile: Mode = "off", limit: float = math.inf
    ) -> None:
        """A lane of `env`. max_steps: of an episode; None: it has no end. compile: as of `VectorEnv`. limit: what no
        feature exceeds, for the observation space. Raises ValueError."""
        if max_steps is not None:
            check_size("max_steps", max_steps)
        seen, actions = self.observation_space, self.action_space = _spaces(env, limit)
        self._shape, self._arms = seen.shape, int(actions.n)
        self.max_steps = max_steps
        self.face = VectorEnv(env, 1, compile=compile)  # without an end: what has ended stays as it is until `reset`
        self._begun, self._left = False, 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """The first observation of an episode: the lane's first one for a seed, its next one without."""
        seed = plain_seed(seed)
        super().reset(seed=seed)
        check_reset_mask(options, None)
        obs, _ = begin_episodes(self.face, seed, None, begun=self._begun, generator=self.np_random)
        self._begun, self._left = True, self.max_steps or math.inf
        return self._show(obs), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Pull an arm: observation, reward, terminated (never), truncated, info.

        Raises ValueError for an action that is no integer in [0, K), ResetNeeded outside of an episode.
        """
        if self._left <= 0:
            raise ResetNeeded("no episode has begun, or it has ended: call reset() first")
        arm = check_action(action, self._arms)
        obs, reward, _, _, info = self.face.step(torch.tensor([arm]))
        self._left -= 1
        return self._show(obs), reward.item(), False, self._left <= 0, {"regret": info.regret.item()}

    def _show(self, obs: Tensor | None) -> Array:
        return _seen(obs, (1, *self._shape), copy=True)[0]  # type: ignore[no-any-return]

    @property
    def state(self) -> Any:
        """The state of the core's environment, without a lane dimension; the next step changes it."""
        return pytree.tree_map(lambda x: x[0], self.face.state)

    def means(self) -> Array:
        """Expected rewards of the arms now, [K] float32."""
        return self.face.means()[0].numpy()

    def close(self) -> None:
        """Let go of the buffers. The environment can be reset again."""
        self.face.close()
        self._begun, self._left = False, 0.0


class BanditVectorEnv(gymnasium.vector.VectorEnv[Array, Array, Array]):
    """N lanes of a bandit environment stepped at once; `face` is the `VectorEnv` beneath, which has torch's tensors.

    Observations [N, K, d] float32, or [N, 1] of zeros; rewards [N] float32. Lanes that have taken `max_steps` are
    truncated and start again within the same step, and infos have what Gymnasium's own vectors have in this mode:
    final_obs and final_info, each with its mask. infos["regret"] [N] is always that of the actions just taken.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        env: BanditEnv,
        num_envs: int = 1,
        *,
        max_steps: int | None = 1000,
        compile: Mode = "off",
        copy: bool = True,
        limit: float = math.inf,
    ) -> None:
        """`num_envs` lanes of `env`. copy: hand out arrays of their own; else views, valid until the second step after.
        The other arguments are those of `BanditGym`. Raises ValueError."""
        seen, actions = self.single_observation_space, self.single_action_space = _spaces(env, limit)
        self._shape, self._arms = seen.shape, int(actions.n)
        self.face = VectorEnv(env, num_envs, max_steps=max_steps, compile=compile)
        self.num_envs, self.copy = num_envs, copy
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._begun = False

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """The first observations of episodes: of the lanes' first ones for a seed, of their next ones without.

        seed: s for lanes 0 to N - 1 of `simulate(seed=s)`; or N seeds: each lane is lane 0 of its own. options:
        {"reset_mask": bool [N]} for new episodes of some lanes only. Raises ValueError for others.
        """
        seed = plain_seed(seed)
        super().reset(seed=seed if isinstance(seed, int) else None)
        mask = check_reset_mask(options, self.num_envs)
        obs, _ = begin_episodes(self.face, seed, mask, begun=self._begun, generator=self.np_random)
        self._begun = True
        return self._show(obs), {}

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Pull the arms `actions`, integers [N]: observations, rewards, terminations (none), truncations, infos.

        Raises ValueError for actions of another dtype or shape, or outside [0, K), ResetNeeded before `reset`.
        """
        if not self._begun:
            raise ResetNeeded("the lanes have not begun: call reset() first")
        obs, *outcome, info = self.face.step(check_actions(actions, self.num_envs, self._arms))
        reward, terminated, truncated = (to_array(x, self.copy) for x in outcome)
        return self._show(obs), reward, terminated, truncated, self._infos(info, truncated)

    def _show(self, obs: Tensor | None) -> Array:
        return _seen(obs, (self.num_envs, *self._shape), self.copy)

    def _infos(self, info: Info, ended: Array) -> dict[str, Any]:
        regret = to_array(info.regret, self.copy)
        infos: dict[str, Any] = {"regret": regret, "_regret": np.ones(self.num_envs, np.bool_)}
        if ended.any():
            last = _seen(info.final_obs, (self.num_envs, *self._shape), copy=True)
            add_final(infos, ended, last, {"regret": regret})
        return infos

    @property
    def state(self) -> Any:
        """The state [N, ...] of the core's environment; the next step changes it."""
        return self.face.state

    def means(self) -> Array:
        """Expected rewards of the arms now, [N, K] float32."""
        return self.face.means().numpy()

    def close_extras(self, **kwargs: Any) -> None:
        """Let go of the buffers."""
        self.face.close()
        self._begun = False


def _spaces(env: BanditEnv, limit: float) -> tuple[Box, Discrete]:
    seen, actions = bandit_spaces(env)
    if np.isinf(seen.high).any() and limit < math.inf:
        seen = Box(-limit, limit, seen.shape, np.float32)
    return seen, actions


def _seen(obs: Tensor | None, shape: Sequence[int], copy: bool) -> Array:
    """Observations as an array of `shape`, zeros where there are none."""
    return np.zeros(shape, np.float32) if obs is None else obs.numpy().astype(np.float32, copy=copy)
