"""armfold: decision-making as pure functions over explicit state, run by the thousand in torch."""

from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path

_house = _Path(__file__).resolve().parent
if not ((_house / "core").is_dir() and (_house / "shell").is_dir()):
    raise ImportError(
        "armfold/core and armfold/shell are relative links to ../core and ../shell, and this checkout has none. "
        "Clone with git (on Windows: git config core.symlinks true), or install the wheel."
    )

__version__ = "0.1.0"


def _register_envs() -> None:
    """Tell Gymnasium, where it is installed, what it can make. What makes them is imported when it first does."""
    if _find_spec("gymnasium") is None:
        return
    from gymnasium.envs.registration import register, registry

    single, vector = (f"armfold.shell.envs.registered:make_{kind}" for kind in ("single", "vector"))
    for name in ("Bernoulli", "Drifting", "Contextual", "Dataset"):
        if (id := f"armfold/{name}Bandit-v0") not in registry:
            register(id, single, vector_entry_point=vector, kwargs={"env": name.lower()})
    if "armfold/Pixels-v0" not in registry:
        single, vector = (f"armfold.shell.envs.registered:make_pixels_{kind}" for kind in ("single", "vector"))
        register("armfold/Pixels-v0", single, vector_entry_point=vector)


_register_envs()
