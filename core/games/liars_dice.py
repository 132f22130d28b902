"""Liar's dice: bids on how many dice of both players show a face, until one is called a liar. Payoffs are 1 and -1."""

import itertools
from typing import NamedTuple

from armfold.core.check import check_size
from armfold.core.games.rules import CHANCE, END, Rules, one_hot


class State(NamedTuple):
    """The dice thrown and the bids made, the last of which may be `liar`."""

    dice: tuple[int, ...] = ()  # of the first player, then of the second; those of each are sorted when all are thrown
    bids: tuple[int, ...] = ()


def liars_dice(sides: int = 6, dice: int = 1) -> Rules:
    """Liar's dice with `dice` dice of `sides` sides for each player.

    Bid b is "at least 1 + b // sides dice show face 1 + b % sides", where the highest face is wild; each bid must be
    higher than the one before, and the last action calls the last bid a lie. sides >= 2, dice >= 1. Raises ValueError
    for others.
    Source: Ferguson and Ferguson 1991.
    """
    check_size("sides", sides, low=2)
    check_size("dice", dice)
    liar, thrown = 2 * dice * sides, 2 * dice

    def turn(state: State) -> int:
        if len(state.dice) < thrown:
            return CHANCE
        return END if state.bids[-1:] == (liar,) else len(state.bids) % 2

    def legal(state: State) -> range:
        return range(liar) if not state.bids else range(state.bids[-1] + 1, liar + 1)

    def chance(state: State) -> list[tuple[int, float]]:
        return [(face, 1 / sides) for face in range(sides)]

    def follow(state: State, action: int) -> State:
        if len(state.dice) == thrown:
            return State(state.dice, (*state.bids, action))
        dealt = (*state.dice, action)
        if len(dealt) == thrown:  # the order of dice tells nothing
            dealt = (*sorted(dealt[:dice]), *sorted(dealt[dice:]))
        return State(dealt, ())

    def payoffs(state: State) -> tuple[float, float]:
        bidder, bid = len(state.bids) % 2, state.bids[-2]
        shown = sum(face in (bid % sides, sides - 1) for face in state.dice)
        won = 1.0 if (shown >= 1 + bid // sides) == (bidder == 0) else -1.0
        return won, -won

    def own(state: State, player: int) -> tuple[int, ...]:
        return state.dice[player * dice : (player + 1) * dice]

    def infoset(state: State) -> str:
        faces = "".join(str(face + 1) for face in own(state, len(state.bids) % 2))
        return " ".join([faces, *(names[bid] for bid in state.bids)])

    def view(state: State, player: int) -> list[float]:
        faces = itertools.chain.from_iterable(one_hot(face, sides) for face in own(state, player))
        return [*one_hot(player, 2), *faces, *(float(bid in state.bids) for bid in range(liar + 1))]

    def summary(state: State) -> tuple[int, int, int, int]:
        bid = state.bids[-1] if state.bids else -1
        return len(state.bids) // 2, len(state.bids) % 2, bid + 1, liar - 1 - bid

    names = (*(f"{1 + bid // sides}-{1 + bid % sides}" for bid in range(liar)), "liar")
    return Rules(
        name=f"liars_dice({sides}, {dice})",
        actions=names,
        start=State(),
        turn=turn,
        legal=legal,
        chance=chance,
        follow=follow,
        payoffs=payoffs,
        infoset=infoset,
        view=view,
        summary=summary,
        openspiel=f"liars_dice(dice_sides={sides},numdice={dice})",
    )
