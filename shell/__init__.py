"""The shell: everything that holds or changes something. It only ever calls into armfold.core."""

if __name__ != "armfold.shell":
    raise ImportError(f"import this package as armfold.shell, not as {__name__}")

from armfold.shell.run.bandit import simulate
from armfold.shell.run.evaluate import Evaluation, evaluate
from armfold.shell.run.hosted import simulate_hosted
from armfold.shell.run.result import Result  # only under the right name
from armfold.shell.run.sweep import Sweep, sweep
from armfold.shell.store.logs import read_log

__all__ = ["Evaluation", "Result", "Sweep", "evaluate", "read_log", "simulate", "simulate_hosted", "sweep"]
