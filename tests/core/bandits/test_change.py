"""Arms added and removed, and learners that begin with a log, for every algorithm of the registry."""

from functools import partial

import pytest
import torch

from armfold.core import random
from armfold.core.bandits import (
    ALGORITHMS,
    add_arms,
    exp3,
    exp4,
    lin_ucb,
    remove_arms,
    sw_ucb,
    track_and_stop,
    tsallis_inf,
    ucb1,
    warm_start,
    with_delay,
)
from armfold.core.bandits import arms as plain
from armfold.core.check import ShapeError
from armfold.core.types import Logged
from tests.core.bandits.helpers import (
    FORMS,
    WEIGHS_BY_PROPENSITY,
    D,
    K,
    among,
    arm_axes,
    close,
    context,
    contextual,
    keys,
    lane,
    make,
    played,
    same,
)
from tests.purity import check_pure
from tests.tiers import thinned

# What they learn from one arm depends on how many there are, by the law of choice, a threshold, a schedule, or an age
# that an arm has from the first step on.
DEPENDS_ON_ARMS = WEIGHS_BY_PROPENSITY | {"successive_halving", "track_and_stop", "glr_kl_ucb"}

every_form = pytest.mark.parametrize("form", FORMS)
half_of_the_forms = pytest.mark.parametrize("form", thinned(FORMS, keep=2))  # the others are slow


def assert_works(form, bandit, state, arms, batch):
    """That a state of so many arms can choose and learn."""
    obs, rng = context(form, batch, 77, arms=arms), keys(batch, 9)
    law = bandit.policy(state, rng, obs, samples=8)
    assert law.shape == (*batch, arms)
    torch.testing.assert_close(law.sum(-1), torch.ones(batch))
    action = bandit.select(state, rng, obs)
    learned = bandit.update(state, rng, obs, action, torch.ones(batch))
    assert [x.shape for x in learned] == [x.shape for x in bandit.init(rng)]


# --- arms added


@half_of_the_forms
@pytest.mark.parametrize("batch", [(2, 3), pytest.param((), marks=pytest.mark.slow)])
def test_added_arms_come_last_and_are_fresh(form, batch):
    state, more = played(form, batch)[0], make(form, arms=K + 2)
    grown, fresh = add_arms(more, state, keys(batch, 5)), more.init(keys(batch, 5))
    axes = arm_axes(form)
    for field in state._fields:
        before, after, new = (getattr(s, field) for s in (state, grown, fresh))
        if field in axes:
            assert same(after.narrow(axes[field], 0, K), before)
            assert same(after.narrow(axes[field], K, 2), new.narrow(axes[field], K, 2))
        else:
            assert after is before
    assert type(grown) is type(state)
    assert_works(form, more, grown, K + 2, batch)


@half_of_the_forms
@pytest.mark.parametrize("batch", [(2, 3), pytest.param((), marks=pytest.mark.slow)])
def test_what_was_added_can_be_removed(form, batch):
    state, more = played(form, batch)[0], make(form, arms=K + 2)
    grown = add_arms(more, state, keys(batch, 5))
    assert same(remove_arms(make(form), grown, keys(batch), removed=[K, K + 1]), state)


def taught(form, arms, actions, where=lambda action: action):
    """A learner of so many arms taught a list of actions, each in the place `where`; the contexts are of 5 arms."""
    bandit, state = make(form, arms=arms), make(form, arms=arms).init(keys((2,)))
    for t, action in enumerate(actions):
        obs = context(form, (2,), t, arms=5)
        if obs is not None:
            obs = torch.stack([obs[:, action] for _ in range(arms)], 1)  # who else is there does not matter
        reward = random.uniform(keys((2,), 50 + t))
        state = bandit.update(state, keys((2,), t), obs, torch.full((2,), where(action)), reward)
    return state


@pytest.mark.parametrize("form", thinned((form for form in FORMS if not among(form, DEPENDS_ON_ARMS)), keep=2))
def test_an_arm_never_played_might_as_well_not_be_there(form):
    """Adding it gives the learner that had it all along, removing it the one that never did: bit for bit."""
    actions = [0, 2, 4, 2, 0, 0, 4, 2, 2]
    places = {0: 0, 2: 1, 4: 2}
    five, three = taught(form, 5, actions), taught(form, 3, actions, places.get)
    assert same(remove_arms(make(form), five, keys((2,)), removed=[1, 3]), three)
    assert same(add_arms(make(form, arms=5), three, keys((2,))), taught(form, 5, actions, places.get))


# --- arms removed


@half_of_the_forms
@pytest.mark.parametrize("batch", [(2, 3), pytest.param((), marks=pytest.mark.slow)])
def test_arms_that_stay_move_up_and_keep_what_is_known_of_them(form, batch):
    state, fewer = played(form, batch, arms=5)[0], make(form)
    left = remove_arms(fewer, state, keys(batch), removed=[3, 0])
    axes = arm_axes(form)
    for field in state._fields:
        before, after = getattr(state, field), getattr(left, field)
        if field in axes:
            assert same(after.unbind(axes[field]), [before.select(axes[field], arm) for arm in (1, 2, 4)])
        elif not field.endswith("_arm"):
            assert after is before
    assert_works(form, fewer, left, K, batch)


def test_positions_of_arms_are_renumbered():
    """The plays in a window, and the arm that a rule stopped with; a removed arm becomes none."""
    state, lanes = sw_ucb(arms=4, window=4).init(keys((1,))), keys((1,))
    for arm in (3, 1, 0, 3, 2):
        state = sw_ucb(arms=4, window=4).update(state, lanes, None, torch.tensor([arm]), torch.ones(1))
    left = remove_arms(sw_ucb(arms=3, window=4), state, lanes, removed=[1])
    assert state.recent_arm.tolist() == [[2, 1, 0, 3]]
    assert left.recent_arm.tolist() == [[1, -1, 0, 2]]
    assert left.pulls.tolist() == [[1, 1, 1]]
    # The slot of the removed arm is overwritten in its turn, and takes nothing off.
    for arm, pulls in ((0, [2, 1, 1]), (0, [2, 1, 1]), (1, [2, 2, 0])):
        left = sw_ucb(arms=3, window=4).update(left, lanes, None, torch.tensor([arm]), torch.ones(1))
        assert left.pulls.tolist() == [pulls]
    answers = track_and_stop(arms=4).init(keys((3,)))._replace(stopped_arm=torch.tensor([3, 1, -1]))
    assert remove_arms(track_and_stop(arms=3), answers, keys((3,)), removed=[1]).stopped_arm.tolist() == [2, -1, -1]


# --- both


@half_of_the_forms
def test_changes_are_pure(form):
    check_pure(partial(add_arms, make(form, arms=4)), played(form, (4,))[0], keys((4,)))
    check_pure(partial(remove_arms, make(form, arms=2), removed=[1]), played(form, (4,))[0], keys((4,)))


@pytest.mark.parametrize("form", ["sw_ucb", "track_and_stop", "exp3", "bagged_linear", "lin_ucb, hybrid"])
def test_changes_agree_with_their_lanes(form, variants):
    state = played(form, (4,))[0]
    traced = form == "sw_ucb"
    variants(partial(add_arms, make(form, arms=4)), state, keys((4,)), exact=True, traced=traced)
    variants(partial(remove_arms, make(form, arms=2), removed=[1]), state, keys((4,)), exact=True, traced=traced)


def test_no_change_is_none():
    state = played("ucb1", (4,))[0]
    assert same(add_arms(make("ucb1"), state, keys((4,))), state)
    assert same(remove_arms(make("ucb1"), state, keys((4,)), removed=[]), state)


def test_steps_that_wait_for_their_rewards_change_too():
    def late(arms):
        return with_delay(make("lin_ucb", arms=arms), delay=2, arms=arms, features=D, masks=True)

    obs, lanes, state = context("lin_ucb", (1,)), keys((1,)), late(3).init(keys((1,)))
    for arm in (0, 2, 1):
        state = late(3).update(state, lanes, obs, torch.tensor([arm]), torch.ones(1))
    assert state.steps["played_arm"].tolist() == [[1, 2]]
    grown = add_arms(late(4), state, lanes)
    assert same(grown.steps["obs"][..., :3, :], state.steps["obs"])
    assert same(grown.learner, add_arms(make("lin_ucb", arms=4), state.learner, lanes))
    left = remove_arms(late(2), state, lanes, removed=[1])
    assert left.steps["played_arm"].tolist() == [[-1, 1]]
    learned = late(2).update(left, lanes, obs[:, [0, 2]], torch.tensor([0]), torch.ones(1))
    # Arm 2, now 1, is paid; the next reward would be that of the arm removed, and teaches nothing.
    assert learned.learner.pulls.tolist() == [[1, 1]]
    learned = late(2).update(learned, lanes, obs[:, [0, 2]], torch.tensor([0]), torch.ones(1))
    assert learned.learner.pulls.tolist() == [[1, 1]]


# --- what is refused


def test_positions_that_are_not_there_are_refused():
    state = played("ucb1", (4,))[0]
    for removed in ([3], [-1], [True], [1.0], ["1"], [None], [0, 7]):
        with pytest.raises(ValueError, match=r"removed must hold arms in \[0, 3\)"):
            remove_arms(make("ucb1", arms=2), state, keys((4,)), removed=removed)


def test_wrong_numbers_of_arms_are_refused():
    state = played("ucb1", (4,))[0]
    for removed in ([], [0, 1], [0, 1, 2]):
        with pytest.raises(ValueError, match="removed must leave as many arms as bandit has, 2 of 3"):
            remove_arms(make("ucb1", arms=2), state, keys((4,)), removed=removed)
    with pytest.raises(ValueError, match="bandit must have no fewer arms than state, got 2 against 3"):
        add_arms(make("ucb1", arms=2), state, keys((4,)))


@pytest.mark.parametrize(
    ("bandit", "state"),
    [
        (exp3(arms=4), ucb1(arms=3).init(keys((4,)))),
        (ucb1(arms=4), exp3(arms=3).init(keys((4,)))),
        (exp3(arms=4, dtype=torch.float64), exp3(arms=3).init(keys((4,)))),
        (lin_ucb(arms=4, features=5), lin_ucb(arms=3, features=2).init(keys((4,)))),
        (lin_ucb(arms=4, features=2, model="shared"), lin_ucb(arms=3, features=2).init(keys((4,)))),
        (exp4(arms=4, features=6), exp4(arms=3, features=2).init(keys((4,)))),
        (sw_ucb(arms=4, window=9), sw_ucb(arms=3, window=8).init(keys((4,)))),
        (with_delay(ucb1(arms=4), delay=2), ucb1(arms=3).init(keys((4,)))),
        (with_delay(ucb1(arms=4), delay=2), with_delay(ucb1(arms=3), delay=3).init(keys((4,)))),
        (
            with_delay(ucb1(arms=4), delay=2),
            with_delay(ucb1(arms=3), delay=2, propensities=True).init(keys((4,))),
        ),
        (ucb1(arms=4), ucb1(arms=3).init(keys((5,)))),
        (tsallis_inf(arms=4), tsallis_inf(arms=3).init(keys((5,)))),
        (ucb1(arms=4), ucb1(arms=3).init(keys((2, 4)))),
        (ucb1(arms=3), ucb1(arms=3).init(keys((5,)))),
    ],
)
def test_states_of_others_are_refused(bandit, state):
    with pytest.raises(ShapeError, match="state"):
        add_arms(bandit, state, keys((4,)))


def test_keys_of_other_lanes_are_refused():
    state = played("ucb1", (4,))[0]
    with pytest.raises(ShapeError, match="state"):
        remove_arms(make("ucb1", arms=2), state, keys((3,)), removed=[0])
    with pytest.raises(ShapeError, match="rng "):
        remove_arms(make("ucb1", arms=2), state, torch.zeros(4, 3), removed=[0])


# --- a log to begin with


def log(form, batch, rows=6, propensities=False):
    """Decisions made at random, [*B, rows]."""
    action = random.randint(keys(batch, 21), (rows,), high=K)
    reward = random.uniform(keys(batch, 22), (rows,))
    obs = random.uniform(keys(batch, 23), (rows, K, D)) if contextual(form) else None
    return Logged(obs, action, reward, random.uniform(keys(batch, 24), (rows,)) if propensities else None)


@half_of_the_forms
@pytest.mark.parametrize(("batch", "propensities"), [((), False), ((2, 3), True)])
def test_a_warm_start_is_a_fold_of_updates(form, batch, propensities):
    bandit, logged, rng = make(form), log(form, batch, propensities=propensities), keys(batch, 4)
    state = bandit.init(keys(batch))
    found, rows = warm_start(bandit, state, rng, logged), len(batch)
    for t in range(logged.action.shape[-1]):
        obs, action, reward, chance = (None if x is None else x.select(rows, t) for x in logged)
        state = bandit.update(state, random.fold_in(rng, t), obs, action, reward, propensity=chance)
    assert same(found, state)


def test_a_warm_start_by_hand():
    """Counts, and a ridge regression solved in float64."""
    logged = log("lin_ucb", (2,), 50)
    played_by = torch.stack([(logged.action == arm).double() for arm in range(K)], -1)
    state = warm_start(make("ucb1"), make("ucb1").init(keys((2,))), keys((2,)), logged._replace(obs=None))
    assert torch.equal(state.pulls.double(), played_by.sum(-2))
    torch.testing.assert_close(state.reward_sum, (played_by * logged.reward.double().unsqueeze(-1)).sum(-2))
    state = warm_start(make("lin_ucb"), make("lin_ucb").init(keys((2,))), keys((2,)), logged)
    x = torch.gather(logged.obs, 2, logged.action[..., None, None].expand(2, 50, 1, D)).squeeze(2).double()
    weighted = x.unsqueeze(1) * played_by.mT.unsqueeze(-1)  # [2, K, 50, D]
    precision = weighted.mT @ x.unsqueeze(1) + torch.eye(D)
    mean = torch.linalg.solve(precision, (weighted * logged.reward[:, None, :, None]).sum(-2))
    torch.testing.assert_close(state.mean.double(), mean, rtol=1e-4, atol=1e-5)


def test_bad_rows_teach_nothing():
    logged = log("ucb1", (2,), 4)
    bad = logged._replace(
        action=torch.tensor([[0, -1, K, 1], [2, 2, 2, 2]]),
        reward=torch.tensor([[0.5, 0.5, 0.5, 0.25], [torch.nan, 0.5, torch.inf, 0.25]]),
    )
    for name in ALGORITHMS:
        if not contextual(name):
            bandit = make(name)
            short = Logged(None, torch.tensor([[0, 1], [2, 2]]), torch.tensor([[0.5, 0.25], [0.5, 0.25]]))
            start = bandit.init(keys((2,)))
            # Halving draws lots by the row's key, which decide between arms that tie: not here.
            close(warm_start(bandit, start, keys((2,)), bad), warm_start(bandit, start, keys((2,)), short), 0)


def test_an_empty_log_teaches_nothing():
    state = make("ucb1").init(keys((2,)))
    empty = Logged(None, torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0))
    assert warm_start(make("ucb1"), state, keys((2,)), empty) is state


@pytest.mark.parametrize("form", thinned(["ucb1", "exp3", "lin_ts"]))
def test_warm_starts_are_pure_and_agree_with_their_lanes(form, variants):
    state, logged = make(form).init(keys((3,))), log(form, (3,), 3)
    check_pure(partial(warm_start, make(form)), state, keys((3,)), logged)
    variants(partial(warm_start, make(form)), state, keys((3,)), logged, traced=form == "ucb1")


def test_logs_of_wrong_shapes_are_refused_by_name():
    bandit, rng, logged = make("lin_ucb"), keys((2,)), log("lin_ucb", (2,), propensities=True)
    state = bandit.init(rng)
    for field, bad in (
        ("action", logged.action[0]),
        ("action", logged.action.double()),
        ("reward", logged.reward[:, :5]),
        ("reward", logged.reward[:1]),
        ("reward", logged.reward.unsqueeze(-1)),
        ("reward", logged.action),
        ("propensity", logged.propensity[:, :5]),
        ("obs", logged.obs[:, :5]),
        ("obs", logged.obs[..., 0]),
        ("obs", logged.obs[..., :1]),
        ("obs", None),
    ):
        with pytest.raises(ShapeError, match=rf"{field} must"):
            warm_start(bandit, state, rng, logged._replace(**{field: bad}))
    with pytest.raises(ShapeError, match="rng "):
        warm_start(bandit, state, torch.zeros(2, 3), logged)
    with pytest.raises(ShapeError, match="rng "):
        warm_start(bandit, bandit.init(keys((3,))), rng, logged)


def test_a_learner_of_ones_own_can_change():
    """Any bandit whose state's first tensor is [*B, K]."""

    def index(state):
        return plain.unplayed_first(state, plain.mean(state, torch.float32))

    mine = [plain.index_bandit(index, arms=arms) for arms in (3, 4)]
    state = mine[0].update(mine[0].init(keys((2,))), keys((2,)), None, torch.tensor([0, 2]), torch.ones(2))
    grown = add_arms(mine[1], state, keys((2,)))
    assert grown.pulls.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    assert lane(remove_arms(mine[0], grown, keys((2,)), removed=[0]).pulls, 1).tolist() == [0, 1, 0]
