"""The `armfold evaluate` command."""

import dataclasses
import json
import math
import sys
from pathlib import Path

import tyro

from armfold.shell.run.evaluate import evaluate as run
from armfold.shell.store.files import write_text
from armfold.shell.store.logs import read_log
from armfold.shell.view.estimates import print_evaluation
from armfold.shell.words import read_words


@dataclasses.dataclass(frozen=True)
class _Options:
    """Estimate from a log of decisions what another policy would have earned."""

    log: tyro.conf.Positional[Path]
    """A CSV file: columns action, reward, propensity and, where there are contexts, x0, x1, ... or x<arm>_<feature>."""
    policy: str
    """uniform, arm:K, an algorithm (learns from the first rows, is evaluated on the rest), or your own function of
    (obs, arms) as package.module:function."""
    action: str = "action"
    """Column of the arm that was chosen: whole numbers from 0 on."""
    reward: str = "reward"
    """Column of the reward."""
    propensity: str = "propensity"
    """Column of the probability with which the arm was chosen, in (0, 1]."""
    context: str = ""
    """Columns of the context that all arms share, separated by commas; x0, x1, ... where not given."""
    arms: int | None = None
    """Number of arms, where the log does not show them all."""
    estimators: str = "ips,snips,dm,dr"
    """Of ips, snips, dm, dr, switch_dr and replay, separated by commas."""
    interval: str = ""
    """Of normal, bootstrap and bernstein, separated by commas; all that can be had where not given."""
    level: float = 0.95
    """Probability with which an interval holds the value."""
    clip: float = math.inf
    """Largest weight of ips, snips and dr: less variance, more bias."""
    threshold: float = 10.0
    """Weight above which switch_dr leaves a row to the model."""
    reward_range: tuple[float, float] | None = None
    """Bounds LOW HIGH of all rewards: for bernstein intervals, and for algorithms that need rewards in [0, 1]."""
    train_share: float = 0.5
    """Share of the rows that an algorithm learns from."""
    resamples: int = 1000
    """Resamples of the bootstrap."""
    seed: int = 0
    """Seed of the bootstrap and of an algorithm's own randomness."""
    json: bool = False
    """Print JSON in place of the table."""
    out: Path | None = None
    """A file for the JSON; nothing is written where not given."""
    verbose: bool = False
    """Show where an error came from."""


def evaluate(argv: list[str]) -> None:
    """Estimate from a log of decisions what another policy would have earned."""
    config = read_words(_Options, args=argv, prog="armfold evaluate", description=_Options.__doc__)
    columns = {name: getattr(config, name) for name in ("action", "reward", "propensity", "arms")}
    logged, arms = read_log(config.log, context=_names(config.context), **columns)
    settings = ("level", "clip", "threshold", "reward_range", "train_share", "resamples", "seed")
    found = run(
        logged,
        config.policy,
        arms=arms,
        estimators=_names(config.estimators),
        intervals=_names(config.interval) or None,
        **{name: getattr(config, name) for name in settings},
    )
    text = json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n"
    if config.out is not None:
        write_text(config.out, text)
    if config.json:
        print(text, end="")
    else:
        print_evaluation(found)
    for warning in found.warnings:
        print(f"armfold: warning: {warning}", file=sys.stderr)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
