"""From what a user types to a game, unfolded; and what tells it from others."""

import ast
import hashlib
from typing import Any

import torch

from armfold.core.games import GAMES, MAX_HISTORIES, Rules, Tree, compile_game, move
from armfold.shell.choose import import_function, suggest


def find_tree(game: str | Rules | Tree, *, max_histories: int = MAX_HISTORIES) -> Tree:
    """A game unfolded, on the CPU in float64: of its rules, or its name as `find_game` takes it; or its tree, moved.

    Raises ValueError for what is none of these, and as `find_game` and `compile_game` do.
    """
    if isinstance(game, Tree):
        return move(game, device="cpu", dtype=torch.float64)
    rules = find_game(game) if isinstance(game, str) else game
    if not isinstance(rules, Rules):
        raise ValueError(f"game must be a name, Rules or a Tree, got {type(game).__name__}")
    return compile_game(rules, max_histories=max_histories)


def find_again(game: str, rules: str) -> Tree:
    """The game of an earlier run by its name and its `fingerprint`, however large: it has been unfolded before.

    Raises ValueError where the name makes no game, or another one.
    """
    try:
        tree = find_tree(game, max_histories=2**62)
    except ValueError as error:
        raise ValueError(f"game {game} cannot be made again by its name: {error}") from error
    if fingerprint(tree) != rules:
        raise ValueError(f"game {game} is not the one that was played: its rules are others")
    return tree


def fingerprint(tree: Tree) -> str:
    """Digits that tell a game from others: of its infosets, actions, histories and payoffs."""
    digest = hashlib.sha256("\n".join((*tree.rules.actions, *tree.names)).encode())
    for x in (tree.legal, *tree.histories):
        digest.update(x.to("cpu", torch.float64).numpy().tobytes())
    return digest.hexdigest()[:16]


def find_game(text: str) -> Rules:
    """The rules of a game: one by its name, with options such as liars_dice(6, 1); OpenSpiel's, as
    openspiel:NAME(OPTION=VALUE,...); or the user's own by "module:function", with options too. Raises ValueError."""
    if text.startswith("openspiel:"):
        from armfold.shell.openspiel import from_openspiel  # OpenSpiel need not be installed

        return from_openspiel(text.removeprefix("openspiel:"))
    name, bracket, rest = text.partition("(")
    name, (args, options) = name.strip(), _read_options(bracket + rest)
    if ":" not in name and name not in GAMES:
        raise suggest("game", name, GAMES)
    make = import_function("game", name) if ":" in name else GAMES[name]
    try:
        rules = make(*args, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"game {text}: {error}") from error
    if not isinstance(rules, Rules):
        raise ValueError(f"game {text}: must return Rules, returned {type(rules).__name__}")
    return rules


def _read_options(text: str) -> tuple[list[Any], dict[str, Any]]:
    """The plain values in the brackets of a call, by place and by name. Nothing is run."""
    try:
        call = ast.parse(f"f{text or '()'}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("it is no call")
        if any(keyword.arg is None for keyword in call.keywords):
            raise ValueError("** is no name")
        args = [ast.literal_eval(value) for value in call.args]
        named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"options of a game must be plain values in brackets, such as (6, 1), got {text!r}") from error
    if len(named) < len(call.keywords):
        raise ValueError(f"options of a game must have each name once: a name is there twice in {text!r}")
    return args, named
