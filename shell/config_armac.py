"""The configuration of `armfold armac`: a TOML or YAML file, then flags. Files may be those of seed 2 as well.

docs/seeds.md has every key of the seed's configuration and where it goes.
"""

import dataclasses
import tomllib
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_type_hints

import tyro
import yaml

from armfold.core.games.armac import Lambda, Settings
from armfold.shell.choose import convert, suggest
from armfold.shell.config_seed import KEYS, translate
from armfold.shell.options import RunOptions
from armfold.shell.words import find_flag, read_words


@dataclasses.dataclass(frozen=True)
class _Game:
    """What is learned, and how."""

    game: str = "kuhn"
    """kuhn, leduc, liars_dice, goofspiel, with options such as "goofspiel(4)" where they have them; a game of
    OpenSpiel's as openspiel:NAME; or your own as package.module:function."""
    lam: Annotated[str, tyro.conf.arg(name="lambda")] = "learned"
    """The actor's share: learned (by a scheduler, from the meta-learner), meta (of the meta-learner itself), random
    (drawn at every infoset, in every epoch), or fixed:NUMBER, where fixed:0 is the regret policy alone."""
    epochs: int = 200
    """Epochs of each seed."""
    seeds: int = 1
    """Seeds, one after the other."""
    seed: int = 0
    """The first of them."""
    points: int = 50
    """Points of the curves, at most."""
    max_histories: int = 1_000_000
    """Histories of the game, at most: larger ones are refused before they fill the memory."""
    config: Path | None = None
    """A TOML or YAML file with any of these options, by their names with underscores; or a configuration of seed 2."""
    log_replay: bool = False
    """Also write replay-<seed>.jsonl: what every epoch played, and some of its games, for `armfold replay verify`."""
    replay_games: int = 2
    """Games of each epoch that --log-replay writes from the deal to the payoff."""
    replay_dir: Path | None = None
    """Where --log-replay makes a folder of the run's name for its files; the run folder where not given."""
    tolerance: float = 1e-6
    """How far floats may be apart when replays are verified, for the command that is printed with them."""
    cluster_file: Path | None = None
    """Clusters of views for --level 2, as safetensors: training begins with those in the file; where it is not there,
    those of the first seed are written to it."""
    csv: Path | None = None
    """A file to write the table to as well, the same as summary.csv in the run folder."""


@dataclasses.dataclass(frozen=True)
class _Options(RunOptions, _Game):
    """Train ARMAC on a game: a regret policy and an actor, mixed by lambda, and the average policy that they leave."""


# The fields of Settings by group, with what they are; --lambda says `lam` and `fixed`.
GROUPS: dict[str, tuple[str, dict[str, str]]] = {
    "networks": (
        "The networks for regrets, critic, actor and average policy, and how long each learns.",
        {
            "hidden": "Sizes of hidden layers.",
            "rate": "Learning rate of their Adam.",
            "regret_steps": "Steps of the regret network in each epoch.",
            "critic_steps": "Steps of the critic.",
            "average_steps": "Steps of the average policy.",
            "actor_steps": "Steps of the actor.",
        },
    ),
    "sampling": (
        "The games that are learned from.",
        {
            "games": "Games against past policies, in each epoch.",
            "critic_games": "Games under the present policy, in each epoch.",
            "stored": "Past policies and critics kept: all, then a random choice of them.",
            "weighting": "Epoch t counts as t to this power: 0 for CFR's plain mean, 1 for that of linear CFR.",
            "explore": "Share of uniform play in the learner's games.",
            "correction": "How far followed regrets move towards retrospective ones, in each epoch.",
        },
    ),
    "actor": (
        "The actor.",
        {
            "eta": "Its step along advantages, in units of one over a payoff.",
            "bound": "The largest of its logits.",
        },
    ),
    "scheduler": (
        "How lambda is said, and how the scheduler learns it.",
        {
            "bins": "Values of lambda to choose from, ascending in [0, 1].",
            "mode": "How bins become lambda: their mean, the best one, or one that is drawn.",
            "continuous": "A scheduler that says lambda itself rather than odds of bins.",
            "tau_start": "Temperature of the bins at the beginning.",
            "tau_end": "Temperature in the end.",
            "tau_steps": "Steps of the scheduler from one to the other.",
            "tau_rate": "A factor by which the temperature falls at each step instead, to tau_end.",
            "warmup": "Steps of the scheduler during which lambda is init_lambda.",
            "init_lambda": "Lambda during the warm-up.",
            "clamp": "How near to 0 and 1 lambda of a continuous scheduler may come.",
            "scheduler_hidden": "Sizes of its hidden layers.",
            "scheduler_rate": "Learning rate of its Adam.",
            "scheduler_steps": "Its steps in each epoch.",
            "beta_l2": "Weight of the squares of its parameters in the loss.",
            "beta_ent": "Weight of the entropy of its odds, which is rewarded.",
        },
    ),
    "meta_regret": (
        "The meta-learner, which learns from the utilities of all bins which of them to play.",
        {
            "decay": "How much of a smoothed utility stays at each update.",
            "initial_regret": "Regret of each bin at a new state.",
            "regret_min": "The smallest regret.",
            "smoothing_factor": "Share of uniform play among bins.",
            "max_states": "States remembered.",
            "util_clip": "The largest size of a utility.",
            "regret_clip": "The largest regret.",
            "lru_evict_batch": "States that make room at a time, those updated longest ago.",
            "meta_games": "Games whose decisions it sees in each epoch.",
        },
    ),
    "utility_computation": (
        "What a bin is worth at a decision.",
        {
            "utility": "From what was played, from the critic's values, or half of each.",
            "gamma": "Discount of a step, in what was played.",
            "baseline_window": "Decisions whose mean return is the baseline of what was played.",
            "advantage_window": "Decisions over which utilities from the critic are averaged.",
            "min_samples": "Decisions before there is a baseline.",
        },
    ),
    "state_keying": (
        "Which infosets are one state to the meta-learner.",
        {
            "level": "0: those of one round, player and position; 1: of like pot and stack too; 2: of like views.",
            "n_clusters": "Clusters of views, for level 2.",
            "update_clusters": "Whether clusters move during training.",
        },
    ),
}


def _group(name: str) -> Any:
    """A dataclass of the settings of a group, with the defaults of `Settings`."""
    kinds, (about, texts) = get_type_hints(Settings), GROUPS[name]
    fields = [
        (field, Annotated[kinds[field], tyro.conf.arg(help=text)], dataclasses.field(default=DEFAULTS[field]))
        for field, text in texts.items()
        if field in DEFAULTS
    ]
    kind = dataclasses.make_dataclass(name, fields, frozen=True)
    kind.__doc__ = about
    return kind


DEFAULTS = Settings()._asdict()
_GROUPS = {name: _group(name) for name in GROUPS}
_Config: Any = dataclasses.make_dataclass(
    "Config",
    [
        (name, tyro.conf.OmitArgPrefixes[kind], dataclasses.field(default_factory=kind))  # type: ignore[misc, valid-type]
        for name, kind in _GROUPS.items()
    ],
    bases=(_Options,),
    frozen=True,
)


def _kinds() -> dict[str, Any]:
    """The types of all options, by the names that they have in a file."""
    own = {field.name: kind for field, kind in zip(dataclasses.fields(_Options), get_type_hints(_Options).values())}
    own["lambda"] = own.pop("lam")
    settings = get_type_hints(Settings)
    return own | {name: settings[name] for _, texts in GROUPS.values() for name in texts if name in settings}


def parse(argv: list[str]) -> tuple[Any, list[str]]:
    """The configuration that the words of a command line say, and remarks on its file. Raises ValueError for a file
    that cannot be used and words that cannot be read."""
    file = find_flag(argv, "config")
    values, remarks = ({}, []) if file is None else _read(Path(file))
    groups = {
        name: kind(**{field: values.pop(field) for field in GROUPS[name][1] if field in values})
        for name, kind in _GROUPS.items()
    }
    start = _Config(**values, **groups)
    config = read_words(_Config, args=argv, default=start, prog="armfold armac", description=_Options.__doc__)
    return config, remarks


def _read(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The options in a file, and remarks on them."""
    try:
        text = path.read_text(encoding="utf-8")
        told = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"config {path}: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"config {path} must have keys with values, got {type(told).__name__}")
    kinds, kept = _kinds(), {}
    try:
        values, remarks = translate(told)
    except ValueError as error:
        raise ValueError(f"config {path}: {error}") from error
    for key, (said, value) in values.items():
        if key not in kinds:
            raise suggest(f"option in {path}", said, kinds.keys() | KEYS)
        optional = value is None and NoneType in get_args(kinds[key])
        kept[key] = None if optional else convert(said, kinds[key], _number(kinds[key], value))
    if "lambda" in kept:
        kept["lam"] = kept.pop("lambda")
    return kept, remarks


def _number(kind: Any, value: Any) -> Any:
    """`value` as a number where one is wanted: YAML 1.1 takes 1e-4 for a text."""
    if isinstance(value, list):
        return [_number(get_args(kind)[:1] and get_args(kind)[0], item) for item in value]
    wanted = next((member for member in (kind, *get_args(kind)) if member in (int, float)), None)
    if wanted is None or not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if wanted is int and number.is_integer() else number


def settings(config: Any) -> Settings:
    """What ARMAC is to be trained with. Raises ValueError for a lambda that is none."""
    kind, colon, number = config.lam.partition(":")
    fields = {name: value for group in GROUPS for name, value in dataclasses.asdict(getattr(config, group)).items()}
    try:
        if kind not in get_args(Lambda) or (colon and kind != "fixed"):
            raise ValueError
        return Settings(**fields, lam=kind, fixed=float(number) if colon else DEFAULTS["fixed"])
    except ValueError:
        raise ValueError(
            f"lambda must be learned, meta, random or fixed:NUMBER, such as fixed:0.5, got {config.lam!r}"
        ) from None
