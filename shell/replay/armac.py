"""Replays of ARMAC: the policies of every epoch, and a few of its games from the deal to the payoff."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core.check import check_size
from armfold.core.games import CHANCE, Tree
from armfold.core.games.armac import Info, Settings, State
from armfold.core.games.decisions import Decisions, decisions
from armfold.core.regret import KMeans
from armfold.shell.games import find_again
from armfold.shell.replay.facts import read_facts
from armfold.shell.run.epochs import begin, check_settings, train
from armfold.shell.run.training import average_policy


class Facts(NamedTuple):
    """Everything that a seed's epochs depend on."""

    game: str  # as `armfold armac --game` takes it
    rules: str  # its fingerprint
    settings: Mapping[str, Any]  # fields of `Settings`
    seed: int
    epochs: int
    games: int  # recorded of each epoch
    clusters: KMeans | None = None  # of views, to begin with
    threads: int = 1


def describe_epoch(tree: Tree, points: Decisions, state: State, info: Info, games: int) -> dict[str, Any]:
    """The record of an epoch: the run's key, which all draws come from with the epoch's number, what was played, the
    losses, the average policy and the norms of all networks after it, and its first `games` games."""
    return {
        "epoch": int(state.epoch),
        "rng": state.rng,
        "tau": info.tau,
        "lambda": info.lam,
        "policy": info.policy,
        "losses": {
            name: getattr(info, name) for name in ("critic_loss", "regret_loss", "average_loss", "scheduler_kl")
        },
        "average": average_policy(tree, points, state),
        "norms": {name: _norm(net) for name, net in state.nets._asdict().items()},
        "games": [_describe_game(tree, points, info, game) for game in range(games)],
    }


def _norm(net: Any) -> Tensor:
    """The L2 norm [] of a network's parameters, float64."""
    return torch.stack([leaf.to(torch.float64).square().sum() for leaf in pytree.tree_leaves(net)]).sum().sqrt()


def _describe_game(tree: Tree, points: Decisions, info: Info, game: int) -> dict[str, Tensor]:
    """One of the games that the critic saw. Where chance moves there is no infoset, nor a row of any policy."""
    payoff, length = info.games.payoff[game], int(info.games.length[game])
    history = info.games.history[: length + 1, game]
    player, infoset, action, probability = (
        getattr(info.games, name)[:length, game] for name in ("player", "infoset", "action", "probability")
    )
    decided = infoset >= 0
    at = infoset[decided]
    return {
        "deal": action[player == CHANCE],
        "history": history,
        "player": player,
        "action": action,
        "probability": probability,  # of chance, or of the policy with its share of exploration
        "infoset": at,
        "actor": info.actor[at],
        "regret": info.regret_policy[at],
        "policy": info.policy[at],
        "lambda": info.lam[at],
        "q": info.q[points.number[history[:-1]][decided]],
        "payoff": payoff,
    }


def check_games(settings: Settings, games: int) -> None:
    """Raise ValueError unless that many games of each epoch can be recorded."""
    if isinstance(games, bool) or not isinstance(games, int) or not 0 <= games <= settings.critic_games:
        raise ValueError(f"replay_games must be an integer in [0, critic_games = {settings.critic_games}], got {games}")


def recompute(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The records of a run from the facts in its file. Raises ValueError where they are not those of one."""
    told = read_facts(Facts, facts)
    settings = read_facts(Settings, told.settings, name="settings")
    check_size("epochs", told.epochs)
    check_size("threads", told.threads)
    tree = find_again(told.game, told.rules)
    points = decisions(tree)
    check_settings(tree, points, settings)
    check_games(settings, told.games)
    start = begin(tree, points, told.seed, settings, told.clusters)
    for state, info in train(tree, points, start, settings, epochs=told.epochs, threads=told.threads):
        yield describe_epoch(tree, points, state, info, told.games)
