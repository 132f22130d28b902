"""armfold: decision-making as pure functions over explicit state, run by the thousand in torch."""

from pathlib import Path as _Path

_house = _Path(__file__).resolve().parent
if not ((_house / "core").is_dir() and (_house / "shell").is_dir()):
    raise ImportError(
        "armfold/core and armfold/shell are relative links to ../core and ../shell, and this checkout has none. "
        "Clone with git (on Windows: git config core.symlinks true), or install the wheel."
    )

__version__ = "0.1.0"
