"""Goofspiel: both bid a card for each prize, and see who has won it, not with what. Payoffs are 1, 0 and -1."""

from typing import NamedTuple

from armfold.core.check import check_size
from armfold.core.games.rules import END, Rules, one_hot


class State(NamedTuple):
    """The cards that each player has bid, 0 the lowest; the first has bid once more while the second is to bid."""

    bids: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


def wins(bids: tuple[tuple[int, ...], ...]) -> list[int]:
    """Of each prize: 0 or 1, the player who has won it, or 2, neither."""
    return [2 if a == b else int(b > a) for a, b in zip(*bids)]


def goofspiel(cards: int = 4) -> Rules:
    """Goofspiel with `cards` cards each, prizes in descending order and bids that stay hidden; most points win.

    The last card, which is no choice, is played without a turn. cards >= 2. Raises ValueError for others.
    Source: Ross 1971.
    """
    check_size("cards", cards, low=2)

    def turn(state: State) -> int:
        return END if len(state.bids[1]) >= cards - 1 else len(state.bids[0]) - len(state.bids[1])

    def legal(state: State) -> list[int]:
        return [card for card in range(cards) if card not in state.bids[turn(state)]]

    def follow(state: State, action: int) -> State:
        first, second = state.bids
        return State((first, (*second, action)) if turn(state) else ((*first, action), second))

    def payoffs(state: State) -> tuple[float, float]:
        played = wins(tuple((*bids, *(set(range(cards)) - set(bids))) for bids in state.bids))  # forced ones too
        first, second = (sum(cards - i for i, who in enumerate(played) if who == player) for player in (0, 1))
        won = float((first > second) - (second > first))
        return won, -won

    def infoset(state: State) -> str:
        player = turn(state)
        mine = "".join(str(card + 1) for card in state.bids[player])
        return f"P{player} {mine}/{''.join('+-='[who if who == 2 else who ^ player] for who in wins(state.bids))}"

    def view(state: State, player: int) -> list[float]:
        mine, won = state.bids[player], wins(state.bids)
        seen = one_hot(player, 2)
        for i in range(cards - 1):
            seen += one_hot(mine[i] if i < len(mine) else -1, cards)
            seen += one_hot(won[i] if i < len(won) else -1, 3)
        return seen

    def summary(state: State) -> tuple[int, int, int, int]:
        done = len(state.bids[1])
        return done, turn(state), cards - done, sum(card + 1 for card in legal(state))

    return Rules(
        name=f"goofspiel({cards})",
        actions=tuple(str(card + 1) for card in range(cards)),
        start=State(),
        turn=turn,
        legal=legal,
        chance=lambda state: (),
        follow=follow,
        payoffs=payoffs,
        infoset=infoset,
        view=view,
        summary=summary,
        openspiel=f"turn_based_simultaneous_game(game=goofspiel(imp_info=True,num_cards={cards},points_order=descending))",
    )
