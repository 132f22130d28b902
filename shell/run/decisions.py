"""Every decision of a few lanes of a run, made once more: for logs to evaluate from, and for replays."""

import csv
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
from armfold.shell.run.rewards import Range, fit_rewards
from armfold.shell.run.seeds import find_seeds
from armfold.shell.store.files import write_whole
from armfold.shell.view.progress import track

log = logging.getLogger("armfold")

_SAMPLES = 1024  # draws that a propensity is estimated from where the learner has no closed form
_CPU = torch.device("cpu")


class Decision(NamedTuple):
    """What n lanes did in one step."""

    step: int  # counted from 1
    agent_rng: Tensor  # [n, 2] int64, the learner's keys
    env_rng: Tensor  # [n, 2] int64, the environment's keys
    obs: Tensor | None  # [n, K, d] float, or [n, 1, d] where all arms share it
    means: Tensor  # [n, K] float, expected rewards
    propensity: Tensor | None  # [n] float, probability of the action when it was chosen; None: not estimated
    trace: core.Trace  # [n]


class FewLanes:
    """Lanes 0 to `runs` - 1 of `simulate`, to be stepped once more: eagerly and on the CPU. Tunables must be numbers.

    shared: whether all arms see the same context. exact: whether propensities have a closed form.
    """

    def __init__(
        self,
        bandit: Bandit,
        env: BanditEnv,
        *,
        runs: int = 1,
        seed: int = 0,
        agent_seed: int | None = None,
        reward_range: Range = None,
    ) -> None:
        check_size("runs", runs)
        self.runs = runs
        # Blocks of `simulate` are multiples of LANES too: so every lane goes through the same vector code as there.
        lanes = -(-runs // LANES) * LANES
        rng, agent_rng = find_seeds(seed, agent_seed, 0, runs=lanes, device=_CPU).keys(torch.arange(lanes))
        with cpu_threads(1, _CPU), torch.no_grad():
            self._bandit = tensor_tunables(fit_rewards(bandit, reward_range), _CPU)
            self._env = tensor_tunables(env, _CPU)
            self._start = core.init(self._bandit, self._env, rng, agent_rng=agent_rng)
            obs = self._env.observe(self._start.env)
            self.shared = obs is not None and bool((obs == obs[:, :1]).all())  # of 64 lanes or more: not by accident
            # A Monte Carlo estimate depends on its key, a closed form does not.
            self.exact = torch.equal(*(self._policy(self._start, obs, tag) for tag in (1, 2)))

    def decide(self, steps: int, *, estimate: bool) -> Iterator[Decision]:
        """The decisions of each step. `estimate` propensities from 1024 draws and the action, where not exact."""
        check_size("steps", steps)
        carry = self._start
        for step in range(1, steps + 1):
            with cpu_threads(1, _CPU), torch.no_grad():
                carry, decision = self._step(carry, step, estimate)
            yield decision

    def _step(self, carry: core.Carry, step: int, estimate: bool) -> tuple[core.Carry, Decision]:
        obs, means = self._env.observe(carry.env), self._env.means(carry.env)
        law = self._policy(carry, obs, tag=1) if self.exact or estimate else None
        moved, trace = core.step(self._bandit, self._env, carry)
        trace = core.Trace(*(x[: self.runs] for x in trace))
        propensity = None
        if law is not None:
            propensity = pick(law, trace.action).clamp(max=1)
            if not self.exact:
                propensity = (_SAMPLES * propensity + 1) / (_SAMPLES + 1)  # the action was a draw too; never 0
        seen = None if obs is None else obs[: self.runs, :1] if self.shared else obs[: self.runs]
        agent_rng, env_rng = carry.bandit_rng[: self.runs], carry.env_rng[: self.runs]
        return moved, Decision(step, agent_rng, env_rng, seen, means[: self.runs], propensity, trace)

    def _policy(self, carry: core.Carry, obs: Tensor | None, tag: int) -> Tensor:
        """Probabilities [runs, K] of each action now; from keys that no step uses."""
        first: Any = pytree.tree_map(lambda x: x[: self.runs], (carry.bandit, carry.bandit_rng, carry.time))
        state, rng, time = first
        rng = random.jump(random.fold_in(rng, tag), time)
        law: Tensor = self._bandit.policy(state, rng, None if obs is None else obs[: self.runs], samples=_SAMPLES)
        return law


def log_decisions(
    bandit: Bandit,
    env: BanditEnv,
    path: Path,
    *,
    steps: int,
    runs: int = 1,
    seed: int = 0,
    agent_seed: int | None = None,
    reward_range: Range = None,
    label: str = "decisions",
    progress: bool = True,
) -> None:
    """Write the decisions of `FewLanes` to a CSV file.

    Columns: run, step, action, reward, propensity and the context: x0, x1, ... where all arms share it, else
    x<arm>_<feature>. Rows of one step lie together. The propensity is the probability of the action when it was
    chosen; for learners without a closed form it is estimated from 1024 draws and the action itself, which a warning
    says. A step's reward is as it was paid, before `reward_range` rescales it.
    """
    few = FewLanes(bandit, env, runs=runs, seed=seed, agent_seed=agent_seed, reward_range=reward_range)
    if not few.exact:
        log.warning("%s: propensities are estimated from %d draws each, not exact", label, _SAMPLES)
    write_whole(path, lambda file: _write(file, few, steps, label, progress))


def _write(path: Path, few: FewLanes, steps: int, label: str, progress: bool) -> None:
    total = few.runs * steps
    with path.open("w", newline="", encoding="utf-8") as file, track(label, total, enabled=progress) as moved:
        writer = csv.writer(file, lineterminator="\n")
        for step, _, _, obs, _, propensity, trace in few.decide(steps, estimate=True):
            if step == 1:
                names = ["run", "step", "action", "reward", "propensity", *_context_names(obs, few.shared)]
                writer.writerow(names)
            columns = (trace.action, trace.reward, propensity)
            numbers = zip(*(x.tolist() for x in columns if x is not None), _contexts(obs, few.runs))
            writer.writerows([run, step, *row, *context] for run, (*row, context) in enumerate(numbers))
            moved(step * few.runs)


def _contexts(obs: Tensor | None, runs: int) -> list[list[float]]:
    rows: list[list[float]] = [[]] * runs if obs is None else obs.flatten(1).tolist()
    return rows


def _context_names(obs: Tensor | None, shared: bool) -> list[str]:
    if obs is None:
        return []
    arms, features = obs.shape[-2:]
    if shared:
        return [f"x{j}" for j in range(features)]
    return [f"x{arm}_{j}" for arm in range(arms) for j in range(features)]
