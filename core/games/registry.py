"""Games by name."""

from collections.abc import Callable

from armfold.core.games.goofspiel import goofspiel
from armfold.core.games.kuhn import kuhn
from armfold.core.games.leduc import leduc
from armfold.core.games.liars_dice import liars_dice
from armfold.core.games.rules import Rules

GAMES: dict[str, Callable[..., Rules]] = {
    "kuhn": kuhn,
    "leduc": leduc,
    "liars_dice": liars_dice,
    "goofspiel": goofspiel,
}
