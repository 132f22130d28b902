"""k-means in mini-batches: against scikit-learn, against one row at a time, and with what is not clean."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as Peer
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.regret import KMeans, kmeans_assign, kmeans_inertia, kmeans_init, kmeans_step
from armfold.shell.store import checkpoint
from tests.purity import check_pure, same_bits

NAN = math.nan


def keys(*batch: int, seed: int = 0) -> Tensor:
    return random.split(random.key(seed), math.prod(batch)).reshape(*batch, 2)


def blobs(seed: int, n: int, *, clusters: int, features: int, spread: float = 1.0) -> Tensor:
    """n rows around centres in [-10, 10]^d."""
    k = random.split(random.key(seed), 3)
    centres = random.uniform(k[0], (clusters, features), low=-10.0, high=10.0)
    rows = centres[random.randint(k[1], (n,), high=clusters)]
    return rows + spread * random.normal(k[2], (n, features))


def normals(seed: int, *shape: int) -> Tensor:
    return random.normal(random.key(seed), shape)


def fit(x: Tensor, clusters: int, steps: int, batch: int, seed: int = 0) -> KMeans:
    state = kmeans_init(random.key(seed), x[:batch], clusters=clusters)
    for i in range(steps):
        rows = random.randint(random.fold_in(random.key(seed), i), (batch,), high=len(x))
        state = kmeans_step(state, random.fold_in(random.key(seed + 1), i), x[rows])
    return state


@pytest.mark.parametrize(("clusters", "features", "spread"), [(8, 4, 1.0), (15, 6, 3.0)])
def test_inertia_is_that_of_scikit_learn(clusters: int, features: int, spread: float) -> None:
    """Within 15% of the best of five full runs, and of a mini-batch run on as many rows: means over seeds 0 to 2."""
    ours, full, mini = [], [], []
    for seed in range(3):
        x = blobs(seed, 1000, clusters=clusters, features=features, spread=spread)
        ours.append(float(kmeans_inertia(fit(x, clusters, 20, 250, seed), x)))
        full.append(Peer(clusters, n_init=5, random_state=seed).fit(x.numpy()).inertia_ / len(x))
        peer = MiniBatchKMeans(clusters, batch_size=250, n_init=1, max_iter=5, random_state=seed).fit(x.numpy())
        mini.append(-peer.score(x.numpy()) / len(x))
    assert np.mean(ours) < 1.15 * np.mean(full)
    assert np.mean(ours) < 1.15 * np.mean(mini)


def test_inertia_falls() -> None:
    x = blobs(3, 1000, clusters=20, features=5, spread=4.0)
    state = kmeans_init(random.key(0), x[:100], clusters=10)
    seen = [float(kmeans_inertia(state, x))]
    for _ in range(8):
        state = kmeans_step(state, random.key(1), x)
        seen.append(float(kmeans_inertia(state, x)))
    assert all(after < before for before, after in itertools.pairwise(seen))
    assert seen[-1] < 0.8 * seen[0]


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_a_step_is_that_of_one_row_after_another(seed: int) -> None:
    """Sculley's algorithm 1 in float64: the clusters of all rows first, then each centre by 1 / its count."""
    x = normals(seed, 30, 3)
    state = kmeans_init(random.key(seed), x[:10], clusters=4)
    for i in range(2):
        rows = x[10 * i + 10 : 10 * i + 20].double()
        centre, weight = state.centre.double(), state.weight.clone()
        nearest = torch.cdist(rows, centre).argmin(-1)
        for row, j in zip(rows, nearest.tolist()):
            weight[j] += 1
            centre[j] += (row - centre[j]) / weight[j]
        assert torch.equal(kmeans_assign(state, rows.float()), nearest)
        state = kmeans_step(state, random.key(0), rows.float())
        torch.testing.assert_close(state.centre.double(), centre, rtol=1e-5, atol=1e-5)
        assert torch.equal(state.weight, weight)


def test_points_far_from_zero_are_told_apart() -> None:
    x = blobs(0, 300, clusters=5, features=3)
    near, far = (fit(x + shift, 5, 5, 300) for shift in (0.0, 4096.0))
    torch.testing.assert_close(far.centre - 4096, near.centre, rtol=0, atol=1e-2)
    nearest = torch.cdist(x.double() + 4096, far.centre.double()).argmin(-1)
    assert (kmeans_assign(far, x + 4096) == nearest).double().mean() > 0.99
    assert float(kmeans_inertia(far, x + 4096)) == pytest.approx(float(kmeans_inertia(near, x)), rel=0.01)


def test_centres_begin_at_distinct_rows() -> None:
    x = torch.cat((blobs(0, 40, clusters=4, features=2), torch.zeros(40, 2)))
    state = kmeans_init(random.key(0), x, clusters=12)
    assert (state.weight == 1).all()
    assert len(state.centre.unique(dim=0)) == 12
    assert all((x == c).all(-1).any() for c in state.centre)
    assert len({tuple(kmeans_init(k, x, clusters=3).centre.flatten().tolist()) for k in keys(10)}) > 5


def test_fewer_rows_than_clusters_leave_some_empty_until_there_are_more() -> None:
    three = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    state = kmeans_init(random.key(0), three, clusters=5)
    assert sorted(state.weight.tolist()) == [0, 0, 1, 1, 1]
    assert set(kmeans_assign(state, three).tolist()) == {0, 1, 2}
    again = kmeans_step(state, random.key(1), three)
    assert sorted(again.weight.tolist()) == [0, 0, 2, 2, 3]  # no row is anything but a centre
    filled = kmeans_step(again, random.key(1), torch.tensor([[9.0, 9.0], [-9.0, 9.0], [5.0, 5.0]]))
    assert sorted(filled.weight.tolist()) == [1, 1, 2, 3, 3]
    assert {(9.0, 9.0), (-9.0, 9.0)} <= {tuple(c) for c in filled.centre.tolist()}


def test_clusters_without_data_wait_for_some() -> None:
    state = kmeans_init(random.key(0), torch.zeros(0, 2), clusters=6)
    x = blobs(1, 200, clusters=6, features=2)
    assert (kmeans_assign(state, x) == -1).all()
    assert float(kmeans_inertia(state, x)) == 0
    assert kmeans_step(state, random.key(0), x[:0]) is state
    for i in range(5):
        state = kmeans_step(state, random.fold_in(random.key(1), i), x)
    assert (state.weight >= 1).all()
    assert len(kmeans_assign(state, x).unique()) == 6


def test_rows_that_are_not_finite_are_ignored() -> None:
    x = normals(0, 20, 3)
    wrong = torch.cat((x, torch.tensor([[NAN, 0.0, 0.0], [0.0, math.inf, -math.inf]])))
    for a, b in zip(kmeans_init(random.key(0), wrong, clusters=22), kmeans_init(random.key(0), x, clusters=22)):
        assert same_bits(a, b)  # two stay empty
    state = kmeans_init(random.key(0), x, clusters=4)
    assert torch.equal(kmeans_assign(state, wrong)[-2:], torch.tensor([-1, -1]))
    assert torch.equal(kmeans_inertia(state, wrong), kmeans_inertia(state, x))
    for a, b in zip(kmeans_step(state, random.key(1), wrong), kmeans_step(state, random.key(1), x)):
        torch.testing.assert_close(a, b)
    for a, b in zip(kmeans_step(state, random.key(1), wrong[-2:]), state):
        assert torch.equal(a, b)


def test_with_decay_clusters_follow_data_that_moves() -> None:
    """A centre that wins nothing any more becomes empty, and takes a row elsewhere."""
    old = blobs(0, 200, clusters=4, features=2)
    new = old + 100
    fading = lasting = fit(old, 4, 5, 200)
    for i in range(15):
        key = random.fold_in(random.key(2), i)
        fading, lasting = kmeans_step(fading, key, new, decay=0.5), kmeans_step(lasting, key, new)
    assert float(kmeans_inertia(fading, new)) < 20 < float(kmeans_inertia(lasting, new))
    assert (fading.centre > 80).all()


def test_a_cluster_that_faded_begins_anew() -> None:
    state = KMeans(torch.tensor([[0.0], [7.0]]), torch.tensor([3.0, 0.4], dtype=torch.float64))
    x = torch.tensor([[8.0], [0.0]])
    assert kmeans_assign(state, x).tolist() == [0, 0]
    after = kmeans_step(state, random.key(0), x)
    assert after.centre.tolist() == [[0.0], [8.0]]
    assert after.weight.tolist() == [4.0, 1.0]


@pytest.mark.parametrize("decay", [0.4, 0.0])
def test_centres_that_win_rows_stay_however_fast_they_fade(decay: float) -> None:
    x = normals(0, 50, 3)
    start = kmeans_init(random.key(0), x, clusters=4)
    after = kmeans_step(start, random.key(1), x, decay=decay)
    won = torch.bincount(kmeans_assign(start, x), minlength=4)
    torch.testing.assert_close(after.weight, decay + won.double())
    assert float(kmeans_inertia(after, x)) < 0.9 * float(kmeans_inertia(start, x))


def test_rows_join_new_centres() -> None:
    state = KMeans(torch.tensor([[0.0], [7.0]]), torch.tensor([3.0, 0.4], dtype=torch.float64))
    after = kmeans_step(state, random.key(0), torch.tensor([[8.0], [9.0], [0.0]]))
    assert after.centre.tolist() == [[0.0], [8.5]]  # whichever of the two was drawn
    assert after.weight.tolist() == [4.0, 2.0]
    x = blobs(1, 60, clusters=3, features=2)
    new = kmeans_step(kmeans_init(random.key(0), x[:0], clusters=3), random.key(1), x)
    assert int(new.weight.sum()) == 60


def test_split_runs_go_on_to_the_last_bit(tmp_path: Path) -> None:
    x = normals(0, 2, 60, 3)
    whole = parts = kmeans_init(keys(2), x[:, :10], clusters=5)
    for i in range(5):
        if i == 2:
            checkpoint.save(tmp_path, parts._asdict(), {"clusters": 5})
            parts = KMeans(**checkpoint.load(tmp_path)[0])
            assert all(same_bits(a, b) for a, b in zip(whole, parts))
        rows, rng = x[:, 10 * i : 10 * i + 10], keys(2, seed=i)
        whole, parts = (kmeans_step(s, rng, rows) for s in (whole, parts))
    assert all(same_bits(a, b) for a, b in zip(whole, parts))


def start(*batch: int) -> tuple[KMeans, Tensor, Tensor]:
    """A state with an empty cluster in the last lane, keys, and rows of which one is not finite."""
    x = normals(5, *batch, 7, 3)
    state = kmeans_init(keys(*batch), x, clusters=3)
    weight = state.weight.clone()
    weight.reshape(-1)[-1] = 0
    x.reshape(-1)[0] = NAN
    return state._replace(weight=weight), keys(*batch, seed=1), x


FUNCTIONS = {
    "init": lambda state, rng, x: kmeans_init(rng, x, clusters=3),
    "step": lambda state, rng, x: kmeans_step(state, rng, x, decay=0.9),
    "assign": lambda state, rng, x: (kmeans_assign(state, x), kmeans_assign(state, x[..., 1, :])),
    "inertia": lambda state, rng, x: kmeans_inertia(state, x),
}


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree_in_every_variant(name: str, batch: tuple[int, ...], variants) -> None:
    variants(FUNCTIONS[name], *start(*batch), batch=len(batch), traced=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree_when_traced(name: str, variants) -> None:
    variants(FUNCTIONS[name], *start(3), compiled=name == "step")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_pure(name: str) -> None:
    check_pure(FUNCTIONS[name], *start(2))


def test_decay_may_differ_by_lane() -> None:
    state, rng, x = start(3)
    both = kmeans_step(state, rng, x, decay=torch.tensor([1.0, 0.5, 0.1]))
    for lane, decay in enumerate((1.0, 0.5, 0.1)):
        alone = kmeans_step(KMeans(*(s[lane] for s in state)), rng[lane], x[lane], decay=decay)
        for a, b in zip(both, alone):
            torch.testing.assert_close(a[lane], b)


def test_no_lanes_at_all() -> None:
    state = kmeans_init(torch.zeros((0, 2), dtype=torch.int64), torch.zeros(0, 5, 2), clusters=3)
    assert kmeans_step(state, torch.zeros((0, 2), dtype=torch.int64), torch.zeros(0, 5, 2)).centre.shape == (0, 3, 2)
    assert kmeans_assign(state, torch.zeros(0, 5, 2)).shape == (0, 5)


def test_wrong_arguments_are_named() -> None:
    state, rng, x = start(2)
    for call, complaint in (
        (lambda: kmeans_init(rng, x[0]), r"rng must have shape \(2,\), got \(2, 2\)"),
        (lambda: kmeans_init(rng, x.long()), r"x must be floating of shape \(\*B, n, d\), got torch.int64"),
        (lambda: kmeans_step(state, rng, x[..., :2]), r"x must be torch.float32 of shape \(2, 'n', 3\), got .*7, 2\)"),
        (lambda: kmeans_step(state, rng, x.double()), r"x must be torch.float32 .* got torch.float64"),
        (lambda: kmeans_step(state, rng[0], x), r"rng must have shape \(2, 2\), got \(2,\)"),
        (lambda: kmeans_assign(state, x[0]), r"x must be torch.float32 of shape \(2, 'n', 3\), got"),
        (lambda: kmeans_inertia(state, x[0]), r"x must be torch.float32 of shape \(2, 'n', 3\), got"),
    ):
        with pytest.raises(ShapeError, match=complaint):
            call()
    with pytest.raises(ValueError, match="clusters must be an integer >= 1, got 0"):
        kmeans_init(rng, x, clusters=0)
    with pytest.raises(ValueError, match=r"decay must be finite and in \[0.0, 1.0\], got 2"):
        kmeans_step(state, rng, x, decay=2.0)
