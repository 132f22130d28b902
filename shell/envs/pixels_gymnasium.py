"""Pixel environments as Gymnasium knows them: one lane, and many at once.

A seed means what it means to bandits: a lane reset with the seed s has the key of lane 0 of `split(key(s), N)`.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from armfold.shell.envs.pixel_env import TaskEnv
from armfold.shell.envs.pixel_steps import Info
from armfold.shell.envs.spaces import (
    Array,
    add_final,
    begin_episodes,
    check_action,
    check_actions,
    check_reset_mask,
    pixel_spaces,
    plain_seed,
    to_array,
)

_FRAMES_PER_SECOND = 4194304 / 70224
_RGB = np.repeat(np.array([[255], [170], [85], [0]], np.uint8), 3, axis=1)  # of the shades 0 to 3


class PixelsGym(gymnasium.Env[Array, np.int64]):
    """One lane of a pixel environment; `face` is the `TaskEnv` beneath.

    Observations [K, 72, 80] uint8, shades 0 to 3. Infos of info_mode "full": dist, where there is a goal, and fault,
    whether an illegal opcode has stopped the machine, which cuts the episode off; of "stats": those of this lane,
    and fault_rate.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": _FRAMES_PER_SECOND}  # noqa: RUF012

    def __init__(self, face: TaskEnv, *, render_mode: str | None = None) -> None:
        """`face`, a `PixelsEnv` or `GoalEnv` with one lane, which no longer starts again by itself. render_mode:
        "rgb_array" for images of the screen as the backend draws it. Raises ValueError."""
        if face.num_envs != 1:
            raise ValueError(f"face must have num_envs 1, got {face.num_envs}; PixelsVectorEnv takes any number")
        self.render_mode, self.metadata = _check_render_mode(render_mode), _metadata(self.metadata, face)
        self.observation_space, self.action_space = pixel_spaces(face.stack_k, len(face.backend.actions))
        self.face = face
        face.autoreset = False  # what has ended stays as it is until `reset`
        self._begun, self._over = False, True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """The first observation of an episode: the lane's first one for a seed, its next one without."""
        seed = plain_seed(seed)
        super().reset(seed=seed)
        check_reset_mask(options, None)
        obs, info = begin_episodes(self.face, seed, None, begun=self._begun, generator=self.np_random)
        self._begun, self._over = True, False
        return to_array(obs, True)[0], _lane_info(info)

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take an action: observation, reward, terminated, truncated, info.

        Raises ValueError for an action that is no integer in [0, A), ResetNeeded outside of an episode.
        """
        if self._over:
            raise ResetNeeded("no episode has begun, or it has ended: call reset() first")
        taken = check_action(action, int(self.action_space.n))  # type: ignore[attr-defined]
        obs, reward, *ends, info = self.face.step(torch.tensor([taken], device=self.face.device))
        terminated, truncated = (bool(end.item()) for end in ends)
        self._over = terminated or truncated
        return to_array(obs, True)[0], reward.item(), terminated, truncated, _lane_info(info)

    def render(self) -> Array | None:
        """The screen, uint8 [H, W, 3], white to black; None without a render_mode."""
        return _images(self.face)[0] if self.render_mode else None

    def close(self) -> None:
        """Close the machine beneath. It is over then."""
        self.face.close()
        self._begun, self._over = False, True


class PixelsVectorEnv(gymnasium.vector.VectorEnv[Array, Array, Array]):
    """N lanes of a pixel environment stepped at once; `face` is the `TaskEnv` beneath, which has torch's tensors.

    Observations [N, K, 72, 80] uint8, shades 0 to 3; rewards [N] float32. Lanes that end start again within the same
    step, and infos have what Gymnasium's own vectors have in this mode, each with its mask: final_info and, unless the
    face was made with final_obs False, final_obs. Infos of info_mode "full": dist, where there is a goal, and fault,
    both [N] and of the step just taken; of "stats": numbers that sum up all lanes, and
    fault_rate, the share of them that an illegal opcode has stopped.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": ["rgb_array"],
        "render_fps": _FRAMES_PER_SECOND,
    }

    def __init__(self, face: TaskEnv, *, copy: bool = True, render_mode: str | None = None) -> None:
        """`face`, a `PixelsEnv` or `GoalEnv`. copy: hand out arrays of their own; else views, valid until the second
        step after. render_mode: "rgb_array" for images of the screens as the backend draws them. Raises ValueError."""
        if not face.autoreset:
            raise ValueError("face must have autoreset True, got False")
        self.render_mode, self.metadata = _check_render_mode(render_mode), _metadata(self.metadata, face)
        seen, actions = pixel_spaces(face.stack_k, len(face.backend.actions))
        self.single_observation_space, self.single_action_space = seen, actions
        self.face, self.num_envs, self.copy = face, face.num_envs, copy
        self.observation_space, self.action_space = (batch_space(space, self.num_envs) for space in (seen, actions))
        self._begun = False

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """The first observations of episodes: of the lanes' first ones for a seed, of their next ones without.

        seed: s for lanes 0 to N - 1 of the seed s; or N seeds: each lane is lane 0 of its own. options:
        {"reset_mask": bool [N]} for new episodes of some lanes only. Raises ValueError for others.
        """
        seed = plain_seed(seed)
        super().reset(seed=seed if isinstance(seed, int) else None)
        mask = check_reset_mask(options, self.num_envs)
        obs, info = begin_episodes(self.face, seed, mask, begun=self._begun, generator=self.np_random)
        self._begun = True
        return to_array(obs, self.copy), self._lane_infos(info)

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Take `actions`, integers [N]: observations, rewards, terminations, truncations, infos.

        Raises ValueError for actions of another dtype or shape, or outside [0, A), ResetNeeded before `reset`.
        """
        if not self._begun:
            raise ResetNeeded("the lanes have not begun: call reset() first")
        checked = check_actions(actions, self.num_envs, int(self.single_action_space.n))  # type: ignore[attr-defined]
        obs, *outcome, info = self.face.step(checked.to(self.face.device))
        reward, terminated, truncated = (to_array(x, self.copy) for x in outcome)
        infos, ended = self._lane_infos(info), terminated | truncated
        if ended.any():
            lanes = {name: value for name, value in infos.items() if isinstance(value, np.ndarray) and name[0] != "_"}
            last = None if info.final_obs is None else to_array(info.final_obs, True)
            add_final(infos, ended, last, lanes)
        return to_array(obs, self.copy), reward, terminated, truncated, infos

    def _lane_infos(self, info: Info) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for name, value in _told(info).items():
            infos[name] = to_array(value, self.copy) if value.ndim else value.item()
            if value.ndim:
                infos[f"_{name}"] = np.ones(self.num_envs, np.bool_)
        return infos

    def render(self) -> tuple[Array, ...] | None:
        """The screens, N of uint8 [H, W, 3], white to black; None without a render_mode."""
        return tuple(_images(self.face)) if self.render_mode else None

    def close_extras(self, **kwargs: Any) -> None:
        """Close the machines beneath. They are over then."""
        self.face.close()
        self._begun = False


def _told(info: Info) -> dict[str, Tensor]:
    """What the metrics tell, by name, with faults; but not the ends, which everybody is told."""
    told = {name: value for name, value in info.metrics._asdict().items() if value is not None}
    if told.pop("reset_mask", None) is not None:
        told["fault"] = info.faults
    elif told:
        told["fault_rate"] = info.faults.double().mean()
    return told


def _lane_info(info: Info) -> dict[str, Any]:
    return {name: value.squeeze().item() for name, value in _told(info).items()}


def _check_render_mode(render_mode: str | None) -> str | None:
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
    return render_mode


def _metadata(metadata: dict[str, Any], face: TaskEnv) -> dict[str, Any]:
    return metadata | {"render_fps": _FRAMES_PER_SECOND / face.backend.frames_per_step}


def _images(face: TaskEnv) -> Array:
    images: Array = _RGB[to_array(face.backend.screen, False)]
    return images
