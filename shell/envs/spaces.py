"""What hosts of environments share: spaces, seeds, checks, and numpy arrays that are views of a face's buffers."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from armfold.core import random
from armfold.core.types import BanditEnv
from armfold.shell.envs.pixel_steps import FRAME

Array = np.ndarray[Any, Any]


def bandit_spaces(env: BanditEnv) -> tuple[Box, Discrete]:
    """The spaces of one lane: observations [K, d] float32, or [1], always 0, where there is no context; K actions."""
    state = env.init(random.key(0))
    obs, arms = env.observe(state), env.means(state).shape[-1]
    if obs is None:
        return Box(0.0, 1.0, (1,), np.float32), Discrete(arms)
    return Box(-np.inf, np.inf, tuple(obs.shape), np.float32), Discrete(arms)


def pixel_spaces(stack_k: int, actions: int) -> tuple[Box, Discrete]:
    """The spaces of one lane: observations [K, 72, 80] uint8, shades 0 to 3, and so many actions."""
    return Box(0, 3, (stack_k, *FRAME), np.uint8), Discrete(actions)


def check_actions(actions: Any, lanes: int, arms: int) -> torch.Tensor:
    """Actions as a tensor [N] of integers. Raises ValueError for another dtype or shape, or values outside [0, K)."""
    array = np.asarray(actions)
    if array.dtype.kind not in "iu" or array.shape != (lanes,):
        raise ValueError(f"actions must be integers of shape ({lanes},), got {array.dtype} {array.shape}")
    if array.min() < 0 or array.max() >= arms:
        wrong = array[(array < 0) | (array >= arms)][0]
        raise ValueError(f"actions must lie in [0, {arms}), got {wrong}")
    return torch.from_numpy(array.astype(np.int64, order="C"))  # a copy: it may be read-only, or run backwards


def draw_seed(generator: np.random.Generator) -> int:
    """A seed for an environment that was given none."""
    return int(generator.integers(2**63))


def seed_keys(seed: int | Sequence[int], lanes: int) -> Tensor:
    """The keys [N, 2] of lanes 0 to N - 1 of one seed, or of lane 0 of each of N."""
    if isinstance(seed, int):
        return random.split(random.key(seed), lanes)
    if not isinstance(seed, Sequence) or len(seed) != lanes:
        raise ValueError(f"seed must be an integer or a list of {lanes}, got {seed!r}")
    return random.fold_in(torch.stack([random.key(plain_seed(value)) for value in seed]), 0)


def begin_episodes(
    face: Any, seed: int | Sequence[int] | None, mask: Tensor | None, *, begun: bool, generator: np.random.Generator
) -> Any:
    """What a face sees, and its `Info`, as the first episodes of a seed begin, or without one the next of the lanes of
    a mask, or of all. Where none has begun yet and there is no seed, `generator` draws one.

    Raises ValueError for a mask with a seed, or before a first reset.
    """
    if mask is not None and (seed is not None or not begun):
        raise ValueError("reset_mask comes without a seed, which starts every lane, and after a first reset")
    if seed is None and not begun:
        seed = draw_seed(generator)
    if seed is not None:
        return face.reset(seed_keys(seed, face.num_envs).to(face.device))
    chosen = torch.ones(face.num_envs, dtype=torch.bool) if mask is None else mask
    return face.restart(chosen.to(face.device))


def plain_seed(seed: Any) -> Any:
    """A seed of numpy's as Python's own."""
    return seed.item() if isinstance(seed, np.integer) else seed


def check_reset_mask(options: dict[str, Any] | None, lanes: int | None) -> Tensor | None:
    """The lanes to reset, bool [N]; None: all. Raises ValueError for any other option."""
    for name, value in (options or {}).items():
        if name != "reset_mask" or lanes is None:
            raise ValueError(f"reset knows no option {name!r}")
        if not isinstance(value, np.ndarray) or value.dtype != np.bool_ or value.shape != (lanes,) or not value.any():
            raise ValueError(f"reset_mask must be a bool array [{lanes}] that is true somewhere, got {value!r}")
        return torch.from_numpy(value.copy())  # torch takes no array that is read-only or runs backwards
    return None


def check_action(action: Any, arms: int) -> int:
    """An action of one lane. Raises ValueError for what is no integer in [0, K)."""
    try:
        arm = -1 if isinstance(action, bool | np.bool_) else operator.index(action)
    except TypeError:
        arm = -1
    if not 0 <= arm < arms:
        raise ValueError(f"action must be an integer in [0, {arms}), got {action!r}")
    return arm


def to_array(x: Tensor, copy: bool) -> Array:
    """`x` as an array: a copy, or a view of the same memory, where that is the host's."""
    array: Array = x.numpy(force=True)
    return array.copy() if copy and x.device.type == "cpu" else array


def add_final(infos: dict[str, Any], ended: Array, last: Array | None, lanes: dict[str, Array]) -> None:
    """What Gymnasium's vectors tell of lanes that ended and started again within a step: final_obs, from `last`
    [N, ...] where that is kept, and final_info, from the infos [N] of `lanes`, each with its mask."""
    if last is not None:
        final_obs = np.full(len(ended), None, dtype=object)
        for lane in np.flatnonzero(ended):
            final_obs[lane] = last[lane]
        infos |= {"final_obs": final_obs, "_final_obs": ended.copy()}
    final_info: dict[str, Any] = {}
    for name, values in lanes.items():
        final_info |= {name: np.where(ended, values, values.dtype.type(0)), f"_{name}": ended.copy()}
    infos |= {"final_info": final_info, "_final_info": ended.copy()}
