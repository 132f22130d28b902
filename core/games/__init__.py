"""Exact games as tensors: rules, sequence form, values, best responses, counterfactual regret."""

from armfold.core.games.compile import MAX_HISTORIES, compile_game
from armfold.core.games.goofspiel import goofspiel
from armfold.core.games.kuhn import kuhn
from armfold.core.games.leduc import leduc
from armfold.core.games.liars_dice import liars_dice
from armfold.core.games.play import Trajectory, check_policy_values, check_trajectory
from armfold.core.games.registry import GAMES
from armfold.core.games.rules import CHANCE, END, Rules
from armfold.core.games.tree import Tree, move
from armfold.core.games.value import Response, best_response, expected_value, exploitability, uniform

__all__ = [
    "CHANCE",
    "END",
    "GAMES",
    "MAX_HISTORIES",
    "Response",
    "Rules",
    "Trajectory",
    "Tree",
    "best_response",
    "check_policy_values",
    "check_trajectory",
    "compile_game",
    "expected_value",
    "exploitability",
    "goofspiel",
    "kuhn",
    "leduc",
    "liars_dice",
    "move",
    "uniform",
]
