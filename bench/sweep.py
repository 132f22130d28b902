"""A sweep against a single run of as many lanes: what it costs that every lane has a tunable and a seed of its own.

The sweep is of 32 values of KL-UCB's c with 256 runs each, the run of 8192 lanes of KL-UCB, both compiled and on one
thread. The bar is on the times of the same number of steps: a sweep may take 1.5 times as long.
"""

import argparse
import sys
from functools import partial

from armfold import shell
from armfold.core import bandits, envs
from bench import record

VALUES, RUNS, ARMS = 32, 256, 10
LARGEST = 3.0  # value of c
BAR = 1 / 1.5  # least ratio of the sweep's throughput to the run's
UNIT = "env-run x steps per second"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = record.parser("sweep", (__doc__ or "").splitlines()[0])
    parser.add_argument("--values", type=record.positive, default=VALUES, help="values of c")
    parser.add_argument("--runs", type=record.positive, default=RUNS, help="lanes of each value")
    parser.add_argument("--shard", type=record.positive, default=4096, help="lanes of a shard of the sweep")
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long one repeat of one side lasts")
    parser.add_argument("--check-steps", type=record.positive, default=50, help="T at which regrets are compared")
    return parser.parse_args(arguments)


def players(options: argparse.Namespace) -> dict[str, record.Play]:
    """The two sides."""
    grid, lanes = {"c": f"lin:0:{LARGEST}:{options.values}"}, options.values * options.runs
    common = {"compile": "on", "threads": 1, "device": options.device, "progress": False}
    sweep = partial(shell.sweep, "kl_ucb", grid=grid, options={"arms": ARMS}, runs=options.runs, shard=options.shard)
    run = partial(shell.simulate, bandits.kl_ucb(arms=ARMS), envs.bernoulli(arms=ARMS), runs=lanes, points=1)
    return {"sweep": lambda steps: sweep(steps=steps, **common), "run": lambda steps: run(steps=steps, **common)}


def same_work(options: argparse.Namespace) -> bool:
    """Whether a point of a sweep gives what a run with that value of c gives, but for rounding."""
    common = {"runs": options.runs, "steps": options.check_steps, "compile": "off", "progress": False}
    swept = shell.sweep("kl_ucb", grid={"c": [0, LARGEST]}, options={"arms": ARMS}, **common)
    alone = shell.simulate(bandits.kl_ucb(arms=ARMS, c=LARGEST), envs.bernoulli(arms=ARMS), **common)
    return abs(swept.rows[1].regret_mean / alone.regret.mean().item() - 1) < 1e-2


def measure(options: argparse.Namespace) -> list[record.Row]:
    """The one row."""
    timings = record.race(players(options), repeats=options.repeats, seconds=options.seconds, first=options.check_steps)
    if options.device == "cpu":
        record.warn_if_shared(timings)
    lanes = options.values * options.runs
    rates = {side: lanes * timing.rate for side, timing in timings.items()}
    detail = {
        "lanes": lanes,
        "arms": ARMS,
        "steps": {side: timing.steps for side, timing in timings.items()},
        "seconds": {side: timing.seconds for side, timing in timings.items()},
        "time_ratio": rates["run"] / rates["sweep"],
    }
    bar = BAR if (options.values, options.runs) == (VALUES, RUNS) else None
    return [record.Row("kl_ucb", "one run", rates["sweep"], rates["run"], bar, detail, sound=same_work(options))]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(arguments)
    return record.run("sweep", options, UNIT, partial(measure, options))


if __name__ == "__main__":
    sys.exit(main())
