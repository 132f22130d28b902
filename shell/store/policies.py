"""Policies as CSV files: a row for each infoset, a column for each action."""

import csv
import io
from pathlib import Path

import torch
from torch import Tensor

from armfold.core.check import check_shape
from armfold.core.games.play import NEAR, check_policy_values
from armfold.core.games.tree import Tree
from armfold.shell.store.files import check_writable, write_text
from armfold.shell.store.tables import number, read_table


def write_policy(path: str | Path, tree: Tree, policy: Tensor) -> None:
    """Write `policy` [I, A] to a CSV file: infoset, player, and the probability of each action, empty where it is
    illegal. `read_policy` reads the same numbers. Raises ShapeError for another shape, and ValueError for what is no
    policy, as `check_policy_values` does, and for a path where no file can be written."""
    check_shape("policy", policy, tree.legal.shape)
    check_policy_values(tree, policy)
    check_writable("path", Path(path))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["infoset", "player", *tree.rules.actions])
    rows = zip(tree.names, tree.player.tolist(), policy.tolist(), tree.legal.tolist(), strict=True)
    for name, player, chances, legal in rows:
        writer.writerow([name, player, *(repr(p) if allowed else "" for p, allowed in zip(chances, legal))])
    write_text(Path(path), text.getvalue())


def read_policy(path: str | Path, tree: Tree) -> Tensor:
    """The policy [I, A] float64 of a game in a CSV file, as `write_policy` writes it; rows may come in any order.

    Raises ValueError that names the row (the header is row 1; a name may take up several lines) for an infoset that
    the game does not have or that comes twice, another player, a field that is no probability, an action that is
    illegal, and probabilities that do not sum to 1 (to 1e-6); that names the infoset for one that is missing; and for
    a file that cannot be read.
    """
    path = Path(path)
    header, rows = read_table(path)
    for column in (wanted := ["infoset", "player", *tree.rules.actions]):
        if column not in header:
            raise ValueError(f"{path}: no column {column!r}; {tree.rules.name} has {', '.join(wanted)}")
    places = {name: i for i, name in enumerate(tree.names)}
    columns, legal, players = [header.index(column) for column in wanted], tree.legal.tolist(), tree.player.tolist()
    found: dict[int, list[float]] = {}
    for at, fields in enumerate(rows, start=2):
        name, player, *chances = (fields[column] for column in columns)
        where = f"{path}: row {at}"
        if name not in places:
            raise ValueError(f"{where}: {tree.rules.name} has no infoset {name!r}")
        i = places[name]
        if i in found:
            raise ValueError(f"{where}: infoset {name!r} is there twice")
        if player.strip() != str(players[i]):
            raise ValueError(f"{where}, column 'player': {players[i]} moves at {name!r}, not {player!r}")
        found[i] = _read_row(path, at, name, chances, legal[i], tree.rules.actions)
    missing = [name for i, name in enumerate(tree.names) if i not in found]
    if missing:
        others = f", nor for {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ValueError(f"{path}: no row for infoset {missing[0]!r}{others}")
    return torch.tensor([found[i] for i in range(len(tree.names))], dtype=torch.float64)


def _read_row(
    path: Path, at: int, name: str, fields: list[str], legal: list[bool], actions: tuple[str, ...]
) -> list[float]:
    chances = []
    for field, allowed, action in zip(fields, legal, actions, strict=True):
        p = number(path, at, action, field) if allowed or field.strip() else 0.0
        if not 0 <= p <= 1 + NEAR:
            raise ValueError(f"{path}: row {at}, column {action!r}: {p:g} is no probability")
        if p and not allowed:
            raise ValueError(f"{path}: row {at}, column {action!r}: {action} is illegal at {name!r}, and has {p:g}")
        chances.append(p)
    if not abs(sum(chances) - 1) <= NEAR:
        raise ValueError(f"{path}: row {at}: probabilities at {name!r} sum to {sum(chances):g}, not to 1")
    return chances
