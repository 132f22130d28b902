"""What the keys of seed 2's configuration mean in the options of `armfold armac`."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

# Keys that are an option under another name, or its own.
RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "scheduler.hidden": "scheduler_hidden",
        "scheduler.k_bins": "bins",
        "scheduler.scheduler_lr": "scheduler_rate",
        "scheduler.scheduler_warmup_iters": "warmup",
        "scheduler.init_lambda": "init_lambda",
        "scheduler.lam_clamp_eps": "clamp",
        "scheduler.regularization.beta_l2": "beta_l2",
        "scheduler.regularization.beta_ent": "beta_ent",
        "policy_mixer.lambda_bins": "bins",
        "meta_regret.decay": "decay",
        "meta_regret.initial_regret": "initial_regret",
        "meta_regret.regret_min": "regret_min",
        "meta_regret.smoothing_factor": "smoothing_factor",
        "meta_regret.max_states": "max_states",
        "meta_regret.util_clip": "util_clip",
        "meta_regret.regret_clip": "regret_clip",
        "meta_regret.lru_evict_batch": "lru_evict_batch",
        "state_keying.level": "level",
        "state_keying.n_clusters": "n_clusters",
        "state_keying.cluster_file": "cluster_file",
        "state_keying.update_clusters": "update_clusters",
        "utility_computation.utility_type": "utility",
        "utility_computation.gamma": "gamma",
        "utility_computation.baseline_window": "baseline_window",
        "utility_computation.advantage_window": "advantage_window",
        "utility_computation.min_samples": "min_samples",
        "deterministic_replay.replay_dir": "replay_dir",
        "deterministic_replay.tolerance": "replay_tolerance",
    }
)
# Two sets of temperatures: which of them counts hangs on how bins become lambda.
DRAWN: Mapping[str, str] = MappingProxyType(
    {
        "scheduler.gumbel_tau_start": "tau_start",
        "scheduler.gumbel_tau_end": "tau_end",
        "scheduler.gumbel_anneal_iters": "tau_steps",
    }
)
MIXER: Mapping[str, str] = MappingProxyType(
    {
        "scheduler.temperature": "tau_start",
        "policy_mixer.min_temperature": "tau_end",
        "policy_mixer.temperature_decay": "tau_rate",
    }
)
OPTIONS: Mapping[str, str] = MappingProxyType({**RENAMED, **DRAWN, **MIXER})
# Keys that say an option by true or false, see `derive`, and one that counts bins.
SWITCHES: Mapping[str, str] = MappingProxyType(
    {"use_scheduler": "lambda", "scheduler.use_gumbel": "mode", "policy_mixer.discrete": "continuous"}
)
COUNT = "meta_regret.K"
KEYS = frozenset((*OPTIONS, *SWITCHES, COUNT))
_SECTIONS = frozenset(key.rpartition(".")[0] for key in KEYS) - {""}

Said = dict[str, tuple[str, Any]]  # options, each with the key that said it, and its value


def flatten(told: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The keys of a file, tables and name joined by dots, with their values. Raises ValueError for a table that is
    none; one that is empty has no keys."""
    flat: dict[str, Any] = {}
    for name, value in told.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and (key in _SECTIONS or prefix):
            flat |= flatten(value, f"{key}.")
        elif key not in _SECTIONS:
            flat[key] = value
        elif value is not None:
            raise ValueError(f"{key} must be a table of keys, got {value!r}")
    return flat


def translate(values: Mapping[str, Any]) -> Said:
    """The options that keys with values say by themselves; what is no key of the seed's is passed on. Raises ValueError
    where two keys contradict each other."""
    said: Said = {}
    for key, value in values.items():
        option = RENAMED.get(key, key)
        if key in KEYS and key not in RENAMED:
            continue
        if option in said and said[option][1] != value:
            raise ValueError(f"{key} is {_shown(value)}, but {_told(said, option)}: they say the same and must agree")
        said.setdefault(option, (key, value))
    return said


def derive(values: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the other keys say.

    values: by the keys, but for those that gave way to the command line. options: all of them, as the file and then the
    command line say them. Raises ValueError where two keys contradict each other.
    """
    said = translate(values)
    _count_bins(values, said, options)
    means: dict[str, tuple[Any, Any]] = {  # of false, of true
        "lambda": (f"fixed:{options['init_lambda']}", "learned"),
        "mode": ("soft", "gumbel"),
        "continuous": (True, False),
    }
    found: Said = {option: (key, means[option][values[key]]) for key, option in SWITCHES.items() if key in values}
    mode = found["mode"][1] if "mode" in found else options["mode"]
    tempered = DRAWN if mode == "gumbel" else MIXER
    found |= {option: (key, values[key]) for key, option in tempered.items() if key in values}
    for option, (key, value) in found.items():
        if option in said and said[option][1] != value:
            so = "" if value == values[key] else f", which means {option} {_shown(value)}"
            raise ValueError(f"{key} is {_shown(values[key])}{so}, but {_told(said, option)}: they must agree")
    return {option: value for option, (_, value) in found.items()}


def _count_bins(values: Mapping[str, Any], said: Said, options: Mapping[str, Any]) -> None:
    bins = list(options["bins"])
    if COUNT in values and values[COUNT] != len(bins):
        name = said["bins"][0] if "bins" in said else "bins"
        raise ValueError(f"{COUNT} is {values[COUNT]}, but {name} has {len(bins)} bins: {bins}")


def spare_temperatures(mode: str) -> Collection[str]:
    """The keys of temperatures that are for another mode than this."""
    return MIXER.keys() if mode == "gumbel" else DRAWN.keys()


def _told(said: Said, option: str) -> str:
    key, value = said[option]
    return f"{key} is {_shown(value)}"


def _shown(value: Any) -> str:
    """A value as files have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(list(value) if isinstance(value, tuple) else value)
