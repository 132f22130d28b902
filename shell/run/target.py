"""The policy to evaluate: from what a user names or hands over to its probabilities on each row of a log."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import random
from armfold.core.bandits.change import warm_start
from armfold.core.simulate import rescale_rewards
from armfold.core.types import Bandit, Logged
from armfold.shell.choose import find_algorithm, import_function, make_bandit

Policy = str | Tensor | Callable[[Tensor | None, int], Tensor]
Range = tuple[float, float]

_ROWS = 1024  # rows whose probabilities a contextual learner is asked for at a time
# Draws for learners without a closed form. Estimates are means over rows of what is linear in the probabilities: a row
# of its own needs few draws, but one law for all rows needs many.
_SAMPLES_OF_A_ROW, _SAMPLES_OF_ALL = 64, 2**14


def find_target(
    logged: Logged, policy: Policy, arms: int, rng: Tensor, reward_range: Range | None, train_share: float
) -> tuple[Logged, Tensor, Bandit | None]:
    """The rows to evaluate on, the policy's probabilities [n, K] there, and the learner where it is one."""
    shape = (len(logged.action), arms)
    if isinstance(policy, Tensor):
        return logged, _shaped(policy, shape, "policy"), None
    if not isinstance(policy, str):
        return logged, _shaped(policy(logged.obs, arms), shape, "policy"), None
    if policy == "uniform":
        return logged, torch.full(shape, 1 / arms, dtype=torch.float64, device=logged.action.device), None
    if policy.startswith("arm:"):
        if not policy[4:].isdecimal() or int(policy[4:]) >= arms:
            raise ValueError(f"policy must be arm:K with K in [0, {arms}), got {policy!r}")
        always = torch.arange(arms, device=logged.action.device) == int(policy[4:])
        return logged, always.double().expand(shape), None
    if ":" in policy:
        return logged, _shaped(import_function("policy", policy)(logged.obs, arms), shape, policy), None
    bandit = _learner(policy, logged, arms, reward_range)
    first = int(len(logged.action) * train_share)
    if not 0 < first < len(logged.action):
        raise ValueError(
            f"train_share {train_share:g} of {len(logged.action)} rows leaves none to learn or evaluate on"
        )
    train, rest = _rows(logged, slice(first)), _rows(logged, slice(first, None))
    state = warm_start(bandit, bandit.init(random.fold_in(rng, 0)), random.fold_in(rng, 1), train)
    seen = rest if find_algorithm(policy).contextual else rest._replace(obs=None)  # else one law serves all rows
    return rest, _probabilities(bandit, state, random.fold_in(rng, 2), seen, arms), bandit


def _shaped(values: Any, shape: tuple[int, int], name: str) -> Tensor:
    try:
        target = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must give probabilities {shape}, gave {type(values).__name__}: {error}") from error
    if tuple(target.shape) != shape:
        raise ValueError(f"{name} must give probabilities {shape}, gave {tuple(target.shape)}")
    return target


def _learner(name: str, logged: Logged, arms: int, reward_range: Range | None) -> Bandit:
    algorithm = find_algorithm(name)
    if algorithm.contextual and logged.obs is None:
        raise ValueError(
            f"policy {name} needs contexts: columns x0, x1, ..., x<arm>_<feature>, or those named as context"
        )
    features = None if logged.obs is None else logged.obs.shape[-1]
    bandit = make_bandit(algorithm, {}, arms=arms, features=features, dtype=torch.float32)
    if algorithm.rewards == "real":
        return bandit
    low, high = reward_range or (0.0, 1.0)
    if logged.reward.min() < low or logged.reward.max() > high:
        raise ValueError(f"policy {name} needs rewards in [0, 1], or their bounds as reward_range")
    return bandit if (low, high) == (0.0, 1.0) else rescale_rewards(bandit, low, high)


def _rows(logged: Logged, part: slice) -> Logged:
    """Some rows, in float32 as learners are fed in runs."""
    obs, propensity = (None if x is None else x[part].float() for x in (logged.obs, logged.propensity))
    return Logged(obs, logged.action[part], logged.reward[part].float(), propensity)


def _probabilities(bandit: Bandit, state: Any, rng: Tensor, rows: Logged, arms: int) -> Tensor:
    """The law of a learner that no longer learns, in the context of each row: [n, K]."""
    n = len(rows.action)
    if rows.obs is None:
        return bandit.policy(state, rng, samples=_SAMPLES_OF_ALL).double().expand(n, arms)
    laws = []
    for start in range(0, n, _ROWS):
        obs = rows.obs[start : start + _ROWS]
        lanes = len(obs)
        row = torch.arange(start, start + lanes, device=obs.device)
        states = pytree.tree_map(lambda x, lanes=lanes: x.expand(lanes, *x.shape), state)
        laws.append(bandit.policy(states, random.fold_in(rng.expand(lanes, 2), row), obs, samples=_SAMPLES_OF_A_ROW))
    return torch.cat(laws).double()
