"""ARMAC's shell: what training gives, measures, keeps and records, and that every bit of it can be had again."""

import functools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyspiel
import pytest
import torch
from open_spiel.python.algorithms import exploitability as openspiel
from torch import Tensor

from armfold.core import games, random
from armfold.core.check import ShapeError
from armfold.core.games import armac, play
from armfold.core.games.decisions import decisions
from armfold.core.regret import KMeans
from armfold.shell.openspiel import to_tabular_policy
from armfold.shell.replay.record import ReplayError, read_replay
from armfold.shell.replay.verify import verify
from armfold.shell.run import armac as runner
from armfold.shell.run import epochs as epochs_module
from armfold.shell.run.armac import prepare, replay_path, run_armac
from armfold.shell.run.training import MEASURES, Trained, checkpoint_path, row_seconds, tabulate
from armfold.shell.store import checkpoint
from armfold.shell.store.clusters import read_clusters, write_clusters
from tests.purity import same_bits
from tests.shell import helpers
from tests.shell.helpers import files

KUHN = games.compile_game(games.kuhn())
POINTS = decisions(KUHN)
TINY = armac.Settings(
    hidden=(8,),
    games=64,
    critic_games=32,
    regret_steps=1,
    critic_steps=1,
    average_steps=1,
    actor_steps=1,
    stored=2,
    scheduler_hidden=(4,),
    scheduler_steps=1,
    warmup=1,  # over after the first epoch
    meta_games=8,
    max_states=64,
)


def kuhn(**options: Any) -> dict[int, Trained]:
    """A few epochs of Kuhn poker, silently; what is a field of the settings goes there."""
    told = TINY._replace(**{name: options.pop(name) for name in list(options) if name in TINY._fields})
    return run_armac(**{"game": "kuhn", "settings": told, "epochs": 3, "points": 2, "progress": False, **options})


def same(x: Trained, y: Trained) -> bool:
    """Whether two results are the same bit for bit, but for the time that they took."""
    still = {"seconds": 0.0, "curve_seconds": torch.zeros(())}
    return all(same_bits(a, b) for a, b in zip(x._replace(**still), y._replace(**still), strict=True))


@pytest.fixture(scope="module")
def two() -> dict[int, Trained]:
    """What two seeds have learned."""
    return kuhn(seeds=(3, 0))


@functools.cache
def by_hand(seed: int, epochs: int = 3) -> list[tuple[armac.State, armac.Info]]:
    """The core's epochs, one after the other."""
    state, done = armac.init(KUHN, POINTS, random.key(seed), TINY), []
    for _ in range(epochs):
        state, info = armac.epoch(KUHN, POINTS, state, TINY)
        done.append((state, info))
    return done


# What it computes


def test_it_is_the_epochs_of_the_core_one_after_the_other(two: dict[int, Trained]) -> None:
    assert list(two) == [3, 0]
    for seed, found in two.items():
        state, info = by_hand(seed)[-1]
        assert same_bits(found.last, info.policy)
        assert same_bits(found.actor, info.actor)
        assert same_bits(found.regret, info.regret_policy)
        assert same_bits(found.lam, info.lam)
        assert all(map(same_bits, found.clusters, state.clusters))
        said = armac.average_policy(KUHN, POINTS, state.nets)
        torch.testing.assert_close(found.average, said.double(), rtol=0, atol=1e-6)
        assert found.average.sum(1).sub(1).abs().max() < 1e-15
        assert found.curve_epoch.tolist() == [2, 3]
        assert 0 < found.curve_seconds[0] < found.curve_seconds[1] < found.seconds
    assert not same_bits(two[0].last, two[3].last)


def test_exploitabilities_are_openspiels(two: dict[int, Trained]) -> None:
    game = pyspiel.load_game("kuhn_poker")
    for found in two.values():
        policies = {"": found.average, "_last": found.last, "_actor": found.actor, "_regret": found.regret}
        for name, policy in policies.items():
            theirs = openspiel.exploitability(game, to_tabular_policy(KUHN, policy))
            ours = found.measure(f"exploitability{name}")[-1].item()
            assert ours == pytest.approx(theirs, abs=1e-6 if name else 1e-12)
        assert found.measure("value")[-1] == games.expected_value(KUHN, found.average)


def test_measures_are_those_of_the_last_epoch(two: dict[int, Trained]) -> None:
    found, (state, info) = two[0], by_hand(0)[-1]
    last = dict(zip(MEASURES, found.curve[-1].tolist(), strict=True))
    for name in ("tau", "critic_loss", "regret_loss", "average_loss", "scheduler_kl"):
        assert last[name] == getattr(info, name).item()
    assert last["mixing_lam_mean"] == pytest.approx(info.lam.mean().item())
    assert last["mixing_lam_std"] == pytest.approx(info.lam.std(correction=0).item(), abs=1e-7)
    store = state.meta
    held = store.key < torch.iinfo(torch.int64).max
    assert last["meta_size"] == held.sum().item() > 1
    assert last["meta_updates"] == store.clock.item() > 0
    assert last["meta_evicted"] == 0
    assert last["meta_regret"] == pytest.approx(store.regret[held].mean().item())
    assert last["meta_utility"] == pytest.approx(store.utility[held].mean().item(), abs=1e-9)
    assert 0 < last["meta_entropy"] <= math.log(5)


def test_figures_of_games_are_what_one_counts_by_hand(two: dict[int, Trained]) -> None:
    last = dict(zip(MEASURES, two[0].curve[-1].tolist(), strict=True))
    info = by_hand(0)[-1][1]
    lengths, lams, entropies = [], [], []
    for game in range(TINY.critic_games):
        met = [i for i in info.games.infoset[:, game].tolist() if i >= 0]
        lengths.append(len(met))
        lams += [info.lam[i].item() for i in met]
        entropies += [-sum(p * math.log(p) for p in info.policy[i].tolist() if p) for i in met]
    assert last["games_returns"] == pytest.approx(info.games.payoff.mean().item())
    assert last["games_length"] == pytest.approx(sum(lengths) / len(lengths))
    mean = sum(lams) / len(lams)
    assert last["games_lam_mean"] == pytest.approx(mean, rel=1e-5)
    assert last["games_lam_std"] == pytest.approx(
        math.sqrt(sum((x - mean) ** 2 for x in lams) / len(lams)), rel=1e-3, abs=1e-7
    )
    assert last["games_entropy"] == pytest.approx(sum(entropies) / len(entropies), rel=1e-5)


def test_rows_are_the_seeds_and_their_mean(two: dict[int, Trained]) -> None:
    first, second, mean = tabulate(two)
    assert [row["seed"] for row in (first, second, mean)] == ["3", "0", "mean"]
    for name in MEASURES:
        assert first[name] == two[3].measure(name)[-1].item()
        if math.isfinite(mean[name]):
            assert mean[name] == pytest.approx((first[name] + second[name]) / 2)
    assert row_seconds(two)["mean"] == pytest.approx((two[0].seconds + two[3].seconds) / 2)


@pytest.mark.parametrize("lam", ["meta", "random", "fixed"])
def test_lambda_by_other_ways(lam: str) -> None:
    found = kuhn(lam=lam, fixed=0.0, epochs=1)[0]
    assert found.measure("scheduler_kl").max() == 0
    if lam == "fixed":
        assert same_bits(found.last, found.regret)
    if lam == "random":
        assert len(found.lam.unique()) == len(found.lam)
    share = found.lam.unsqueeze(1)
    torch.testing.assert_close(found.last, share * found.actor + (1 - share) * found.regret, rtol=1e-5, atol=1e-6)


def test_those_who_watch_are_told_the_exploitability(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    @contextmanager
    def track(label: str, total: int, *, enabled: bool) -> Iterator[Callable[[int, str], None]]:
        yield lambda done, note: seen.append((label, total, enabled, done, note))

    monkeypatch.setattr(runner, "track", track)
    found = kuhn(progress=True, seeds=(7,), epochs=2, points=1)[7]
    average, last = (found.measure(f"exploitability{name}")[-1].item() for name in ("", "_last"))
    assert seen == [
        ("seed 7", 2, True, 1, ""),
        ("seed 7", 2, True, 2, f"exploitability {average:.3g}, of last {last:.3g}"),
    ]


# Clusters


def test_clusters_are_read_as_they_were_written(tmp_path: Path) -> None:
    trained = kuhn(level=2, n_clusters=3, epochs=1)[0].clusters
    assert trained.weight.sum() > 0
    write_clusters(tmp_path / "a.safetensors", trained)
    there = read_clusters(tmp_path / "a.safetensors")
    assert all(map(same_bits, there, trained))
    again = kuhn(level=2, n_clusters=3, epochs=1, clusters=there, update_clusters=False)[0]
    assert all(map(same_bits, again.clusters, trained))
    for bad, pattern in (
        (KMeans(torch.zeros(4, 5), torch.zeros(4, dtype=torch.float64)), "n_clusters"),
        (KMeans(there.centre.double(), there.weight), "float64"),
    ):
        with pytest.raises(ShapeError, match=rf"clusters must be .* got .*{pattern}"):
            kuhn(level=2, n_clusters=3, clusters=bad)


def test_what_is_no_file_of_clusters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match=r"a\.safetensors cannot be read as clusters"):
        read_clusters(path)
    path.write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(ValueError, match=r"a\.safetensors cannot be read as clusters"):
        read_clusters(path)
    write_clusters(path, KMeans(torch.zeros(4, 5), torch.zeros(3, dtype=torch.float64)))
    with pytest.raises(ValueError, match=r"must hold centres \[M, F\] and as many float64 weights, has \(4, 5\)"):
        read_clusters(path)


# Checkpoints


interrupt_run = functools.partial(helpers.interrupt_run, go=kuhn)
FINE: dict[str, Any] = {
    "seeds": (0, 1),
    "epochs": 2,
    "points": 1,
    "level": 2,
    "n_clusters": 3,
    "utility": "hybrid",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, Trained], Path]:
    """What a run of two seeds gave that nothing stopped, and the folder of its replays."""
    folder = tmp_path_factory.mktemp("whole")
    return kuhn(**FINE, replay=folder), folder


@pytest.mark.parametrize("after", [pytest.param(n, marks=[pytest.mark.slow] * (n != 4)) for n in range(1, 6)])
def test_a_run_goes_on_bit_for_bit_wherever_it_is_stopped(
    after: int, whole: tuple[dict[int, Trained], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each seed there is a checkpoint an epoch, and then what it has learned."""
    trained, replays = whole
    interrupt_run(monkeypatch, tmp_path, after, **FINE, replay=tmp_path)
    resumed = kuhn(**FINE, checkpoint=tmp_path, resume=True, replay=tmp_path)
    for seed, found in trained.items():
        assert same(resumed[seed], found)
        assert replay_path(tmp_path, seed).read_bytes() == replay_path(replays, seed).read_bytes()


def test_a_run_that_has_ended_is_not_run_again(
    two: dict[int, Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, found in two.items():
        found.save(checkpoint_path(tmp_path / "saved", seed))
        assert same(Trained.load(checkpoint_path(tmp_path / "saved", seed)), found)
    kuhn(checkpoint=tmp_path / "run")
    before = files(tmp_path / "run")
    monkeypatch.setattr(armac, "epoch", None)  # nothing may be computed
    alone = kuhn(checkpoint=tmp_path / "run", resume=True)[0]
    assert same(alone, two[0])  # which has learned the same among others
    assert files(tmp_path / "run") == before


def test_another_run_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_run(monkeypatch, tmp_path, 1)
    before = files(tmp_path)
    clusters = KMeans(torch.zeros(1, POINTS.known.shape[1]), torch.zeros(1, dtype=torch.float64))
    for changed, pattern in (
        ({"eta": 0.2}, "settings"),
        ({"epochs": 4}, "epochs, marks"),
        ({"points": 3}, "marks"),
        ({"clusters": clusters}, "clusters"),
        ({"game": "goofspiel(2)"}, "rules"),
    ):
        with pytest.raises(checkpoint.CheckpointError, match=rf"is of another run: {pattern} differ"):
            kuhn(**{"checkpoint": tmp_path, "resume": True, **changed})
    with pytest.raises(checkpoint.CheckpointError, match="pass resume=True"):
        kuhn(checkpoint=tmp_path)
    with pytest.raises(checkpoint.CheckpointError, match="holds a run that has not ended"):
        Trained.load(checkpoint_path(tmp_path, 0))
    assert files(tmp_path) == before


def test_a_damaged_result_is_refused(two: dict[int, Trained], tmp_path: Path) -> None:
    found = two[0]
    checkpoint.save(tmp_path, {"last": found.last}, {"result": found.facts()})
    with pytest.raises(checkpoint.CheckpointError, match="lacks a part of the result"):
        Trained.load(tmp_path)
    found._replace(curve=found.curve[:, :-1]).save(tmp_path)
    with pytest.raises(checkpoint.CheckpointError, match="another version"):
        Trained.load(tmp_path)


# Replays


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The replay of a seed."""
    folder = tmp_path_factory.mktemp("replay")
    kuhn(seeds=(5,), replay=folder, replay_games=3, epochs=2)
    return replay_path(folder, 5)


def test_a_replay_says_what_was_played(recorded: Path) -> None:
    header, records = read_replay(recorded)
    assert (header.kind, header.facts["game"], header.facts["seed"]) == ("armac", "kuhn", 5)
    assert header.facts["settings"] == {k: list(v) if isinstance(v, tuple) else v for k, v in TINY._asdict().items()}
    for (_, info), record in zip(by_hand(5, 2), records, strict=True):
        assert same_bits(record["rng"], random.key(5))
        assert same_bits(record["lambda"], info.lam)
        assert same_bits(record["policy"], info.policy)
        assert same_bits(record["tau"], info.tau)
        assert all(same_bits(value, getattr(info, name)) for name, value in record["losses"].items())
        assert len(record["games"]) == 3
        for number, game in enumerate(record["games"]):
            check_game(game, info, number)


def check_game(game: dict[str, Tensor], info: armac.Info, number: int) -> None:
    """That a recorded game can be played again from its deal and actions, and shows what was known at each decision."""
    steps = len(KUHN.widths) - 1
    actions = torch.full((steps,), -1)
    actions[: len(game["action"])] = game["action"]
    history = play.replay(KUHN, actions)
    assert history.tolist() == info.games.history[:, number].tolist()
    assert history[: len(game["history"])].tolist() == game["history"].tolist()
    assert game["deal"].tolist() == game["action"][:2].tolist()
    assert game["payoff"] == KUHN.histories.payoff[history[-1]]
    acting = history[: len(game["action"])][game["player"] >= 0]
    assert game["infoset"].tolist() == KUHN.histories.infoset[acting].tolist()
    share = game["lambda"].unsqueeze(1)
    mixed = share * game["actor"] + (1 - share) * game["regret"]
    torch.testing.assert_close(game["policy"], mixed, rtol=1e-5, atol=1e-6)
    assert same_bits(game["policy"], info.policy[game["infoset"]])
    assert same_bits(game["q"], info.q[POINTS.number[acting]])


def test_a_replay_is_computed_again_and_a_changed_digit_is_named(recorded: Path, tmp_path: Path) -> None:
    assert str(verify(recorded, progress=False)) == "2 records agree"
    lines = recorded.read_text().splitlines(keepends=True)
    value = json.loads(lines[2])["games"][1]["q"]["values"][0][0]
    changed = tmp_path / "changed.jsonl"
    changed.write_text("".join([*lines[:2], lines[2].replace(repr(value), repr(value + 0.25), 1), *lines[3:]]))
    verdict = verify(changed, progress=False)
    assert not verdict.agrees
    assert verdict.altered == 3
    assert str(verdict).startswith(f"line 3, epoch 2, games[1].q[0, 0]: file {value + 0.25}, recomputed {value}")


def test_facts_that_are_none_are_refused(recorded: Path) -> None:
    from armfold.shell.replay.armac import recompute

    facts = dict(read_replay(recorded)[0].facts)
    for changed, pattern in (
        ({"rules": "0" * 16}, "game kuhn is not the one that was played"),
        ({"game": "kuhnn"}, "game kuhnn cannot be made again by its name: unknown game 'kuhnn'"),
        ({"settings": {"hiden": 3}}, "unknown name in settings 'hiden': did you mean 'hidden'"),
        ({"settings": {**facts["settings"], "hidden": 3.5}}, r"hidden must be a list of numbers, got 3\.5"),
        ({"epochs": 0}, "epochs must be"),
        ({"games": 33}, r"replay_games must be an integer in \[0, critic_games = 32\], got 33"),
        ({"seed": "x"}, "seed must be"),
    ):
        with pytest.raises(ValueError, match=pattern):
            next(recompute({**facts, **changed}))
    with pytest.raises(ValueError, match="facts must have epochs, got game, rules, "):
        next(recompute({key: value for key, value in facts.items() if key != "epochs"}))


def test_a_replay_needs_a_name_that_makes_the_game(tmp_path: Path) -> None:
    mean = games.kuhn()._replace(payoffs=lambda state: tuple(2 * x for x in games.kuhn().payoffs(state)))
    with pytest.raises(ValueError, match="game kuhn is not the one that was played"):
        kuhn(game=mean, replay=tmp_path)
    with pytest.raises(ValueError, match="game mine cannot be made again by its name"):
        kuhn(game=games.kuhn()._replace(name="mine"), replay=tmp_path)
    assert list(tmp_path.iterdir()) == []
    kuhn(game=games.goofspiel(2), epochs=1, replay=tmp_path)
    assert verify(replay_path(tmp_path, 0), progress=False).agrees


def test_what_was_not_recorded_cannot_be_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_run(monkeypatch, tmp_path, 1)
    with pytest.raises(ReplayError, match="no such file"):
        kuhn(checkpoint=tmp_path, resume=True, replay=tmp_path / "replays")


# Bad input


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"epochs": 0}, "epochs must be an integer >= 1, got 0"),
        ({"points": 0}, "points must be"),
        ({"threads": 0}, "threads must be"),
        ({"seeds": ()}, r"seeds must be different integers, one at least, got \(\)"),
        ({"seeds": (1, 1)}, r"seeds must be different integers, one at least, got \(1, 1\)"),
        ({"seeds": (2**64,)}, "seeds must be an integer in"),
        ({"checkpoint_every": -1}, "checkpoint_every"),
        ({"replay_games": 33}, "replay_games must be an integer in"),
        ({"game": "ledc"}, "did you mean 'leduc'"),
        ({"lam": "learnt"}, "lam must be one of learned, meta, random, fixed, got 'learnt'"),
        ({"mode": "sharp"}, "mode must be one of soft, hard, gumbel"),
        ({"utility": "both"}, "utility must be one of"),
        ({"hidden": (8, 0)}, "hidden must be an integer >= 1, got 0"),
        ({"scheduler_hidden": (-1,)}, "scheduler_hidden must be"),
        ({"games": 0}, "games must be an integer >= 1, got 0"),
        ({"stored": 0}, "stored must be"),
        ({"regret_steps": -1}, "regret_steps must be an integer >= 0"),
        ({"level": 3}, "level must be 0, 1 or 2, got 3"),
        ({"explore": 1.5}, r"explore must be finite and in \[0.0, 1.0\], got 1.5"),
        ({"fixed": -0.1}, "fixed must be"),
        ({"rate": math.nan}, "rate must be finite"),
        ({"clamp": 0.6}, "clamp must be"),
        ({"tau_start": 0.0}, "tau_start must be"),
        ({"tau_rate": 1.5}, "tau_rate must be"),
        ({"regret_min": 0.5}, "regret_min must be"),
        ({"decay": "much"}, "decay must be a number"),
        ({"bins": (0.0, 0.5, 0.25)}, "bins must be sorted"),
        (
            {"meta_games": 1000},
            "max_states must be at least 250, the moves that a step .* may see, got 64; .* more meta_steps",
        ),
        (
            {"meta_games": 10**9, "max_states": 10**9},
            r"meta_games is 1000000000: with 3 keys .* GiB are free; give fewer",
        ),
        ({"stored": 10**12}, r"stored is 1000000000000: .* GiB are free; give fewer"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(options: dict[str, Any], pattern: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=pattern):
        kuhn(**options, checkpoint=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_bounds_of_the_meta_learner_can_be_turned_off() -> None:
    prepare(KUHN, settings=TINY._replace(util_clip=math.inf, regret_clip=math.inf, regret_min=-math.inf))


def test_settings_that_are_checked_exist() -> None:
    named = {*epochs_module._FROM_ZERO, *epochs_module._HIGHEST, *epochs_module._SIGNED, *epochs_module._POSITIVE}
    assert named | epochs_module._BOUNDS.keys() <= {*armac.Settings._fields}


# Slow


@pytest.mark.slow
def test_it_learns_kuhn() -> None:
    """Well below what uniform play loses; a few epochs are enough."""
    told = armac.Settings(hidden=(32,), games=4096, critic_games=1024, stored=64, warmup=100, scheduler_rate=1e-3)
    start = games.exploitability(KUHN, games.uniform(KUHN)).item()
    for found in run_armac(KUHN, settings=told, epochs=25, seeds=(0, 1), points=25, progress=False).values():
        assert found.measure("exploitability")[-1] < start / 2


@pytest.mark.slow
def test_a_replay_is_computed_again_by_another_process(tmp_path: Path) -> None:
    kuhn(seeds=(0,), replay=tmp_path, level=2, n_clusters=3, clusters=_clusters(), mode="gumbel")
    path = replay_path(tmp_path, 0)
    words = [Path(sys.executable).parent / "armfold", "replay", "verify", path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, f"{path}: 3 records agree\n")
    lines = path.read_text().splitlines(keepends=True)
    value = json.loads(lines[1])["losses"]["critic_loss"]["values"]
    path.write_text("".join([lines[0], lines[1].replace(repr(value), repr(value / 2), 1), *lines[2:]]))
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "line 2, epoch 1, losses.critic_loss" in done.stdout
    assert f"file {value / 2}, recomputed {value}" in done.stdout


def _clusters() -> KMeans:
    centre = random.normal(random.key(1), (3, POINTS.known.shape[1]))
    return KMeans(centre, torch.ones(3, dtype=torch.float64))
