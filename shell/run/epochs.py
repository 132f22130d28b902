"""Epochs of ARMAC, one after the other: what training and computing it again have in common."""

import math
from collections.abc import Iterator
from typing import Literal, get_args, get_origin, get_type_hints

import psutil  # type: ignore[import-untyped]

from armfold.core import random
from armfold.core.check import ShapeError, check_number, check_seed, check_size
from armfold.core.games import Tree, armac
from armfold.core.games.armac import Info, Settings, State
from armfold.core.games.decisions import Decisions
from armfold.core.games.keys import known_keys
from armfold.core.regret import KMeans, check_bins
from armfold.shell.device import cpu_threads

_FROM_ZERO = (
    *("regret_steps", "critic_steps", "average_steps", "actor_steps", "scheduler_steps"),
    *("level", "warmup", "lru_evict_batch"),
)
_HIGHEST = {  # 1 where it is a share; others have no bound
    **dict.fromkeys(
        ("fixed", "explore", "correction", "init_lambda", "decay", "smoothing_factor", "gamma", "tau_rate"), 1.0
    ),
    "clamp": 0.5,
    "regret_min": 0.0,
}
_SIGNED = ("regret_min", "initial_regret")
_POSITIVE = ("bound", "tau_start", "tau_end", "tau_rate", "util_clip", "regret_clip")
_BOUNDS = {"util_clip": math.inf, "regret_clip": math.inf, "regret_min": -math.inf}  # which turns them off


def check_settings(tree: Tree, points: Decisions, settings: Settings) -> None:
    """Raise ValueError, naming the field and its value, for settings that ARMAC cannot use for a game."""
    for name, kind in get_type_hints(Settings).items():
        value = getattr(settings, name)
        if get_origin(kind) is Literal:
            if value not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {value!r}")
        elif kind == tuple[int, ...]:
            for size in value if isinstance(value, tuple) else (value,):
                check_size(name, size)
        elif kind is int:
            check_size(name, value, low=0 if name in _FROM_ZERO else 1)
        elif kind is float or (kind == float | None and value is not None):
            _check_float(name, value)
    check_bins(settings.bins)
    counts = settings.lam == "learned" and not settings.continuous and settings.mode != "hard"
    if counts and settings.tau_end > settings.tau_start:
        raise ValueError(f"tau_start {settings.tau_start} is below tau_end {settings.tau_end}, but temperatures fall")
    if settings.level > 2:
        raise ValueError(f"level must be 0, 1 or 2, got {settings.level}")
    rows = settings.meta_games * (len(tree.widths) - 1)
    if (least := math.ceil(rows / settings.meta_steps)) > settings.max_states:
        raise ValueError(
            f"max_states must be at least {least}, the moves that a step of the meta-learner may see, got "
            f"{settings.max_states}; or give fewer meta_games or more meta_steps"
        )
    _check_memory(tree, points, rows, settings)


def _check_float(name: str, value: float) -> None:
    if value != _BOUNDS.get(name, math.nan):
        low = -math.inf if name in _SIGNED else 0.0
        check_number(name, value, low=low, high=_HIGHEST.get(name, math.inf), open_low=name in _POSITIVE)


def _check_memory(tree: Tree, points: Decisions, moves: int, settings: Settings) -> None:
    rows, there = len(points.known) + len(points.infoset), psutil.virtual_memory().available
    keys = len(known_keys(tree, settings.level, min(settings.n_clusters, len(points.known))))
    wide = 4 * keys * moves * (5 * points.legal.shape[1] + 10 * len(settings.bins))  # what each key makes of each move
    if wide > there:
        raise ValueError(
            f"meta_games is {settings.meta_games}: with {keys} keys of states, their {moves} moves take "
            f"{wide / 2**30:.1f} GiB, and {there / 2**30:.1f} GiB are free; give fewer, or fewer n_clusters"
        )
    need = 4 * settings.stored * rows * points.legal.shape[1]
    if 3 * need > there:  # an epoch copies them
        raise ValueError(
            f"stored is {settings.stored}: as many policies and critics of this game take {need / 2**30:.1f} GiB, of "
            f"which an epoch makes copies, and {there / 2**30:.1f} GiB are free; give fewer"
        )


def begin(tree: Tree, points: Decisions, seed: int, settings: Settings, clusters: KMeans | None = None) -> State:
    """A run that has seen nothing. clusters: of views, instead of new ones.

    Raises ValueError for a seed that is none, ShapeError for clusters that are not as many as the settings want or not
    of this game.
    """
    check_seed("seed", seed)
    state = armac.init(tree, points, random.key(seed), settings)
    if clusters is None:
        return state
    wanted, got = state.clusters.centre, clusters.centre
    if (got.dtype, got.shape) != (wanted.dtype, wanted.shape):
        raise ShapeError(
            f"clusters must be {wanted.dtype} of shape {tuple(wanted.shape)}, got {got.dtype} {tuple(got.shape)}: are "
            "they of another game, or of another number n_clusters?"
        )
    return state._replace(clusters=KMeans(*(x.clone() for x in clusters)))


def train(
    tree: Tree, points: Decisions, state: State, settings: Settings, *, epochs: int, threads: int = 1
) -> Iterator[tuple[State, Info]]:
    """The epochs that `state` has still to go, up to that number: the state after each, and what it did.

    threads: of the CPU; with another number of them, sums may be rounded otherwise.
    """
    for _ in range(int(state.epoch), epochs):
        with cpu_threads(threads, state.rng.device):
            state, info = armac.epoch(tree, points, state, settings)
        yield state, info
