"""What the keys of seed 2's configuration mean in the options of `armfold armac`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from armfold.core.regret import BINS
from armfold.shell.choose import convert

# Keys that are an option under another name, or its own.
RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "scheduler.hidden": "scheduler_hidden",
        "scheduler.k_bins": "bins",
        "scheduler.scheduler_lr": "scheduler_rate",
        "scheduler.gumbel_tau_start": "tau_start",
        "scheduler.gumbel_tau_end": "tau_end",
        "scheduler.gumbel_anneal_iters": "tau_steps",
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
        "deterministic_replay.tolerance": "tolerance",
    }
)
# Keys that say an option in another way, see `translate`.
_OTHERS = ("use_scheduler", "scheduler.use_gumbel", "policy_mixer.discrete", "meta_regret.K")
# The mixer's own temperature, which counts where bins are not drawn.
MIXER = {
    "scheduler.temperature": "tau_start",
    "policy_mixer.min_temperature": "tau_end",
    "policy_mixer.temperature_decay": "tau_rate",
}
_GUMBEL = ("scheduler.gumbel_tau_start", "scheduler.gumbel_tau_end", "scheduler.gumbel_anneal_iters")
KEYS = frozenset((*RENAMED, *_OTHERS, *MIXER))
_SECTIONS = frozenset(key.rpartition(".")[0] for key in KEYS) - {""}

Said = dict[str, tuple[str, Any]]  # options, each with the key that said it, and its value


def translate(told: Mapping[str, Any]) -> tuple[Said, list[str]]:
    """The options that a file says, by the seed's keys or by their own names, which are passed on whatever they are;
    and remarks for its reader. Raises ValueError where two keys contradict each other."""
    flat, said, remarks = _flatten(told), Said(), list[str]()
    tempered = _temper(flat)
    idle = [key for key in (*MIXER, *_GUMBEL) if key in flat and key not in tempered]
    for key, value in flat.items():
        if key in idle or key in _OTHERS:
            continue
        _say(said, tempered.get(key) or RENAMED.get(key, key), key, value)
    _choose(flat, said)
    if idle:
        remarks.append(f"{', '.join(idle)} change nothing: scheduler.use_gumbel says which temperatures count")
    return said, remarks


def _flatten(told: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in told.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and (key in _SECTIONS or prefix):
            flat |= _flatten(value, f"{key}.")
        elif key in _SECTIONS:
            raise ValueError(f"{key} must be a table of keys, got {value!r}")
        else:
            flat[key] = value
    return flat


def _say(said: Said, option: str, key: str, value: Any) -> None:
    if option in said and said[option][1] != value:
        other, before = said[option]
        raise ValueError(f"{key} is {value!r}, but {other} is {before!r}: they say the same and must agree")
    said.setdefault(option, (key, value))


def _temper(flat: Mapping[str, Any]) -> dict[str, str]:
    """The keys of temperatures that count, with their options."""
    if "scheduler.use_gumbel" in flat and not convert("scheduler.use_gumbel", bool, flat["scheduler.use_gumbel"]):
        return MIXER
    return {key: RENAMED[key] for key in _GUMBEL}


def _choose(flat: Mapping[str, Any], said: Said) -> None:
    """What the keys say that are no options of their own."""
    key = "meta_regret.K"
    bins = said.get("bins", ("bins", list(BINS)))
    if key in flat and isinstance(bins[1], list) and convert(key, int, flat[key]) != len(bins[1]):
        raise ValueError(f"{key} is {flat[key]}, but {bins[0]} has {len(bins[1])} bins: {bins[1]}")
    key = "scheduler.use_gumbel"
    if key in flat:
        _say(said, "mode", key, "gumbel" if convert(key, bool, flat[key]) else "soft")
    key = "policy_mixer.discrete"
    if key in flat:
        _say(said, "continuous", key, not convert(key, bool, flat[key]))
    key = "use_scheduler"
    if key in flat:
        fixed = f"fixed:{said.get('init_lambda', ('', 0.5))[1]}"
        _say(said, "lambda", key, "learned" if convert(key, bool, flat[key]) else fixed)
    if "utility" in said:
        key, kind = said["utility"]
        said["utility"] = key, kind.removesuffix("_based") if isinstance(kind, str) else kind
