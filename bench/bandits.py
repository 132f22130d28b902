"""Bandit throughput, env-run x steps per second, against JAX and eager torch on the same problem.

Every side runs N lanes of one algorithm on its own environment and counts its own regret; random numbers are
included, compilation is not. Arms are Bernoulli with p ~ U(0, 1); for linear learners the reward is logistic, with
contexts x ~ N(0, 1) [N, K, d] drawn anew at every step and theta ~ N(0, 1). A comparison counts only where both sides
have the same mean regret, within 5 standard errors of the difference.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from armfold import shell
from armfold.core import bandits, envs
from bench import peers_torch, record

# Least ratio of our throughput to each peer's, on one CPU core at N = 8192, K = 10, d = 8; None is only reported.
BARS: dict[str, dict[str, float | None]] = {
    "ucb1": {"jax idiomatic": 1.5, "torch eager": None},
    "kl_ucb": {"jax idiomatic": 5.0, "jax pointwise": 2.0, "torch eager": None},
    "beta_ts": {"jax idiomatic": 4.0, "torch eager": 1.0},
    "exp3": {"jax idiomatic": 4.0},
    "lin_ucb": {"jax idiomatic": 2.5},
    "lin_ts": {"jax idiomatic": 2.5},
}
SIZES = {"lanes": 8192, "arms": 10, "features": 8}  # of the bars; at other sizes ratios are only reported
UNIT = "env-run x steps per second"
_LEAST_LANES = 1024  # for the comparison of regrets
_MOST_ERRORS = 5.0  # standard errors between two mean regrets of the same algorithm

Player = Callable[[int], np.ndarray]  # steps -> regret [N]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = record.parser("bandits", (__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=_algorithms, default=",".join(BARS), help="rows to run")
    parser.add_argument(
        "--lanes", type=record.positive, default=SIZES["lanes"], help="N, independent runs side by side"
    )
    parser.add_argument("--arms", type=record.positive, default=SIZES["arms"], help="K, arms of each run")
    parser.add_argument(
        "--features", type=record.positive, default=SIZES["features"], help="d, features of an arm (linear learners)"
    )
    parser.add_argument("--seconds", type=float, default=1.5, help="about how long one repeat of one side lasts")
    parser.add_argument("--check-steps", type=record.positive, default=50, help="T at which mean regrets are compared")
    parser.add_argument("--seed", type=int, default=0, help="seed of every side's random numbers")
    return parser.parse_args(arguments)


def _algorithms(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in BARS]:
        raise argparse.ArgumentTypeError(f"no row {', '.join(map(repr, unknown))}; choose from {', '.join(BARS)}")
    return names


def our_player(algorithm: str, *, lanes: int, arms: int, features: int, seed: int, device: str) -> Player:
    """The library, through its public entry."""
    entry = bandits.ALGORITHMS[algorithm]
    if entry.contextual:
        bandit, env = entry.make(arms=arms, features=features), envs.contextual(arms=arms, features=features)
    else:
        bandit, env = entry.make(arms=arms), envs.bernoulli(arms=arms)
    # compile="auto" leaves a run as short as one repeat uncompiled. One point: the peers keep no curve.
    simulate = partial(shell.simulate, bandit, env, compile="on", threads=1, points=1, progress=False)

    def play(steps: int) -> np.ndarray:
        return simulate(steps=steps, runs=lanes, seed=seed, device=device).regret.numpy()

    return play


def player(side: str, algorithm: str, sizes: dict[str, Any]) -> Player:
    """One side of a comparison."""
    if side == "ours":
        return our_player(algorithm, **sizes)
    if side == "torch eager":
        return peers_torch.player(algorithm, **sizes)
    from bench import peers_jax  # after record.prepare, which sets JAX's threads

    return peers_jax.player(algorithm, side.removeprefix("jax "), **sizes)


def require_jax(device: str) -> None:
    """Raise CannotRunError unless JAX is installed and has the device."""
    try:
        import jax
    except ImportError as error:
        raise record.CannotRunError("the peers need JAX: pip install 'armfold[peers]'") from error
    try:
        jax.devices(device)
    except RuntimeError as error:
        raise record.CannotRunError(f"JAX has no {device} device: pip install 'jax[cuda12]'") from error


def compare_regret(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Mean regrets of two sides, and their difference in standard errors of it."""
    variance = sum(float(regret.var(ddof=1)) / regret.size for regret in (ours, theirs))
    means = float(ours.mean()), float(theirs.mean())
    return {"ours": means[0], "peer": means[1], "standard_errors": abs(means[0] - means[1]) / math.sqrt(variance)}


def compare(algorithm: str, options: argparse.Namespace) -> Iterator[record.Row]:
    """Our throughput on one algorithm against every peer's."""
    bars = BARS[algorithm]
    sizes = {name: getattr(options, name) for name in ("lanes", "arms", "features", "seed", "device")}
    if any(sizes[name] != size for name, size in SIZES.items()):
        bars = dict.fromkeys(bars)
    players = {side: player(side, algorithm, sizes) for side in ("ours", *bars)}
    checked = players
    if options.lanes < _LEAST_LANES:
        checked = {side: player(side, algorithm, {**sizes, "lanes": _LEAST_LANES}) for side in players}
    print(f"{algorithm}: {', '.join(players)}", file=sys.stderr)
    regrets = {side: np.asarray(play(options.check_steps), np.float64) for side, play in checked.items()}
    timings = record.race(players, repeats=options.repeats, seconds=options.seconds, first=options.check_steps)
    if options.device == "cpu":
        record.warn_if_shared(timings)
    rates = {side: options.lanes * timing.rate for side, timing in timings.items()}
    for side, bar in bars.items():
        regret = compare_regret(regrets["ours"], regrets[side])
        detail = {"regret": regret, "timings": {name: timings[name]._asdict() for name in ("ours", side)}}
        sound = regret["standard_errors"] <= _MOST_ERRORS
        yield record.Row(algorithm, side, rates["ours"], rates[side], bar, detail, sound)


def measure(options: argparse.Namespace) -> list[record.Row]:
    """Every row that was asked for."""
    require_jax(options.device)
    return [row for algorithm in options.only for row in compare(algorithm, options)]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(arguments)
    return record.run("bandits", options, UNIT, partial(measure, options))


if __name__ == "__main__":
    sys.exit(main())
