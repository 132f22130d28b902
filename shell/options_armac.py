"""The options of `armfold armac`: those of the command, and the settings of ARMAC in groups."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from armfold.core.games import MAX_HISTORIES
from armfold.core.games.armac import Settings
from armfold.shell.options import RunOptions


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
    max_histories: int = MAX_HISTORIES
    """Histories of the game, at most: larger ones are refused before they fill the memory."""
    config: Path | None = None
    """A TOML or YAML file with any of these options, by their names with underscores; or a configuration of seed 2."""
    log_replay: bool = False
    """Also write replay-<seed>.jsonl: what every epoch played, and some of its games, for `armfold replay verify`."""
    replay_games: int = 2
    """Games of each epoch that --log-replay writes from the deal to the payoff."""
    replay_dir: Path | None = None
    """Where --log-replay makes a folder of the run's name for its files; the run folder where not given."""
    replay_tolerance: float = 1e-6
    """How far floats may be apart when replays are verified, for the command that is printed with them."""
    cluster_file: Path | None = None
    """Clusters of views for --level 2, as safetensors: training begins with those in the file; where it is not there,
    those of the first seed are written to it."""
    csv: Path | None = None
    """A file to write the table to as well, the same as summary.csv in the run folder."""


@dataclasses.dataclass(frozen=True)
class Options(RunOptions, _Game):
    """Train ARMAC on a game, on the CPU: a regret policy and an actor, mixed by lambda, and their average policy."""


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
            "meta_steps": "Steps of the meta-learner in each epoch: what it sees is split into as many parts.",
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
    ]
    kind = dataclasses.make_dataclass(name, fields, frozen=True)
    kind.__doc__ = about
    return kind


DEFAULTS = Settings()._asdict()
CLASSES = {name: _group(name) for name in GROUPS}
Config: Any = dataclasses.make_dataclass(
    "Config",
    [
        (name, tyro.conf.OmitArgPrefixes[kind], dataclasses.field(default_factory=kind))  # type: ignore[misc, valid-type]
        for name, kind in CLASSES.items()
    ],
    bases=(Options,),
    frozen=True,
)


def kinds() -> dict[str, Any]:
    """The types of all options that a file may have, by their names there."""
    own, settings = get_type_hints(Options), get_type_hints(Settings)
    own["lambda"] = own.pop("lam")
    del own["config"]  # a file cannot name another
    return own | {name: settings[name] for _, texts in GROUPS.values() for name in texts}
