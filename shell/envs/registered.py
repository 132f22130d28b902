"""What makes the environments that armfold registers with Gymnasium (`armfold/__init__.py` has their names)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from armfold.core.envs import ENVIRONMENTS
from armfold.core.types import BanditEnv
from armfold.shell.choose import Context, make_env, suggest
from armfold.shell.compiled import Mode
from armfold.shell.envs.gymnasium import BanditGym, BanditVectorEnv
from armfold.shell.envs.pixels import Rom, make_pixels
from armfold.shell.envs.pixels_gymnasium import PixelsGym, PixelsVectorEnv

_NORMAL = 7.0  # no number of `random.normal` in float32 is larger
_EAGER: dict[str, Any] = {"compile": "off"}  # `make` shall not take seconds


def make_single(env: str, *, max_steps: int | None = 1000, compile: Mode = "off", **options: Any) -> BanditGym:
    """What `gymnasium.make` calls: `BanditGym` of the core's environment of that name, with its options.

    p, x and theta may be arrays or lists; ten arms where nothing says how many. "dataset" takes x and p, or path: a CSV
    or NPZ file, or "digits". Raises ValueError, and TypeError for an option that the environment has not.
    """
    _check_single(options)
    world, limit = _make(env, **options)
    return BanditGym(world, max_steps=max_steps, compile=compile, limit=limit)


def make_vector(
    env: str,
    num_envs: int = 1,
    *,
    max_steps: int | None = 1000,
    compile: Mode = "off",
    copy: bool = True,
    **options: Any,
) -> BanditVectorEnv:
    """What `gymnasium.make_vec` calls: `BanditVectorEnv`, with the options of `make_single`."""
    world, limit = _make(env, **options)
    return BanditVectorEnv(world, num_envs, max_steps=max_steps, compile=compile, copy=copy, limit=limit)


def _make(env: str, *, render_mode: None = None, **options: Any) -> tuple[BanditEnv, float]:
    """The environment of that name, and what none of its features exceeds."""
    if render_mode is not None:
        raise ValueError(f"render_mode must be None, as there is nothing to draw, got {render_mode!r}")
    if env not in ENVIRONMENTS:
        raise suggest("environment", env, ENVIRONMENTS)
    given = {name: option for name, option in options.items() if option is not None}
    given |= {name: _floats(name, given[name]) for name in given.keys() & {"p", "x", "theta"}}
    if env == "dataset" and not given.keys() & {"x", "p"}:
        made = _read(**given)
    elif env == "dataset" or given.keys() & {"arms", "p", "theta"}:
        made = ENVIRONMENTS[env].make(**given)
    else:
        made = ENVIRONMENTS[env].make(arms=10, **given)
    features = getattr(made.observe, "keywords", {}).get("x")  # of a data set; others draw them from N(0, 1)
    return made, _NORMAL if features is None else float(features.abs().max()) or 1.0


def _read(path: str | Path = "digits", context: Context = "shared", label: str | None = None) -> BanditEnv:
    return make_env(str(path), {}, context=context, label=label)


def _floats(name: str, values: Any) -> Tensor:
    try:
        return torch.from_numpy(np.asarray(values, dtype=np.float32).copy())
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, got {values!r} ({error})") from error


def _check_single(options: dict[str, Any]) -> None:
    """Raise TypeError for a number of lanes."""
    if "num_envs" in options:
        raise TypeError("option 'num_envs' is of gymnasium.make_vec: gymnasium.make makes one lane")


def make_pixels_single(rom: Rom = "lantern", *, render_mode: str | None = None, **options: Any) -> PixelsGym:
    """What `gymnasium.make("armfold/Pixels-v0")` calls: one lane of a game on a Game Boy, with the options of
    `make_pixels`; compile is "off" where nothing else is said. Raises what that raises."""
    _check_single(options)
    return PixelsGym(make_pixels(rom, 1, **_EAGER | options), render_mode=render_mode)


def make_pixels_vector(
    rom: Rom = "lantern", num_envs: int = 1, *, copy: bool = True, render_mode: str | None = None, **options: Any
) -> PixelsVectorEnv:
    """What `gymnasium.make_vec("armfold/Pixels-v0")` calls: N lanes, with the options of `make_pixels_single`."""
    return PixelsVectorEnv(make_pixels(rom, num_envs, **_EAGER | options), copy=copy, render_mode=render_mode)
