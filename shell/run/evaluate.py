"""What a policy would have earned, from a log: its probabilities, then every estimate with its intervals."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from armfold.core import ope, random
from armfold.core.check import check_number, check_seed, check_size
from armfold.core.ope.estimate import mean as mean_of
from armfold.core.types import Logged
from armfold.shell.choose import suggest
from armfold.shell.device import cpu_threads
from armfold.shell.run.target import Policy, Range, find_target

ESTIMATORS = ("ips", "snips", "dm", "dr", "switch_dr", "replay")
INTERVALS = ("normal", "bootstrap", "bernstein")
_DEFAULT = ("ips", "snips", "dm", "dr")
_LITTLE_OVERLAP = 0.1  # effective sample size over rows


class Line(NamedTuple):
    """One estimate of the policy's value."""

    estimator: str
    value: float  # reward unit a step
    intervals: dict[str, Range | None]  # by method; None where the method does not apply to the estimator


@dataclass(frozen=True)
class Evaluation:
    """What a log says about a policy."""

    policy: str
    rows: int  # of the log that were evaluated on
    arms: int
    level: float  # of the intervals
    logged: Line  # what the logging policy earned on these rows
    lines: list[Line]
    effective_sample_size: float
    ess_share: float  # of the rows
    largest_weight: float
    mean_weight: float  # near 1 where the log could show all that the policy does
    unseen: float  # share of the policy's choices that are actions which the log never shows
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """All of it for json.dumps, with null for what is not a number."""
        facts = asdict(self) | {"logged": self.logged._asdict(), "lines": [line._asdict() for line in self.lines]}
        return _plain(facts)  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def evaluate(
    logged: Logged,
    policy: Policy,
    *,
    arms: int,
    estimators: Sequence[str] = _DEFAULT,
    intervals: Sequence[str] | None = None,
    level: float = 0.95,
    clip: float = math.inf,
    threshold: float = 10.0,
    reward_range: Range | None = None,
    train_share: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Estimate what `policy` would have earned a step where `logged` (fields [n, ...], with propensities) was made.

    policy: probabilities [n, K]; a function of (obs [n, K, d] or None, arms) that gives them; or a string: "uniform",
    "arm:2", "package.module:function", or the name of an algorithm, which learns from the first `train_share` of the
    rows and is evaluated, frozen, on the others. arms: K >= 2. estimators: of ips, snips, dm, dr, switch_dr and, for
    an algorithm, replay, which learns from all rows as it goes and needs a log of uniform actions. intervals: of
    normal, bootstrap and bernstein; bernstein needs `reward_range`, the bounds of all rewards, and is among them by
    default where that is given. clip: the largest weight. threshold: the weight above which switch_dr leaves a row to
    the model. resamples: of the bootstrap. Raises ValueError that names the argument at fault.
    """
    _check(estimators, intervals, level, clip, threshold, reward_range, train_share)
    check_size("arms", arms, low=2)
    check_size("resamples", resamples)
    check_seed("seed", seed)
    if logged.action.ndim != 1 or not len(logged.action) or logged.propensity is None:
        raise ValueError("logged must hold n >= 1 rows, without lanes, and their propensities")
    ope.check_logged(logged, arms)
    _check_rewards(logged.reward, reward_range)
    rng = random.key(seed, device=logged.action.device)
    with cpu_threads(1, logged.action.device), torch.no_grad():
        rows, target, bandit = find_target(logged, policy, arms, random.fold_in(rng, 0), reward_range, train_share)
        ope.check_target(target)
        names = list(dict.fromkeys(estimators))
        if "replay" in names and bandit is None:
            raise ValueError("estimators: replay is for an algorithm that learns; give its name as the policy")
        methods = list(dict.fromkeys(intervals or INTERVALS[: 2 + (reward_range is not None)]))
        measure = functools.partial(
            _measure, rng=random.fold_in(rng, 1), methods=methods, level=level, resamples=resamples
        )
        made = _estimates(names, rows, target, arms, clip, threshold, reward_range)
        lines = [measure(name, *estimate) for name, estimate in made.items()]
        if bandit is not None and "replay" in names:
            replayed, _ = ope.replay(bandit, bandit.init(random.fold_in(rng, 2)), random.fold_in(rng, 3), logged)
            lines.append(measure("replay", replayed, reward_range))
        facts = ope.overlap(rows, target)
        return Evaluation(
            policy=policy if isinstance(policy, str) else getattr(policy, "__name__", "probabilities"),
            rows=len(rows.action),
            arms=arms,
            level=level,
            logged=measure("logged", mean_of(rows.reward.double()), reward_range),
            lines=lines,
            effective_sample_size=facts.ess_share.item() * len(rows.action),
            warnings=_warnings(facts, logged, arms, names),
            **{name: fact.item() for name, fact in facts._asdict().items()},
        )


def _check(
    estimators: Sequence[str],
    intervals: Sequence[str] | None,
    level: float,
    clip: float,
    threshold: float,
    reward_range: Range | None,
    train_share: float,
) -> None:
    for kind, names, known in (("estimator", estimators, ESTIMATORS), ("interval", intervals, INTERVALS)):
        for name in names or ():
            if name not in known:
                raise suggest(kind, name, known)
    if not estimators:
        raise ValueError("estimators must name at least one estimator")
    for name, value in {"level": level, "train_share": train_share}.items():
        check_number(name, value, low=0.0, high=1.0, open_low=True)
        if value == 1:
            raise ValueError(f"{name} must be below 1, got {value}")
    for name, value in {"clip": clip, "threshold": threshold}.items():
        if value != math.inf:
            check_number(name, value, low=0.0, open_low=name == "clip")
    if reward_range is None:
        if "bernstein" in (intervals or ()):
            raise ValueError("reward_range must be given for bernstein intervals")
    elif len(reward_range) != 2 or not -math.inf < reward_range[0] < reward_range[1] < math.inf:
        raise ValueError(f"reward_range must be finite (low, high) with low < high, got {reward_range}")


def _check_rewards(reward: Tensor, bounds: Range | None) -> None:
    low, high = reward.min().item(), reward.max().item()
    if bounds is not None and not (bounds[0] <= low and high <= bounds[1]):
        raise ValueError(
            f"reward_range [{bounds[0]:g}, {bounds[1]:g}] must hold all rewards: they are {low:g} to {high:g}"
        )


def _estimates(
    names: Sequence[str],
    rows: Logged,
    target: Tensor,
    arms: int,
    clip: float,
    threshold: float,
    reward_range: Range | None,
) -> dict[str, tuple[ope.Estimate, Range | None]]:
    """Each estimate, and bounds of its terms where `reward_range` gives some."""
    model = torch.zeros_like(target)
    if {"dm", "dr", "switch_dr"} & set(names):
        model = ope.ridge_model(rows, arms=arms)
        model = model if reward_range is None else model.clamp(*reward_range)
    made: dict[str, Callable[[], ope.Estimate]] = {
        "ips": lambda: ope.ips(rows, target, clip=clip),
        "snips": lambda: ope.snips(rows, target, clip=clip),
        "dm": lambda: ope.direct_method(target, model),
        "dr": lambda: ope.doubly_robust(rows, target, model, clip=clip),
        "switch_dr": lambda: ope.switch_dr(rows, target, model, threshold=threshold),
    }
    bounds: dict[str, Range | None] = dict.fromkeys(made)
    if reward_range is not None and rows.propensity is not None:
        low, high = reward_range
        # The largest weight that a row could have: as clipped, or else by the least propensity of the log.
        largest = 1 / rows.propensity.min().item()
        weight, switched = min(clip, largest), min(threshold, largest)
        bounds["ips"] = (min(weight * low, 0.0), max(weight * high, 0.0))
        bounds["dm"] = reward_range
        bounds["dr"], bounds["switch_dr"] = (
            (low - w * (high - low), high + w * (high - low)) for w in (weight, switched)
        )
    return {name: (made[name](), bounds[name]) for name in names if name in made}


def _measure(
    name: str,
    estimate: ope.Estimate,
    bounds: Range | None,
    *,
    rng: Tensor,
    methods: Sequence[str],
    level: float,
    resamples: int,
) -> Line:
    made: dict[str, Callable[[], ope.Interval]] = {
        "normal": lambda: ope.normal(estimate, level),
        "bootstrap": lambda: ope.bootstrap(estimate, rng, level, resamples),
    }
    if bounds is not None:
        low, high = (end + sign * 1e-6 * (bounds[1] - bounds[0]) for end, sign in zip(bounds, (-1, 1)))  # for rounding
        made["bernstein"] = lambda: ope.empirical_bernstein(estimate, low, high, level)
    ends = {method: made[method]() if method in made else None for method in methods}
    floats = {method: None if pair is None else (pair.low.item(), pair.high.item()) for method, pair in ends.items()}
    return Line(name, estimate.value.item(), floats)


def _warnings(facts: ope.Overlap, logged: Logged, arms: int, names: Sequence[str]) -> list[str]:
    said = []
    if facts.ess_share < _LITTLE_OVERLAP:
        said.append(
            f"little overlap: the log tells as much as {100 * facts.ess_share:.2g}% of its rows would, had the policy "
            f"itself been logged; the largest weight is {facts.largest_weight:.3g}. Intervals may be too short"
        )
    if facts.unseen > 0:
        said.append(
            f"{100 * facts.unseen:.2g}% of the policy's choices are actions that the log never shows: "
            "no weighting can tell what they earn"
        )
    if "replay" in names and logged.propensity is not None and (logged.propensity * arms - 1).abs().max() > 1e-3:
        said.append(f"replay needs a log of uniform actions: propensities are not all 1/{arms}, so its value is biased")
    return said
