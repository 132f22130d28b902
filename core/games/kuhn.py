"""Kuhn poker: three cards, one each, one bet. Kuhn 1950. Payoffs in antes."""

from typing import NamedTuple

from armfold.core.games.rules import CHANCE, END, Rules, draw, one_hot

PASS, BET = 0, 1
_CARDS = "JQK"
_ENDS = ("pp", "bp", "bb", "pbp", "pbb")


class State(NamedTuple):
    """The cards dealt and what was done since."""

    cards: tuple[int, ...] = ()
    history: str = ""  # of "p" and "b"


def kuhn() -> Rules:
    """Kuhn poker. Its value is -1/18 to the first player.

    Source: Kuhn 1950.
    """
    return Rules(
        name="kuhn",
        actions=("pass", "bet"),
        start=State(),
        turn=turn,
        legal=lambda state: (PASS, BET),
        chance=lambda state: draw(len(_CARDS), state.cards),
        follow=follow,
        payoffs=payoffs,
        infoset=lambda state: _CARDS[state.cards[turn(state)]] + state.history,
        view=view,
        summary=summary,
        openspiel="kuhn_poker",
    )


def turn(state: State) -> int:
    """The players take turns once both have a card."""
    if len(state.cards) < 2:
        return CHANCE
    return END if state.history in _ENDS else len(state.history) % 2


def follow(state: State, action: int) -> State:
    """A card more, or a pass or a bet."""
    if len(state.cards) < 2:
        return State((*state.cards, action), "")
    return State(state.cards, state.history + "pb"[action])


def payoffs(state: State) -> tuple[float, float]:
    """A bet that is passed on wins the ante; otherwise the higher card wins, two after a bet."""
    if state.history.endswith("bp"):
        won = 1.0 if len(state.history) == 2 else -1.0
    else:
        stake = 2.0 if state.history.endswith("bb") else 1.0
        won = stake if state.cards[0] > state.cards[1] else -stake
    return won, -won


def view(state: State, player: int) -> list[float]:
    """The player, the card, and each of up to two moves: [9]."""
    moves = [one_hot("pb".find(state.history[i : i + 1] or "?"), 2) for i in range(2)]
    return [*one_hot(player, 2), *one_hot(state.cards[player], len(_CARDS)), *moves[0], *moves[1]]


def summary(state: State) -> tuple[int, int, int, int]:
    """One round; the moves made; the pot, of antes; what the player to move has left of two."""
    bets = state.history.count("b")
    return 0, len(state.history), 2 + bets, 1
