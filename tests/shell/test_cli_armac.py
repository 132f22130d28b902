"""`armfold armac`: what it writes and says, its configuration, seed 2's too, and that bad input costs one line."""

import dataclasses
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from armfold.core import games
from armfold.core.games.armac import Settings
from armfold.shell import read_policy
from armfold.shell.cli_armac import _cluster_file, _verify_command
from armfold.shell.config_armac import _idle, _make, parse, settings
from armfold.shell.config_seed import KEYS, OPTIONS
from armfold.shell.options_armac import DEFAULTS, GROUPS, Options, kinds
from armfold.shell.replay.verify import verify
from armfold.shell.run.armac import run_armac
from armfold.shell.run.training import MEASURES
from armfold.shell.store import checkpoint
from armfold.shell.store.clusters import read_clusters
from tests.purity import same_bits
from tests.shell.commands import (
    SCRIPT,
    Done,
    armfold_command,
    check_refused,
    check_refused_untouched,
    check_shown_again,
    interrupt_command,
    kill_when,
    read_csv,
    run_to_end,
    strict_json,
    table,
)
from tests.shell.helpers import files

pytestmark = pytest.mark.usefixtures("place")
SEED = Path(__file__).parents[1] / "data" / "armac.yaml"  # the configuration of seed 2, as it is there
PAGE = Path(__file__).parents[2] / "docs" / "seeds.md"
KUHN = games.compile_game(games.kuhn())
FEW = dict.fromkeys(("regret_steps", "critic_steps", "average_steps", "actor_steps"), 1)
TINY = {"hidden": (8,), "games": 64, "critic_games": 32, "stored": 2, "meta_games": 8, "max_states": 64, **FEW}


def words(**options: Any) -> list[object]:
    """Flags for options."""
    flags: list[object] = []
    for name, value in options.items():
        flags += [f"--{name.replace('_', '-')}", *(value if isinstance(value, tuple) else (value,))]
    return flags


SMALL = words(**TINY, epochs=2, points=2)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A small run of two seeds, with replays."""
    more = words(lambda_="fixed:0.25", seeds=2, seed=4, replay_games=1)
    more[0] = "--lambda"
    return run_to_end(tmp_path_factory, "armac", *SMALL, *more, "--log-replay")


# What a run writes


def test_a_run_writes_its_files(done: Done) -> None:
    own = {f"{word}-{seed}.{kind}" for word, kind in (("policy", "csv"), ("replay", "jsonl")) for seed in (4, 5)}
    names = {path.name for path in done.folder.iterdir()}
    assert names == {"config.json", "records.jsonl", "summary.csv", "exploitability.png", "checkpoint", *own}
    assert {path.name for path in (done.folder / "checkpoint").iterdir()} == {"seed-4", "seed-5"}
    assert not [path for path in done.folder.rglob("*") if "partial" in path.name]


def test_what_it_writes_is_what_training_gives(done: Done) -> None:
    told = Settings(lam="fixed", fixed=0.25, **TINY)  # type: ignore[arg-type]
    found = run_armac(KUHN, settings=told, epochs=2, points=2, seeds=(5,), progress=False)[5]
    assert same_bits(read_policy(done.folder / "policy-5.csv", KUHN), found.average)
    _, row, mean = read_csv(done.folder / "summary.csv")
    assert list(row) == ["seed", "epochs", *MEASURES]
    assert (row["seed"], row["epochs"], mean["seed"]) == ("5", "2", "mean")
    assert [float(row[name]) for name in MEASURES] == found.curve[-1].tolist()
    assert row["mixing_lam_mean"] == "0.25"
    assert verify(done.folder / "replay-5.jsonl", progress=False).agrees
    kept = json.loads((done.folder / "config.json").read_text())
    assert Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in kept["settings"].items()}) == told


def test_records_and_table_agree(done: Done) -> None:
    first, *metrics, summary = map(strict_json, (done.folder / "records.jsonl").read_text().splitlines())
    assert (first["kind"], first["game"], first["epochs"], first["seeds"]) == ("run", "kuhn", 2, [4, 5])
    assert first["settings.lam"] == "fixed"
    assert [record["kind"] for record in (*metrics, summary)] == [*["metrics"] * 4, "summary"]
    assert [(record["seed"], record["epoch"]) for record in metrics] == [(4, 1), (4, 2), (5, 1), (5, 2)]
    for row in read_csv(done.folder / "summary.csv"):
        for name in MEASURES:
            assert summary[f"{row['seed']}.{name}"] in (float(row[name]), None)
        assert summary[f"{row['seed']}.seconds"] > 0
    assert 0 < metrics[2]["seconds"] < metrics[3]["seconds"] < summary["5.seconds"]
    assert summary["5.exploitability"] == metrics[3]["exploitability"]


def test_the_table_is_printed(done: Done) -> None:
    for line, row in zip(table(done.stdout), read_csv(done.folder / "summary.csv"), strict=True):
        numbers = [f"{float(row[name]):.4f}" for name in ("exploitability", "exploitability_last")]
        assert line.split()[:4] == [row["seed"], "2", *numbers]
        assert "0.250" in line
    assert "kuhn: ARMAC, lambda fixed:0.25, 2 seeds" in done.stdout
    for name in ("summary.csv", "records.jsonl", "exploitability.png", "policy-4.csv"):
        assert str(done.folder / name) in done.stdout
    replays = " ".join(str(done.folder / f"replay-{seed}.jsonl") for seed in (4, 5))
    assert f"armfold replay verify --tolerance 1e-06 {replays}" in done.stdout
    assert done.stderr == ""


def test_the_command_that_is_printed_can_be_typed() -> None:
    words = ["--tolerance", "1e-06", "a b/replay-0.jsonl"]
    assert shlex.split(_verify_command(1e-6, [Path("a b/replay-0.jsonl")])) == ["armfold", "replay", "verify", *words]


def test_show_shows_a_run_again_and_draws_its_curves(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    upper, lower = check_shown_again(done, done.stdout.partition("replays:")[0], capsys).axes
    assert upper.get_yscale() == "log"
    *_, mean = read_csv(done.folder / "summary.csv")
    ends = {line.get_label(): float(line.get_ydata()[-1]) for line in upper.get_lines()}
    assert ends["average policy"] == float(mean["exploitability"])
    assert ends["last policy"] == float(mean["exploitability_last"])
    assert 11 / 24 in [pytest.approx(line.get_ydata()[0]) for line in upper.get_lines()]  # of uniform play
    assert {float(y) for line in lower.get_lines() for y in line.get_ydata()} == {0.25}


# Its configuration


def configured(*argv: object) -> tuple[Settings, Any, list[str]]:
    """What a command line means."""
    config, remarks = parse([str(word) for word in argv])
    return settings(config), config, remarks


def test_every_setting_is_a_flag_with_a_help_text(capsys: pytest.CaptureFixture[str]) -> None:
    named = [name for _, texts in GROUPS.values() for name in texts]
    assert sorted([*named, "lam", "fixed"]) == sorted(Settings._fields)  # these two are --lambda
    assert armfold_command("armac", "--help") == 0
    text = capsys.readouterr().out
    for name in (*named, *(field.name for field in dataclasses.fields(Options) if field.name != "lam")):
        assert re.search(rf"--{name.replace('_', '-')}\b", text), name
    assert all(about for _, texts in GROUPS.values() for about in texts.values())
    assert "--lambda STR" in text
    assert configured()[0] == Settings()


def test_flags_land_in_the_settings() -> None:
    told, config, remarks = configured(
        *words(hidden=(16, 4), tau_rate=0.9, bins=(0, 1), mode="gumbel", level=2, utility="hybrid", eta=0.5),
        "--no-update-clusters",
    )
    own = {"hidden": (16, 4), "tau_rate": 0.9, "bins": (0.0, 1.0), "mode": "gumbel", "level": 2, "utility": "hybrid"}
    assert told == Settings()._replace(**own, eta=0.5, update_clusters=False)
    assert (config.game, remarks) == ("kuhn", [])
    for lam in ("learned", "meta", "random"):
        assert settings(dataclasses.replace(config, lam=lam)) == told._replace(lam=lam, fixed=DEFAULTS["fixed"])
    assert configured("--continuous", "--clamp", 0.25)[0] == Settings(continuous=True, clamp=0.25)
    assert configured("--lambda", "fixed:0")[0] == Settings(lam="fixed", fixed=0.0)


def test_the_configuration_of_seed_2_loads(caplog: pytest.LogCaptureFixture) -> None:
    told, config, remarks = configured("--config", SEED)
    assert told == Settings()._replace(
        mode="gumbel",
        scheduler_hidden=(64, 32),
        bins=(0.0, 0.25, 0.5, 0.75, 1.0),
        scheduler_rate=1e-4,
        tau_start=1.0,
        tau_end=0.1,
        tau_steps=50_000,
        warmup=1000,
        init_lambda=0.5,
        clamp=1e-3,
        beta_l2=1e-4,
        beta_ent=1e-3,
        continuous=False,
        decay=0.995,
        initial_regret=0.0,
        regret_min=0.0,
        smoothing_factor=1e-6,
        max_states=10_000,
        util_clip=5.0,
        regret_clip=10.0,
        lru_evict_batch=100,
        level=1,
        n_clusters=100,
        update_clusters=True,
        utility="advantage",
        gamma=0.99,
        baseline_window=100,
        advantage_window=10,
        min_samples=5,
        lam="learned",
    )
    assert config.cluster_file == Path("experiments/state_clusters.pkl")
    assert (_cluster_file(config), caplog.text) == (None, "")  # at level 1 it is no file at all
    assert (config.replay_dir, config.replay_tolerance) == (Path("experiments/replays"), 1e-6)
    (remark,) = remarks
    four = (
        "scheduler.temperature, scheduler.lam_clamp_eps, policy_mixer.temperature_decay, policy_mixer.min_temperature"
    )
    assert remark.startswith(f"keys of armac.yaml that change nothing here: {four}, ")
    assert remark.endswith(" and 6 more (--verbose names them)")
    (whole,) = configured("--config", SEED, "--verbose")[2]
    assert whole.endswith("deterministic_replay.replay_dir, deterministic_replay.tolerance")


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Keys with dots as tables."""
    told: dict[str, Any] = {}
    for key, value in flat.items():
        *tables, name = key.split(".")
        inner = told
        for part in tables:
            inner = inner.setdefault(part, {})
        inner[name] = value
    return told


# Every key of the seed's, with a value of its own and where that goes.
OTHERS: dict[str, tuple[Any, str, Any]] = {
    "scheduler.hidden": ([5, 4, 3], "scheduler_hidden", (5, 4, 3)),
    "scheduler.k_bins": ([0.0, 0.4, 0.9], "bins", (0.0, 0.4, 0.9)),
    "scheduler.scheduler_lr": ("2e-4", "scheduler_rate", 2e-4),
    "scheduler.gumbel_tau_start": (2.0, "tau_start", 2.0),
    "scheduler.gumbel_tau_end": (0.2, "tau_end", 0.2),
    "scheduler.gumbel_anneal_iters": ("2e3", "tau_steps", 2000),
    "scheduler.scheduler_warmup_iters": (7, "warmup", 7),
    "scheduler.init_lambda": (0.75, "init_lambda", 0.75),
    "scheduler.lam_clamp_eps": ("1e-2", "clamp", 1e-2),
    "scheduler.regularization.beta_l2": ("3e-4", "beta_l2", 3e-4),
    "scheduler.regularization.beta_ent": ("4e-3", "beta_ent", 4e-3),
    "scheduler.use_gumbel": (True, "mode", "gumbel"),
    "policy_mixer.discrete": (False, "continuous", True),
    "policy_mixer.lambda_bins": ([0.0, 0.4, 0.9], "bins", (0.0, 0.4, 0.9)),
    "meta_regret.K": (3, "bins", (0.0, 0.4, 0.9)),
    "meta_regret.decay": (0.5, "decay", 0.5),
    "meta_regret.initial_regret": (0.25, "initial_regret", 0.25),
    "meta_regret.regret_min": (-1, "regret_min", -1.0),
    "meta_regret.smoothing_factor": ("1e-3", "smoothing_factor", 1e-3),
    "meta_regret.max_states": (3000, "max_states", 3000),
    "meta_regret.util_clip": (2, "util_clip", 2.0),
    "meta_regret.regret_clip": (float("inf"), "regret_clip", float("inf")),
    "meta_regret.lru_evict_batch": (9, "lru_evict_batch", 9),
    "state_keying.level": (2, "level", 2),
    "state_keying.n_clusters": (11, "n_clusters", 11),
    "state_keying.update_clusters": (False, "update_clusters", False),
    "state_keying.cluster_file": ("x.safetensors", "cluster_file", Path("x.safetensors")),
    "utility_computation.utility_type": ("hybrid", "utility", "hybrid"),
    "utility_computation.gamma": (0.5, "gamma", 0.5),
    "utility_computation.baseline_window": (12, "baseline_window", 12),
    "utility_computation.advantage_window": (13, "advantage_window", 13),
    "utility_computation.min_samples": (14, "min_samples", 14),
    "deterministic_replay.replay_dir": ("r", "replay_dir", Path("r")),
    "deterministic_replay.tolerance": ("1e-3", "replay_tolerance", 1e-3),
    "use_scheduler": (False, "lam", "fixed"),
}
MIXER = {"scheduler.temperature": 3.0, "policy_mixer.min_temperature": 0.3, "policy_mixer.temperature_decay": 0.9}


def test_every_key_of_seed_2_lands_where_it_should(place: Path) -> None:
    (place / "c.yaml").write_text(yaml.safe_dump(nested({key: value for key, (value, *_) in OTHERS.items()})))
    told, config, remarks = configured("--config", "c.yaml")
    for key, (_, name, expected) in OTHERS.items():
        got = getattr(told if name in Settings._fields else config, name)
        assert got == expected, key
        assert type(got) is type(expected), key
        assert name not in Settings._fields or got != Settings._field_defaults[name], f"{key}: shows nothing"
    assert told.fixed == 0.75  # without the scheduler, what it would begin with
    assert len(remarks) == 1  # a scheduler's keys are there
    (place / "d.yaml").write_text(yaml.safe_dump(nested({"scheduler.use_gumbel": False, **MIXER})))
    told, _, remarks = configured("--config", "d.yaml")
    assert (told.mode, told.tau_start, told.tau_end, told.tau_rate) == ("soft", 3.0, 0.3, 0.9)
    assert remarks == []
    assert OTHERS.keys() | MIXER.keys() == KEYS
    assert nested(dict.fromkeys(KEYS)).keys() == yaml.safe_load(SEED.read_text()).keys()


def test_documentation_names_every_key_of_seed_2_and_its_flag() -> None:
    page = PAGE.read_text()
    assert all(f"| `{key}` |" in page for key in KEYS)
    for key, option in OPTIONS.items():
        assert f"| `{key}` | `--{option.replace('_', '-')}` |" in page, key


def test_a_toml_file_of_ones_own_then_flags(place: Path) -> None:
    lines = ['game = "leduc"', 'lambda = "fixed:0.5"', "seeds = 3", "rate = 0.01", "hidden = [16]", "log_replay = true"]
    (place / "c.toml").write_text("\n".join([*lines, "[meta_regret]", "K = 5", "util_clip = inf"]))
    told, config, _ = configured("--config", "c.toml", "--seeds", 2, "--rate=0.02")
    assert (config.game, config.seeds, config.log_replay) == ("leduc", 2, True)
    assert told == Settings(lam="fixed", fixed=0.5, rate=0.02, hidden=(16,), util_clip=float("inf"))
    (place / "c.yaml").write_text("replay_dir: null\ntau_rate: null\nscheduler:\n")
    told, _, remarks = configured("--config", "c.yaml")
    assert told == Settings()
    assert remarks == ["keys of c.yaml that change nothing here: replay_dir"]


# What a file and then flags say, and what comes of it: by the fields, and by the keys that change nothing.
MIXED: dict[str, tuple[dict[str, Any], list[object], dict[str, Any], str]] = {
    "where lambda starts": (
        {"use_scheduler": False},
        ["--init-lambda", 0.25],
        {"lam": "fixed", "fixed": 0.25, "init_lambda": 0.25},
        "",
    ),
    "another lambda": ({"use_scheduler": False}, ["--lambda", "meta"], {"lam": "meta"}, ""),
    "the same lambda": ({"use_scheduler": False, "lambda": "fixed:.50"}, [], {"lam": "fixed", "fixed": 0.5}, ""),
    "the mixer's temperatures without a mode": (
        MIXER,
        [],
        {"tau_start": 3.0, "tau_end": 0.3, "tau_rate": 0.9},
        "",
    ),
    "a mode that is not the file's": (
        {**MIXER, "scheduler.use_gumbel": True, "scheduler.gumbel_tau_start": 2.0},
        ["--mode", "soft"],
        {"tau_start": 3.0, "tau_end": 0.3, "tau_rate": 0.9},
        "scheduler.gumbel_tau_start",
    ),
    "a temperature that is not the file's": (
        {"scheduler.gumbel_tau_start": 2.0, "scheduler.temperature": 5.0},
        ["--mode", "gumbel", "--tau-start", 3],
        {"mode": "gumbel", "tau_start": 3.0},
        "scheduler.temperature",
    ),
    "a utility by its own name": (
        {"utility_computation.utility_type": "hybrid_based", "utility": "hybrid"},
        [],
        {"utility": "hybrid"},
        "",
    ),
    "options for others": ({"lambda": "random", "beta_ent": 0.5}, [], {"lam": "random", "beta_ent": 0.5}, "beta_ent"),
}


@pytest.mark.parametrize(("keys", "flags", "fields", "mute"), MIXED.values(), ids=MIXED)
def test_keys_that_hang_on_others_are_understood_after_the_flags(
    keys: dict[str, Any], flags: list[object], fields: dict[str, Any], mute: str, place: Path
) -> None:
    (place / "c.yaml").write_text(yaml.safe_dump(nested(keys)))
    told, _, remarks = configured("--config", "c.yaml", *flags)
    assert told == Settings(**fields)
    assert remarks == ([f"keys of c.yaml that change nothing here: {mute}"] if mute else [])


BAD_FILES: dict[str, tuple[str, str]] = {
    "an unknown key": ("scheduler:\n  hiden: [3]\n", r"config c\.yaml: unknown option 'scheduler\.hiden': .*hidden"),
    "an unknown table": ("schedular:\n  hidden: [3]\n", r"config c\.yaml: unknown option 'schedular': did you mean"),
    "no table": ("scheduler: 3\n", r"config c\.yaml: scheduler must be a table of keys, got 3"),
    "bins and K": ("meta_regret: {K: 4}\n", r"config c\.yaml: meta_regret\.K is 4, but bins has 5 bins: \[0\.0, "),
    "K and bins": (
        "meta_regret: {K: 5}\nscheduler: {k_bins: [0.0, 1.0]}\n",
        r"meta_regret\.K is 5, but scheduler\.k_bins has 2 bins: \[0\.0, 1\.0\]",
    ),
    "two sorts of bins": (
        "policy_mixer: {lambda_bins: [0.5, 1.0]}\nscheduler: {k_bins: [0.0, 1.0]}\n",
        r"scheduler\.k_bins is \[0\.0, 1\.0\], but policy_mixer\.lambda_bins is \[0\.5, 1\.0\]: .* must agree",
    ),
    "a scheduler for nothing": (
        "use_scheduler: true\nlambda: meta\n",
        r"use_scheduler is true, which means lambda 'learned', but lambda is 'meta': they must agree",
    ),
    "no scheduler": (
        "use_scheduler: false\nlambda: meta\n",
        r"use_scheduler is false, which means lambda 'fixed:0\.5', but lambda is 'meta'",
    ),
    "two modes": (
        "scheduler: {use_gumbel: true}\nmode: hard\n",
        r"config c\.yaml: scheduler\.use_gumbel is true, which means mode 'gumbel', but mode is 'hard'",
    ),
    "two sorts of output": (
        "policy_mixer: {discrete: true}\ncontinuous: true\n",
        r"policy_mixer\.discrete is true, which means continuous false, but continuous is true",
    ),
    "two temperatures": (
        "scheduler: {temperature: 2.0}\ntau_start: 3.0\n",
        r"scheduler\.temperature is 2\.0, but tau_start is 3\.0: they must agree",
    ),
    "lambda to begin with": (
        "use_scheduler: false\nscheduler: {init_lambda: 3}\n",
        r"config c\.yaml: scheduler\.init_lambda must be finite and in \[0\.0, 1\.0\], got 3",
    ),
    "no lambda": ("lambda: fixed\n", r"c\.yaml: lambda must be .* or fixed:NUMBER .*, got 'fixed'"),
    "lambda as a number": ("lambda: 0.5\n", r"c\.yaml: lambda must be .* such as fixed:0\.5, got 0\.5"),
    "lambda by its field": ("lam: meta\n", r"c\.yaml: unknown option 'lam': did you mean 'lambda'"),
    "a name like no other": ("zzqq: 3\n", r"c\.yaml: unknown option 'zzqq': known are actor_steps, .*, \.\.\."),
    "another file": ("config: d.yaml\n", r"c\.yaml: config is for the command line: a file cannot name another"),
    "text for a number": ("scheduler: {init_lambda: half}\n", r"scheduler\.init_lambda must be a number, got 'half'"),
    "a part for a whole": ("state_keying: {level: 1.5}\n", r"state_keying\.level must be of type int, got 1\.5"),
    "text for a switch": (
        "policy_mixer: {discrete: maybe}\n",
        r"policy_mixer\.discrete must be of type bool, got 'maybe'",
    ),
    "an unknown utility": (
        "utility_computation: {utility_type: advantaged}\n",
        r"utility_computation\.utility_type must be one of .*'advantaged'",
    ),
    "not YAML": ("a: [1\n", r"config c\.yaml: .*line 2"),
    "no keys": ("- 1\n- 2\n", r"config c\.yaml: it must have keys with values, got list"),
}


@pytest.mark.parametrize(("text", "pattern"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_cost_one_line(text: str, pattern: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "c.yaml").write_text(text)
    check_refused(capsys, armfold_command("armac", *SMALL, "--config", "c.yaml"), pattern)
    assert [path.name for path in place.iterdir()] == ["c.yaml"]


def test_a_flag_is_blamed_for_what_it_says(place: Path) -> None:
    (place / "c.yaml").write_text("use_scheduler: false\nscheduler: {init_lambda: 0.5}\n")
    with pytest.raises(ValueError, match=r"^init_lambda must be finite and in \[0\.0, 1\.0\], got 2"):
        configured("--config", "c.yaml", "--init-lambda", 2)


def test_the_last_of_two_files_counts(place: Path) -> None:
    for name, seeds in (("c", 2), ("d", 3)):
        (place / f"{name}.toml").write_text(f"seeds = {seeds}")
    for last in (("--config", "d.toml"), ("--config=d.toml",)):
        _, config, _ = configured("--config", "c.toml", *last)
        assert (config.config, config.seeds) == (Path("d.toml"), 3)


# Clusters and replays elsewhere


def test_clusters_and_replays_are_kept_where_they_are_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = {"cluster_file": "kept/c.pkl", "replay_dir": "replays", "scheduler_steps": 1}
    more = [*SMALL, *words(level=2, n_clusters=3, epochs=1, **kept), "--log-replay"]
    assert armfold_command("armac", *more, "--out", "run") == 0
    assert "kept/c.pkl is taken as kept/c.safetensors" in " ".join(capsys.readouterr().err.split())
    clusters = read_clusters(place / "kept" / "c.safetensors")
    assert all(map(same_bits, read_clusters(place / "run" / "clusters-0.safetensors"), clusters))
    assert verify(place / "replays" / "run" / "replay-0.jsonl", progress=False).agrees
    for others, pattern in (
        (["--out", "other/run"], r"replay_dir replays has files of a run run already"),
        (
            ["--out", "other", "--n-clusters", 4],
            r"clusters must be .*\(4, 9\), got .*\(3, 9\): are they of another game",
        ),
    ):
        check_refused(capsys, armfold_command("armac", *more, *others, "--quiet"), pattern)
    assert not (place / "other").exists()


@pytest.mark.slow
def test_training_begins_with_kept_clusters(place: Path) -> None:
    more = [*SMALL, *words(level=2, n_clusters=3, epochs=1, cluster_file="c.safetensors"), "--quiet"]
    assert armfold_command("armac", *more, "--out", "first") == 0
    kept = read_clusters(place / "c.safetensors")
    assert armfold_command("armac", *more, "--out", "first", "--resume") == 0  # though the file was not there then
    assert armfold_command("armac", *more, "--no-update-clusters", "--out", "then") == 0
    assert all(map(same_bits, read_clusters(place / "then" / "clusters-0.safetensors"), kept))
    assert armfold_command("armac", *more, "--out", "moved") == 0
    assert not all(map(same_bits, read_clusters(place / "moved" / "clusters-0.safetensors"), kept))
    assert all(map(same_bits, read_clusters(place / "c.safetensors"), kept))


# Resuming


@pytest.mark.slow
def test_a_run_that_was_interrupted_goes_on(
    place: Path, done: Done, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again = [*SMALL, "--lambda", "fixed:0.25", *words(seeds=2, seed=4, replay_games=1), "--log-replay", "--quiet"]
    run = ("armac", *again, "--checkpoint-every", 0, "--out", "run")
    assert interrupt_command(monkeypatch, 4, KeyboardInterrupt(), *run) == 130  # in the second seed
    assert "--resume" in capsys.readouterr().err
    check_refused(capsys, armfold_command("show", "run"), "holds a run that has not ended")
    check_refused(capsys, armfold_command(*run), r"\bout run is not empty.*resume")
    check_refused(capsys, armfold_command(*run, "--resume", "--epochs", 3), r"run holds another run: epochs differ")
    assert armfold_command(*run, "--resume") == 0
    whole, resumed = files(done.folder), files(place / "run")
    for name in ("summary.csv", "config.json", "policy-4.csv", "policy-5.csv", "replay-4.jsonl", "replay-5.jsonl"):
        assert resumed[name] == whole[name], name


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_table(place: Path) -> None:
    """kill -9 in the middle, then to the end."""
    small = map(str, words(hidden=(16,), games=512, critic_games=256, stored=8, epochs=40, points=4))
    argv = [SCRIPT, "armac", "--game", "kuhn", *small, "--log-replay", "--quiet"]
    manifest = place / "run" / "checkpoint" / "seed-0" / "manifest.json"
    kill_when([*argv, "--out", "run", "--checkpoint-every", "0.3"], manifest.is_file)
    assert "result" not in json.loads(manifest.read_text())
    for last in (["--out", "run", "--resume"], ["--out", "whole"]):
        subprocess.run([*argv, *last], stdout=subprocess.DEVNULL, timeout=600, check=True)
    for name in ("summary.csv", "policy-0.csv", "replay-0.jsonl"):
        assert (place / "run" / name).read_bytes() == (place / "whole" / name).read_bytes()
    assert checkpoint.load(manifest.parent)[1]["result"]["epochs"] == 40
    replay = place / "run" / "replay-0.jsonl"
    done = subprocess.run(
        [SCRIPT, "replay", "verify", replay], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{replay}: 40 records agree\n")


# Bad input


def test_what_is_no_lambda_is_refused() -> None:
    config = configured()[1]
    for lam in ("leaned", "meta:0.5", "fixed", "fixed:x", "fixed:", "fixed:2", "fixed:nan", "0.5", ""):
        with pytest.raises(ValueError, match=rf"lambda must be learned, meta, random or fixed:NUMBER.*got '{lam}'"):
            settings(dataclasses.replace(config, lam=lam))


BAD: dict[str, tuple[list[object], str]] = {
    "too large": (["--game", "leduc", "--max-histories", "100"], r"max_histories 100 is too few for leduc"),
    "no seeds": (["--seeds", "0"], r"seeds must be an integer >= 1, got 0"),
    "tolerance": (["--log-replay", "--replay-tolerance", "-1"], r"replay_tolerance must be"),
    "lambda": (["--lambda", "leaned"], r"lambda must be learned, meta, random or fixed:NUMBER.*got 'leaned'"),
    "lambda before what hangs on it": (
        ["--lambda", "leaned", "--mode", "hard"],
        r"lambda must be .* in \[0, 1\].*got 'leaned'",
    ),
    "a choice": (["--mode", "sharp"], r"'sharp' .*--mode\b"),
    "a misspelt flag": (["--epoch=3"], r"--epoch\b.*--epochs"),
    "a file that is not there": (["--config", "no.toml"], r"config no\.toml: .*No such file"),
    "replays": (
        ["--log-replay", "--replay-games", "33"],
        r"replay_games must be an integer in \[0, critic_games = 32\], got 33",
    ),
    "a folder in use": (["--out", "full"], r"\bout full is not empty"),
    "a table in a folder": (["--csv", "full"], r"\bcsv .*full is not a file"),
    "clusters in a folder": (["--level", 2, "--cluster-file", "full"], r"cluster_file full is not a file"),
    "clusters below a file": (
        ["--level", 2, "--cluster-file", "full/notes.txt/c.safetensors"],
        r"cluster_file full/notes\.txt/c\.safetensors cannot be written",
    ),
    "a temperature that would rise": (
        ["--tau-start", 0.5, "--tau-end", 0.75],
        r"tau_start 0\.5 is below tau_end 0\.75",
    ),
    "utilities that are all 0": (["--util-clip", 0], r"util_clip must be finite and in \(0\.0, .*got 0"),
    "a flag for others": (["--replay-games", 3], r"--replay-games would change nothing: it is for --log-replay"),
    "a switch for others": (["--no-update-clusters"], r"--no-update-clusters would change nothing: .* --level 2"),
    "resume": (["--resume"], r"resume needs --out"),
}


@pytest.mark.parametrize(("flags", "pattern"), BAD.values(), ids=BAD)
def test_bad_input_costs_one_line(
    flags: list[object], pattern: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_refused_untouched(place, capsys, ["armac", *SMALL, *flags], pattern)


SCHEDULER = set(GROUPS["scheduler"][1]) - {"bins"}
TEMPERATURE = {"tau_start", "tau_end", "tau_steps", "tau_rate"}
REPLAYS, CLUSTERS = (
    {"replay_games", "replay_dir", "replay_tolerance"},
    {"cluster_file", "n_clusters", "update_clusters"},
)
PLAYED = {"gamma", "baseline_window", "min_samples"}
IDLE: list[tuple[dict[str, Any], set[str]]] = [
    ({}, REPLAYS | CLUSTERS | PLAYED | {"clamp"}),
    ({"log_replay": True, "level": 2, "utility": "hybrid"}, {"clamp"}),
    ({"log_replay": True, "level": 2, "utility": "immediate", "mode": "gumbel"}, {"clamp", "advantage_window"}),
    ({"lambda": "meta"}, REPLAYS | CLUSTERS | PLAYED | SCHEDULER),
    ({"lambda": "fixed:0", "level": 2}, REPLAYS | PLAYED | SCHEDULER),
    ({"continuous": True}, REPLAYS | CLUSTERS | PLAYED | TEMPERATURE | {"mode"}),
    ({"mode": "hard"}, REPLAYS | CLUSTERS | PLAYED | TEMPERATURE | {"clamp"}),
    ({"tau_rate": 0.5, "warmup": 0}, REPLAYS | CLUSTERS | PLAYED | {"clamp", "tau_steps", "init_lambda"}),
]


@pytest.mark.parametrize(("options", "idle"), IDLE, ids=[str(options) for options, _ in IDLE])
def test_options_that_would_change_nothing(options: dict[str, Any], idle: set[str]) -> None:
    assert _idle(_make(options)).keys() == idle
    assert idle <= kinds().keys()
