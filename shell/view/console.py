"""What the command says while it runs, on standard error."""

import logging
import warnings

from rich.console import Console
from rich.logging import RichHandler


def log_to_terminal(*, verbose: bool, quiet: bool) -> Console:
    """Log to standard error, through the console that is returned."""
    level = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    console = Console(stderr=True)
    handler = RichHandler(console=console, show_path=False, show_time=False)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler], force=True)
    logging.captureWarnings(True)
    warnings.simplefilter("default", UserWarning)
    return console
