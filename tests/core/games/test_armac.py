"""Neural ARMAC: what games say against exact computation, the epoch as a pure function, and that it learns.

Statistical tests reject with probability 1e-6 each (fewer than 10 groups, fixed keys)."""

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import games, random
from armfold.core.games import armac, play
from armfold.core.games.decisions import Decisions, decisions
from armfold.core.games.fit import squares
from armfold.core.games.keys import infoset_keys
from armfold.core.games.mixture import learn_lambda
from armfold.core.games.retrospect import Targets, critic_targets, retrospect
from armfold.core.nn import mlp, mlp_init
from armfold.core.regret import output
from tests.purity import check_pure, same_bits

Z = 6.0  # standard errors: beyond them with probability 2e-9 for one of at most a few hundred entries
TINY = armac.Settings(
    hidden=(8,),
    games=64,
    critic_games=32,
    regret_steps=2,
    critic_steps=2,
    average_steps=2,
    actor_steps=2,
    scheduler_steps=2,
    stored=3,
    max_states=512,
    meta_games=8,
    warmup=4,
)


@pytest.fixture(scope="module")
def kuhn() -> games.Tree:
    return games.compile_game(games.kuhn())


def law(tree: games.Tree, seed: int) -> Tensor:
    """Some policy [I, A] that plays everything."""
    weight = random.uniform(random.key(seed), tree.legal.shape, dtype=torch.float32) + 0.2
    weight = torch.where(tree.legal, weight, 0)
    return weight / weight.sum(1, keepdim=True)


def exact_q(tree: games.Tree, points: Decisions, policy: Tensor) -> Tensor:
    """What the first player wins on average after each action, [D, A], by a walk from the end of the game."""
    at = tree.histories
    value, q = at.payoff.clone(), torch.zeros(points.legal.shape)
    for h in reversed(range(len(at.parent))):
        children = range(int(at.first[h]), int(at.first[h] + at.branches[h]))
        if at.player[h] == games.CHANCE:
            value[h] = sum(at.probability[c] * value[c] for c in children)
        elif at.player[h] >= 0:
            d, i = int(points.number[h]), int(at.infoset[h])
            for c in children:
                q[d, at.action[c]] = value[c]
            value[h] = (q[d] * policy[i]).sum()
    return q


def reach(tree: games.Tree, policy: Tensor, player: int) -> Tensor:
    """The chance [H] that `player` does what leads to each history."""
    at, found = tree.histories, torch.ones(len(tree.histories.parent))
    for h in range(1, len(found)):
        up = int(at.parent[h])
        own = at.player[up] == player
        found[h] = found[up] * (policy[at.infoset[up], at.action[h]] if own else 1.0)
    return found


def test_decisions_show_what_players_know_and_critics_all(kuhn: games.Tree) -> None:
    for tree in (kuhn, games.compile_game(games.goofspiel(3))):
        points = decisions(tree)
        assert torch.equal(points.number[points.history], torch.arange(len(points.history)))
        assert torch.equal(points.infoset, tree.histories.infoset[points.history])
        assert len({tuple(row) for row in points.known.tolist()}) == len(tree.names)
        assert len({tuple(row) for row in points.seen.tolist()}) == len(points.history)


def test_rules_without_a_view_have_every_infoset_told_apart() -> None:
    tree = games.compile_game(games.kuhn()._replace(view=None))
    points = decisions(tree)
    assert len({tuple(row) for row in points.known.tolist()}) == len(tree.names)
    assert len({tuple(row) for row in points.seen.tolist()}) == len(points.history)


def test_a_critic_that_is_right_is_told_so_and_another_is_drawn_to_it(kuhn: games.Tree) -> None:
    """Tree backup from the exact q has the exact q as its mean, from games that follow another policy."""
    points, policy, other = decisions(kuhn), law(kuhn, 1), law(kuhn, 2)
    q = exact_q(kuhn, points, policy)
    n = 20_000
    played = play.play(kuhn, other, random.split(random.key(3), n))
    told = critic_targets(points, played, policy, q)
    assert bool((told.seen[points.legal] > 30).all())
    assert bool(((told.mean - q).abs() <= Z * 4.0 / told.seen.clamp(min=1).sqrt())[points.legal].all())
    blank = critic_targets(points, played, policy, torch.zeros_like(q))
    assert float((blank.mean - q)[points.legal].abs().mean()) < float(q[points.legal].abs().mean())
    assert int(told.seen.sum()) == int((points.number[played.history[:-1]] >= 0).sum())


def test_retrospective_regrets_are_in_proportion_to_counterfactual_ones(kuhn: games.Tree) -> None:
    """Their mean at an infoset is that of q_j - policy_j . q_j over past policies and histories, each weighed by the
    chance that nature and the opponent let it happen; and the average targets by the opponent's own reach."""
    points, size = decisions(kuhn), 3
    past = [law(kuhn, 10 + j) for j in range(size)]
    q = [exact_q(kuhn, points, policy) for policy in past]
    explore, n = law(kuhn, 20), 60_000
    learner = torch.arange(n) % 2
    j = random.randint(random.key(5), (n,), low=0, high=size)
    own = torch.arange(2) == learner.unsqueeze(1)
    which = torch.where(own, size, j.unsqueeze(1))
    played = play.play(kuhn, torch.stack([*past, explore]), random.split(random.key(6), n), which)
    told = retrospect(points, played, learner, j, torch.stack(past), torch.stack(q))
    want, weight = torch.zeros(kuhn.legal.shape), torch.zeros(len(kuhn.names), 1)
    mean, often = torch.zeros(kuhn.legal.shape), torch.zeros(len(kuhn.names), 1)
    at = kuhn.histories
    for policy, values in zip(past, q, strict=True):
        for player, sign in ((0, 1), (1, -1)):
            others, mine = reach(kuhn, policy, 1 - player) * at.reach, reach(kuhn, explore, player)
            theirs = reach(kuhn, policy, player)
            for d, h in enumerate(points.history.tolist()):
                if points.player[d] == player:
                    i = int(points.infoset[d])
                    gain = sign * (values[d] - (values[d] * policy[i]).sum())
                    want[i] += others[h] * mine[h] * gain
                    weight[i] += others[h] * mine[h]
                    chance = at.reach[h] * theirs[h] * reach(kuhn, explore, 1 - player)[h]
                    mean[i] += chance * policy[i]
                    often[i] += chance
    error = (told.regret.mean - want / weight).abs()
    assert bool((error <= Z * 4.0 / told.regret.seen.sqrt()).all())
    assert bool(((told.average.mean - mean / often).abs() <= Z / told.average.seen.sqrt()).all())


def test_rows_that_nobody_saw_say_nothing() -> None:
    params = mlp_init(random.key(0), (3, 2))
    x, mean = torch.eye(3), torch.tensor([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]])
    seen = torch.tensor([[1.0], [3.0], [0.0]])
    want = (((mlp(params, x) - mean) ** 2).mean(1) * seen[:, 0]).sum() / 4
    torch.testing.assert_close(squares(x, Targets(mean, seen), params), want)


def test_an_epoch_is_pure_and_runs_of_one_key_are_the_same(kuhn: games.Tree) -> None:
    points = decisions(kuhn)
    state = armac.init(kuhn, points, random.key(1), TINY)
    after, info = check_pure(lambda now: armac.epoch(kuhn, points, now, TINY), state)
    assert int(after.epoch) == 1
    torch.testing.assert_close(info.policy.sum(1), torch.ones(len(kuhn.names)))
    again, _ = armac.epoch(kuhn, points, after, TINY)
    other, _ = armac.epoch(kuhn, points, armac.init(kuhn, points, random.key(2), TINY), TINY)
    leaves = torch.utils._pytree.tree_leaves
    assert not all(same_bits(x, y) for x, y in zip(leaves(after.nets), leaves(other.nets), strict=True))
    assert not same_bits(again.nets.regret.weights[0], after.nets.regret.weights[0])


@pytest.mark.parametrize(
    "settings",
    [
        TINY._replace(lam="fixed", fixed=0.25),
        TINY._replace(lam="random"),
        TINY._replace(lam="meta", level=2, n_clusters=4),
        TINY._replace(continuous=True, level=0),
        TINY._replace(mode="gumbel", utility="hybrid"),
        TINY._replace(mode="hard", utility="immediate", tau_rate=0.9),
    ],
    ids=lambda settings: f"{settings.lam}-{settings.mode}-{settings.utility}-{settings.level}",
)
def test_every_way_to_say_lambda(kuhn: games.Tree, settings: armac.Settings) -> None:
    points = decisions(kuhn)
    state = armac.init(kuhn, points, random.key(1), settings)
    for _ in range(4):
        state, info = armac.epoch(kuhn, points, state, settings)
        assert bool(((info.lam >= 0) & (info.lam <= 1)).all())
        mixed = info.lam.unsqueeze(1) * info.actor + (1 - info.lam.unsqueeze(1)) * info.regret_policy
        torch.testing.assert_close(info.policy, mixed)
    assert bool((state.meta.utility != 0).any())  # what an earlier attempt had: utilities that are always 0
    assert int(state.meta.clock) > 0
    if settings.lam == "fixed":
        assert bool((info.lam == 0.25).all())


def test_warm_up_says_the_first_lambda_and_then_the_scheduler_does(kuhn: games.Tree) -> None:
    points, settings = decisions(kuhn), TINY._replace(warmup=4, scheduler_steps=2, init_lambda=0.3)
    state = armac.init(kuhn, points, random.key(1), settings)
    said = []
    for _ in range(4):
        state, info = armac.epoch(kuhn, points, state, settings)
        said.append(info.lam)
    assert bool((torch.stack(said[:2]) == torch.tensor(0.3)).all())
    assert bool((torch.stack(said[2:]) != torch.tensor(0.3)).any())


def test_stored_policies_are_a_fair_choice(kuhn: games.Tree) -> None:
    """After 6 epochs with room for 3, each of 6 is kept with chance 1/2: over 64 runs 32 times, 6 sigma is 24."""
    settings = TINY._replace(stored=3)
    points = decisions(kuhn)
    kept = torch.zeros(6)
    first = armac.init(kuhn, points, random.key(0), settings)
    for seed in range(64):
        state = first
        for t in range(6):
            mark = torch.full_like(kuhn.legal, t, dtype=torch.float32)
            state = armac._store(state, mark, torch.zeros(points.legal.shape), random.key(97 * seed + t), settings)
            state = state._replace(epoch=state.epoch + 1)
        kept[state.policies[:, 0, 0].long()] += 1
    assert int(kept.sum()) == 64 * 3
    assert bool(((kept - 32).abs() <= 24).all())
    assert bool((kept[:3] < 64).any())


def trained(
    tree: games.Tree, settings: armac.Settings, *, epochs: int, seed: int = 1
) -> tuple[armac.State, armac.Info]:
    """What so many epochs leave, and what the last one did."""
    points = decisions(tree)
    state = armac.init(tree, points, random.key(seed), settings)
    for _ in range(epochs):
        state, info = armac.epoch(tree, points, state, settings)
    return state, info


def test_seeds_may_be_lanes(kuhn: games.Tree) -> None:
    """Two runs in one program are the two runs, but for the order of sums."""
    points, keys = decisions(kuhn), random.split(random.key(3), 2)
    start = [armac.init(kuhn, points, key, TINY) for key in keys]
    both = torch.func.vmap(lambda state: armac.epoch(kuhn, points, state, TINY)[0])(
        pytree.tree_map(lambda *x: torch.stack(x), *start)
    )
    for i, state in enumerate(start):
        for lane, alone in zip(
            pytree.tree_leaves(both), pytree.tree_leaves(armac.epoch(kuhn, points, state, TINY)[0]), strict=True
        ):
            torch.testing.assert_close(lane[i], alone, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("mode", ["soft", "gumbel"])
def test_the_temperature_counts_where_bins_are_mixed_or_drawn(kuhn: games.Tree, mode: output.Mode) -> None:
    """What a scheduler says that is no longer indifferent depends on it; the best bin does not."""
    sharp = {"warmup": 0, "scheduler_rate": 0.1, "tau_start": 1.0, "tau_rate": 0.5, "tau_end": 0.01}
    cases = [TINY._replace(**sharp, mode=m) for m in (mode, "hard")]
    for settings, counts in zip(cases, (True, False), strict=True):
        cold, flat = (trained(kuhn, s, epochs=3)[1].lam for s in (settings, settings._replace(tau_end=1.0)))
        assert same_bits(cold, flat) is not counts


@pytest.mark.parametrize("utility", ["advantage", "immediate", "hybrid"])
def test_no_state_is_told_what_bins_are_worth_at_another(kuhn: games.Tree, utility: str) -> None:
    """Windows are of one key: another actor, and other returns, elsewhere leave its utilities alone to the bit."""
    settings = TINY._replace(lam="fixed", utility=utility, min_samples=1, meta_games=32)
    points, (state, info) = decisions(kuhn), trained(kuhn, settings, epochs=3)
    key = armac.state_keys(kuhn, points, state, settings)
    here = key == key[0]
    other = torch.where(here.unsqueeze(1), info.actor, law(kuhn, 5))
    worth = []
    for actor in (info.actor, other):
        played = armac.Played(info.policy, actor, info.regret_policy, info.lam)
        told = learn_lambda(points, state, key, info.games, played, info.q, settings)[0].meta
        worth.append({int(k): u for k, u in zip(told.key, told.utility, strict=True) if k in key})
    same = {k: same_bits(worth[0][k], worth[1][k]) for k in worth[0]}
    assert same == {k: k == int(key[0]) for k in same}
    assert len(same) == 3


def test_games_without_a_summary_have_keys_by_moves(kuhn: games.Tree) -> None:
    bare = games.compile_game(games.kuhn()._replace(summary=None))
    assert torch.equal(bare.summary, torch.tensor([[2, len(name) - 1, 0, 0] for name in bare.names]))
    first, second = (infoset_keys(tree, 0).unique(return_inverse=True)[1] for tree in (kuhn, bare))
    assert torch.equal(first, second)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_epoch_on_the_gpu(kuhn: games.Tree) -> None:
    """Everything stays there, and the first policy's games are those of the CPU."""
    there = games.move(kuhn, device="cuda")
    points = decisions(there)
    state = armac.init(there, points, random.key(1).cuda(), TINY)
    state, info = armac.epoch(there, points, state, TINY)
    assert {x.device.type for x in pytree.tree_leaves((state, info))} == {"cuda"}
    here = trained(kuhn, TINY, epochs=1)[1]
    assert torch.equal(info.games.history.cpu(), here.games.history)
    torch.testing.assert_close(info.q.cpu(), here.q, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_it_learns_kuhn(kuhn: games.Tree) -> None:
    """60 epochs come below a fifth of uniform play's 11/24 for two keys, and lambda goes from one policy to the other
    at some infoset. A run without its critic does not come there, and lambda of a scheduler without steps stays."""
    settings, points = armac.Settings(hidden=(32, 32), games=8192, critic_games=4096), decisions(kuhn)

    def learn(seed: int, told: armac.Settings) -> tuple[float, float]:
        """How exploitable the average policy is, and how far lambda has gone at an infoset, at most."""
        state, said = armac.init(kuhn, points, random.key(seed), told), []
        for _ in range(60):
            state, info = armac.epoch(kuhn, points, state, told)
            said.append(info.lam)
        policy = armac.average_policy(kuhn, points, state.nets).double()
        went = torch.stack(said).amax(0) - torch.stack(said).amin(0)
        return float(games.exploitability(kuhn, policy)), float(went.max())

    for seed in (0, 1):
        left, went = learn(seed, settings)
        assert left < 0.09
        assert went > 0.5
    assert learn(0, settings._replace(critic_steps=0))[0] > 0.09
    assert learn(0, settings._replace(scheduler_steps=0))[1] < 0.1
