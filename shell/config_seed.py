"""What the keys of seed 2's configuration mean in the options of `armfold armac`."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from armfold.core.check import check_number

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
# Keys that say an option by true or false, see `_switched`, and one that counts bins.
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
    said = Said()
    for key, value in values.items():
        option = RENAMED.get(key, key)
        if key in KEYS and key not in RENAMED:
            continue
        if option in said and said[option][1] != value:
            raise ValueError(f"{key} is {_shown(value)}, but {_told(said, option)}: they say the same and must agree")
        said.setdefault(option, (key, value))
    return said


def derive(
    values: Mapping[str, Any], said: Said, options: Mapping[str, Any], typed: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """The options that the other keys say, and those of these keys that say nothing.

    said: what `translate` made of the values. options: all of them, as the file and then the command line say them.
    typed: those of the command line, which go before the file. Raises ValueError where two keys contradict each other.
    """
    _count_bins(values, said, options, typed)
    found = _agreed(_switched(values, said, options), values, said, typed)
    used, idle = (DRAWN, MIXER) if found.get("mode", options["mode"]) == "gumbel" else (MIXER, DRAWN)
    tempered = {option: (key, values[key]) for key, option in used.items() if key in values}
    return found | _agreed(tempered, values, said, typed), [key for key in values if key in idle]


def _count_bins(values: Mapping[str, Any], said: Said, options: Mapping[str, Any], typed: Collection[str]) -> None:
    bins = list(options["bins"])
    if COUNT in values and values[COUNT] != len(bins):
        name = said["bins"][0] if "bins" in said and "bins" not in typed else "bins"
        raise ValueError(f"{COUNT} is {values[COUNT]}, but {name} has {len(bins)} bins: {bins}")


def _switched(values: Mapping[str, Any], said: Said, options: Mapping[str, Any]) -> Said:
    """The options that keys say by true or false."""
    start = options["init_lambda"]
    if values.get("use_scheduler") is False:
        check_number(said.get("init_lambda", ("init_lambda",))[0], start, low=0.0, high=1.0)
    means = {"lambda": (f"fixed:{start}", "learned"), "mode": ("soft", "gumbel"), "continuous": (True, False)}
    return {option: (key, means[option][values[key]]) for key, option in SWITCHES.items() if key in values}


def _agreed(found: Said, values: Mapping[str, Any], said: Said, typed: Collection[str]) -> dict[str, Any]:
    """The options found, but for those of the command line."""
    kept = {option: (key, value) for option, (key, value) in found.items() if option not in typed}
    for option, (key, value) in kept.items():
        if option in said and said[option][1] != value:
            means = "" if value == values[key] else f", which means {option} {_shown(value)}"
            raise ValueError(f"{key} is {_shown(values[key])}{means}, but {_told(said, option)}: they must agree")
    return {option: value for option, (_, value) in kept.items()}


def _told(said: Said, option: str) -> str:
    key, value = said[option]
    return f"{key} is {_shown(value)}"


def _shown(value: Any) -> str:
    """A value as files have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(list(value) if isinstance(value, tuple) else value)
