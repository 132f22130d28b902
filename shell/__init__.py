"""The shell: everything that holds or changes something. It only ever calls into armfold.core."""

if __name__ != "armfold.shell":
    raise ImportError(f"import this package as armfold.shell, not as {__name__}")

from armfold.shell.run.armac import run_armac
from armfold.shell.run.bandit import simulate
from armfold.shell.run.evaluate import Evaluation, evaluate
from armfold.shell.run.hosted import simulate_hosted
from armfold.shell.run.result import Result  # only under the right name
from armfold.shell.run.solution import Solution
from armfold.shell.run.solve import solve
from armfold.shell.run.sweep import Sweep, sweep
from armfold.shell.run.training import Trained
from armfold.shell.store.logs import read_log
from armfold.shell.store.policies import read_policy, write_policy

__all__ = [
    "Evaluation",
    "Result",
    "Solution",
    "Sweep",
    "Trained",
    "evaluate",
    "read_log",
    "read_policy",
    "run_armac",
    "simulate",
    "simulate_hosted",
    "solve",
    "sweep",
    "write_policy",
]
