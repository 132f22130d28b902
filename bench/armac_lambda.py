"""The experiment on lambda: does it pay to learn how much the actor should count? Protocol: docs/armac.md.

Not a speed bench. Meta and learned lambda against fixed ones, random ones, a tuned schedule and two regret learners, on
Kuhn, Leduc and Goofspiel-4, with values that are exact, noisy or sampled. The primary endpoint, stated before the runs,
is the exploitability of the average policy after 1000 iterations. Every setting but the exact ones is tested, by paired
Wilcoxon tests over seeds with Holm's correction over all of them.

Writes bench/results/armac_lambda.json, docs/armac_lambda.png and the tables of docs/armac.md; --quick writes nothing.
"""

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats

from armfold.core import games, random
from armfold.core.games import infosets, tabular
from armfold.core.games.learners import Variant
from armfold.core.games.tree import Tree
from armfold.core.regret import BINS, scheduler_init
from bench import armac_report, record

GAMES = {"kuhn": games.kuhn, "leduc": games.leduc, "goofspiel": partial(games.goofspiel, 4)}
TRIALS = ("meta", "learned")
LAMBDAS: dict[str, dict[str, Any]] = {
    **{f"fixed {x:g}": {"start": x} for x in BINS},
    "random": {"random": 1.0},
    "tuned schedule": {},  # one of SCHEDULES
    "two regret learners": {"meta": 1.0, "actor": "regret"},
    "meta": {"meta": 1.0},
    "learned": {"learned": 1.0},
}
SCHEDULES = [
    {"start": start, "end": 1 - start, "rate": rate} for start in (1.0, 0.0) for rate in (0.003, 0.01, 0.03, 0.1, 0.3)
]
SETTINGS: dict[str, dict[str, Any]] = {
    "exact": {},
    "noise 0.25": {"noise": 0.25},
    "noise 1": {"noise": 1.0},
    "sampled": {"traversals": 16},
}
FIRST, SECOND = "regret matching+", "regret matching"
BASES: dict[str, dict[str, float]] = {FIRST: {"floor": 0.0, "gamma": 1.0}, SECOND: {"floor": -math.inf, "gamma": 0.0}}
OF_SECOND = [name for name in LAMBDAS if name.startswith("fixed")] + ["random", "meta"]
FIRST_TUNING_SEED, TUNING_SEEDS = 1000, 4
LEVEL = 0.05

Curves = dict[str, np.ndarray]  # of each lambda: log exploitability [2, points, seeds], of average and last policy


class Plan(NamedTuple):
    """How much is run."""

    games: tuple[str, ...] = tuple(GAMES)
    seeds: int = 20
    second_seeds: int = 10  # of the second base
    tuning_seeds: int = TUNING_SEEDS
    iterations: int = 1000

    @property
    def points(self) -> list[int]:
        """The iterations at which policies are judged."""
        return sorted({t for t in (10, 20, 50, 100, 200, 500, 1000) if t < self.iterations} | {self.iterations})


QUICK = Plan(games=("kuhn",), seeds=6, second_seeds=2, tuning_seeds=1, iterations=20)


def _lanes(
    entries: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Tunables and keys of lanes: each entry's with every seed. Numbers that any entry has become tensors."""
    defaults = Variant()._asdict()
    names = {name for entry in entries.values() for name, x in entry.items() if not isinstance(x, str)}
    numbers = {
        name: torch.tensor([e.get(name, defaults[name]) for e in entries.values() for _ in seeds], dtype=torch.float64)
        for name in sorted(names)
    }
    return numbers, random.key(torch.tensor(seeds)).repeat(len(entries), 1)


def solve(
    tree: Tree, entries: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], plan: Plan, **common: Any
) -> Curves:
    """The curves of some lambdas, which share all that is no number, from one batch."""
    tables = infosets.tables(tree)
    numbers, keys = _lanes(entries, seeds)
    choices = {name: x for entry in entries.values() for name, x in entry.items() if isinstance(x, str)}
    variant = Variant(**{**common, **choices, **numbers})
    params = None
    if "learned" in numbers:
        params = scheduler_init(random.fold_in(keys, 0), tabular.scheduler_features(tables), bins=BINS)
    state, curves = tabular.init(tables, (len(keys),), params=params), []
    for t in range(1, plan.iterations + 1):
        state, _ = tabular.step(tables, state, random.jump(keys, t), variant=variant)
        if t in plan.points:
            policies = tabular.average_policy(tables, state), tabular.last_policy(state)
            curves.append(torch.stack([games.exploitability(tree, policy) for policy in policies]).log())
    found = torch.stack(curves, 1).reshape(2, len(plan.points), len(entries), len(seeds)).numpy()
    return {name: found[:, :, i] for i, name in enumerate(entries)}


def _varies(common: Mapping[str, Any]) -> bool:
    """Whether values have errors or draws."""
    return "noise" in common or "traversals" in common


def tune(tree: Tree, plan: Plan, **common: Any) -> dict[str, float]:
    """The best schedule, by the mean of the primary endpoint over seeds of its own."""
    number = plan.tuning_seeds if _varies(common) else 1
    seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + number)
    curves = solve(tree, {str(i): schedule for i, schedule in enumerate(SCHEDULES)}, seeds, plan, **common)
    return SCHEDULES[min(range(len(SCHEDULES)), key=lambda i: curves[str(i)][0, -1].mean())]


def compare(tree: Tree, entries: Mapping[str, Mapping[str, Any]], seeds: int, plan: Plan, **common: Any) -> Curves:
    """The curves of all lambdas in one setting of a game: a batch for each structure, a lane where nothing varies."""
    groups: dict[tuple[bool, bool, bool], dict[str, Mapping[str, Any]]] = {}
    for name, entry in entries.items():
        varies = _varies(common) or name in ("random", "learned")
        groups.setdefault(("actor" in entry, "learned" in entry, varies), {})[name] = entry
    curves: Curves = {}
    for (_, _, varies), group in groups.items():
        curves.update(solve(tree, group, range(seeds if varies else 1), plan, **common))
    return {name: curves[name] for name in entries}


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979)."""
    adjusted, worst = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = worst
    return adjusted


def test(cells: Mapping[tuple[str, str], Curves]) -> list[dict[str, Any]]:
    """Each trial against each rival in every setting that varies, on the primary endpoint."""
    found = []
    for (game, setting), curves in cells.items():
        for trial in TRIALS if SETTINGS[setting] else ():
            for rival in (name for name in curves if name not in TRIALS):
                gain = curves[trial][0, -1] - curves[rival][0, -1]
                p = float(stats.wilcoxon(gain).pvalue) if np.any(gain) else 1.0
                half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / math.sqrt(len(gain))
                ratio = {"ratio": math.exp(gain.mean()), "low": math.exp(gain.mean() - half)}
                high = math.exp(gain.mean() + half)
                found.append(
                    {"game": game, "setting": setting, "trial": trial, "rival": rival, **ratio, "high": high, "p": p}
                )
    for row, p in zip(found, holm([row["p"] for row in found]), strict=True):
        row.update(p_holm=p, significant=p < LEVEL)
    return found


def measure(plan: Plan) -> dict[str, Any]:
    """Everything that the protocol names, as the record has it."""
    body: dict[str, Any] = {"points": plan.points, "bases": {}, "schedules": {}, "seconds": {}}
    cells: dict[str, dict[tuple[str, str], Curves]] = {base: {} for base in BASES}
    for game in plan.games:
        tree = games.compile_game(GAMES[game]())
        for base, setting in itertools.product(BASES, SETTINGS):
            start, where, common = time.process_time(), f"{game}, {setting}", {**BASES[base], **SETTINGS[setting]}
            if base == FIRST:
                body["schedules"][where] = tune(tree, plan, **common)
                entries, seeds = {**LAMBDAS, "tuned schedule": body["schedules"][where]}, plan.seeds
            elif SETTINGS[setting]:
                entries, seeds = {name: LAMBDAS[name] for name in OF_SECOND}, plan.second_seeds
            else:
                continue
            cells[base][game, setting] = compare(tree, entries, seeds, plan, **common)
            body["seconds"][f"{base}, {where}"] = round(time.process_time() - start, 1)
            print(f"{base}, {where}: {body['seconds'][f'{base}, {where}']} s", file=sys.stderr, flush=True)
    for base, found in cells.items():
        body["bases"][base] = {", ".join(where): armac_report.summary(curves) for where, curves in found.items()}
    return {**body, "tests": test(cells[FIRST])}


def main(arguments: list[str] | None = None) -> int:
    """Run the experiment; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.armac_lambda", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run, which writes nothing")
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else Plan()
    with record.quiet_stdout():
        record.prepare("cpu")
        about = record.machine("cpu")
        about["versions"]["scipy"] = record.version("scipy")
        body = {"benchmark": "armac_lambda", "plan": plan._asdict(), **measure(plan), "machine": about}
        if not options.quick:
            armac_report.write(body)
    print(json.dumps(body), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
