"""Options that the commands share."""

import dataclasses
import re
import time
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Where a run goes, and how it is watched. Name it first among the bases, so that its
    fields come last in --help."""

    threads: int = 1
    """CPU threads; one is fastest for small steps."""
    out: Path | None = None
    """Run folder; one in runs/, named after what is run and the time, where not given. It must be new or empty, unless
    --resume."""
    resume: bool = False
    """Go on with the run in --out from its last checkpoint."""
    checkpoint_every: float = 30.0
    """Seconds between checkpoints."""
    verbose: bool = False
    """Say more."""
    quiet: bool = False
    """Say nothing but the table and errors."""

    def folder(self, name: str) -> Path:
        """Where the run goes: --out, or a folder named so. Raises ValueError where one is to be resumed and it is not
        said which."""
        if self.out is not None:
            return self.out
        if self.resume:
            raise ValueError("resume needs --out: the folder of the run to go on with")
        slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
        return Path("runs") / f"{slug}-{time.strftime('%Y%m%d-%H%M%S')}"
