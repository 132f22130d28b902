"""What a game is: pure functions over small state tuples of plain Python values. Two players, who forget nothing."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

CHANCE = -1  # the turn of chance
END = -2  # nobody's turn: the game is over


class Rules(NamedTuple):
    """A game of two players, as `compile_game` takes it. A state is any value; its functions leave it as it is.

    Actions are numbers from 0 on, the same for both players; outcomes of chance are numbers too, as the game likes.
    """

    name: str  # with its options, such as liars_dice(6, 1)
    actions: tuple[str, ...]  # what the A actions are called
    start: Any  # the state in which the game begins
    turn: Callable[[Any], int]  # 0 or 1, the player to move; CHANCE; or END
    legal: Callable[[Any], Sequence[int]]  # actions of the player to move, ascending
    chance: Callable[[Any], Sequence[tuple[int, float]]]  # outcomes of chance, each with its probability
    follow: Callable[[Any, int], Any]  # the state after an action or an outcome
    payoffs: Callable[[Any], tuple[float, float]]  # what each player has won when the game is over, in the game's unit
    infoset: Callable[[Any], str]  # what the player to move knows: the same for states that look the same to him
    view: Callable[[Any, int], Sequence[float]] | None = None  # what a player knows, as numbers, for networks
    # Round, position, pot and stack, for coarse keys; None: how often chance and the players have moved, and zeros.
    summary: Callable[[Any], tuple[int, int, int, int]] | None = None
    openspiel: str | None = None  # what OpenSpiel loads it by


def describe_path(parent: Sequence[int], action: Sequence[int], h: int) -> str:
    """The way to history `h`, from the parents of all and what was done there. For messages."""
    way = []
    while h > 0:
        way.append(action[h])
        h = parent[h]
    return f"after {way[::-1]}"


def draw(cards: int, gone: Collection[int]) -> list[tuple[int, float]]:
    """Any of the cards 0, 1, ... but those that are gone, each with the same probability. For `chance`."""
    left = [card for card in range(cards) if card not in gone]
    return [(card, 1 / len(left)) for card in left]


def one_hot(value: int, size: int) -> list[float]:
    """`size` numbers: 1 at `value`, 0 elsewhere; all 0 where `value` is negative. For views."""
    return [float(i == value) for i in range(size)]
