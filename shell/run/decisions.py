"""Writing down every decision of a few lanes of a run, with the probability that it had: a log to evaluate from."""

import csv
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import random
from armfold.core import simulate as core
from armfold.core.check import check_size
from armfold.core.envs.arms import pick
from armfold.core.types import Bandit, BanditEnv
from armfold.shell.buffers import LANES
from armfold.shell.compiled import tensor_tunables
from armfold.shell.device import cpu_threads
from armfold.shell.store.files import write_whole
from armfold.shell.view.progress import track

log = logging.getLogger("armfold")

_SAMPLES = 1024  # draws that a propensity is estimated from where the learner has no closed form


def log_decisions(
    bandit: Bandit,
    env: BanditEnv,
    path: Path,
    *,
    steps: int,
    runs: int = 1,
    seed: int = 0,
    agent_seed: int | None = None,
    reward_range: tuple[float, float] | None = None,
    label: str = "decisions",
    progress: bool = True,
) -> None:
    """Step lanes 0 to `runs` - 1 of `simulate` again, eagerly and on the CPU, and write their decisions to a CSV file.

    Columns: run, step, action, reward, propensity and the context: x0, x1, ... where all arms share it, else
    x<arm>_<feature>. Rows of one step lie together. The propensity is the probability of the action when it was
    chosen; for learners without a closed form it is estimated from 1024 draws and the action itself, which a warning
    says. A step's reward is as it was paid, before `reward_range` rescales it. Tunables must be numbers.
    """
    check_size("runs", runs)
    check_size("steps", steps)
    if reward_range is not None and tuple(reward_range) != (0.0, 1.0):
        bandit = core.rescale_rewards(bandit, *reward_range)
    # Blocks of `simulate` are multiples of LANES too: so every lane goes through the same vector code as there.
    lanes = -(-runs // LANES) * LANES
    lane = torch.arange(lanes)
    keys = (random.key(seed if number is None else number) for number in (seed, agent_seed))
    rng, agent_rng = (random.fold_in(key.expand(lanes, 2), lane) for key in keys)
    device = torch.device("cpu")
    with cpu_threads(1, device), torch.no_grad():
        bandit, env = tensor_tunables(bandit, device), tensor_tunables(env, device)
        carry = core.init(bandit, env, rng, agent_rng=agent_rng)
        write_whole(path, lambda file: _write(file, bandit, env, carry, steps, runs, label, progress))


def _write(
    path: Path, bandit: Bandit, env: BanditEnv, carry: core.Carry, steps: int, runs: int, label: str, progress: bool
) -> None:
    obs = env.observe(carry.env)
    shared = obs is not None and bool((obs == obs[:, :1]).all())  # of 64 lanes or more: not by accident
    # A Monte Carlo estimate depends on its key, a closed form does not.
    estimated = not torch.equal(*(_policy(bandit, carry, obs, runs, tag) for tag in (1, 2)))
    if estimated:
        log.warning("%s: propensities are estimated from %d draws each, not exact", label, _SAMPLES)
    with path.open("w", newline="", encoding="utf-8") as file, track(label, runs * steps, enabled=progress) as moved:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "step", "action", "reward", "propensity", *_context_names(obs, shared)])
        for step in range(1, steps + 1):
            obs = env.observe(carry.env)
            law = _policy(bandit, carry, obs, runs, tag=1)
            carry, trace = core.step(bandit, env, carry)
            action, reward = trace.action[:runs], trace.reward[:runs]
            propensity = pick(law, action).clamp(max=1)
            if estimated:
                propensity = (_SAMPLES * propensity + 1) / (_SAMPLES + 1)  # the action was a draw too; never 0
            numbers = zip(action.tolist(), reward.tolist(), propensity.tolist(), _contexts(obs, shared, runs))
            writer.writerows([run, step, *row, *context] for run, (*row, context) in enumerate(numbers))
            moved(step * runs)


def _contexts(obs: Tensor | None, shared: bool, runs: int) -> list[list[float]]:
    if obs is None:
        return [[]] * runs
    rows: list[list[float]] = (obs[:runs, 0] if shared else obs[:runs].flatten(1)).tolist()
    return rows


def _context_names(obs: Tensor | None, shared: bool) -> list[str]:
    if obs is None:
        return []
    arms, features = obs.shape[-2:]
    if shared:
        return [f"x{j}" for j in range(features)]
    return [f"x{arm}_{j}" for arm in range(arms) for j in range(features)]


def _policy(bandit: Bandit, carry: core.Carry, obs: Tensor | None, runs: int, tag: int) -> Tensor:
    """Probabilities [runs, K] of each action now; from keys that no step uses."""
    first: Any = pytree.tree_map(lambda x: x[:runs], (carry.bandit, carry.bandit_rng, carry.time))
    state, rng, time = first
    rng = random.jump(random.fold_in(rng, tag), time)
    return bandit.policy(state, rng, None if obs is None else obs[:runs], samples=_SAMPLES)
