"""Leduc poker: six cards, two rounds, two raises a round. Southey et al. 2005. Payoffs in antes."""

from typing import NamedTuple

from armfold.core.games.rules import CHANCE, END, Rules, draw, one_hot

FOLD, CALL, RAISE = 0, 1, 2
_CARDS = 6  # two suits of three ranks
_RAISES = 2  # a round
_SIZES = (2, 4)  # of a raise in each round
_MOVES = 4  # at most, of a round
_STACK = 13  # the most that a player can put in


class State(NamedTuple):
    """The cards, what was done in each round, and what each player has put in."""

    cards: tuple[int, ...] = ()  # private ones, then the public one
    rounds: tuple[tuple[int, ...], ...] = ((),)  # actions
    paid: tuple[int, int] = (1, 1)
    folded: int = -1  # the player who has


def leduc() -> Rules:
    """Leduc poker, with suits told apart. Its value is about -0.0856 to the first player.

    Source: Southey et al. 2005.
    """
    return Rules(
        name="leduc",
        actions=("fold", "call", "raise"),
        start=State(),
        turn=turn,
        legal=legal,
        chance=lambda state: draw(_CARDS, state.cards),
        follow=follow,
        payoffs=payoffs,
        infoset=infoset,
        view=view,
        summary=summary,
        openspiel="leduc_poker",
    )


def _over(actions: tuple[int, ...]) -> bool:
    """Whether a round is: somebody has called, but not as the first."""
    return len(actions) >= 2 and actions[-1] == CALL


def turn(state: State) -> int:
    """The first player begins both rounds."""
    if state.folded >= 0 or (len(state.rounds) == 2 and _over(state.rounds[1])):
        return END
    if len(state.cards) < len(state.rounds) + 1:
        return CHANCE
    return len(state.rounds[-1]) % 2


def legal(state: State) -> list[int]:
    """To fold where there is something to call, and to raise twice a round."""
    fold = [FOLD] if state.paid[0] != state.paid[1] else []
    return [*fold, CALL, *([RAISE] if state.rounds[-1].count(RAISE) < _RAISES else [])]


def follow(state: State, action: int) -> State:
    """A card more, or an action; a round that ends is followed by the next."""
    if len(state.cards) < len(state.rounds) + 1:
        return state._replace(cards=(*state.cards, action))
    player, actions = len(state.rounds[-1]) % 2, (*state.rounds[-1], action)
    if action == FOLD:
        return state._replace(rounds=(*state.rounds[:-1], actions), folded=player)
    owed = max(state.paid) + (_SIZES[len(state.rounds) - 1] if action == RAISE else 0)
    paid = (owed, state.paid[1]) if player == 0 else (state.paid[0], owed)
    following = ((),) if _over(actions) and len(state.rounds) == 1 else ()
    return state._replace(rounds=(*state.rounds[:-1], actions, *following), paid=paid)


def payoffs(state: State) -> tuple[float, float]:
    """What the other has put in; a pair with the public card wins, then the higher rank, and equal ranks share."""
    if state.folded >= 0:
        winner = 1 - state.folded
    else:
        ranks = [card // 2 for card in state.cards]
        strength = [_CARDS * (ranks[player] == ranks[2]) + ranks[player] for player in (0, 1)]
        if strength[0] == strength[1]:
            return 0.0, 0.0
        winner = int(strength[1] > strength[0])
    won = float(state.paid[1 - winner])
    return (won, -won) if winner == 0 else (-won, won)


def _name(card: int) -> str:
    return "JQK"[card // 2] + "sh"[card % 2]


def infoset(state: State) -> str:
    """Private card, public card and actions, such as Ks/Jh rc/c."""
    player, rounds = turn(state), ["".join("fcr"[action] for action in actions) for actions in state.rounds]
    public = "/" + _name(state.cards[2]) if len(state.cards) == 3 else ""
    return f"{_name(state.cards[player])}{public} {'/'.join(rounds)}"


def view(state: State, player: int) -> list[float]:
    """The player, both cards and each action: [2 + 6 + 6 + 2 x 4 x 2]."""
    cards = [state.cards[player], state.cards[2] if len(state.cards) == 3 else -1]
    seen = [*one_hot(player, 2), *one_hot(cards[0], _CARDS), *one_hot(cards[1], _CARDS)]
    for i in range(2):
        actions = state.rounds[i] if i < len(state.rounds) else ()
        for j in range(_MOVES):
            seen += one_hot(actions[j] - 1 if j < len(actions) else -1, 2)
    return seen


def summary(state: State) -> tuple[int, int, int, int]:
    """Round, actions in it, pot, and what the player to move has left of what can be put in."""
    return len(state.rounds) - 1, len(state.rounds[-1]), sum(state.paid), _STACK - state.paid[len(state.rounds[-1]) % 2]
