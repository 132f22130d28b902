"""Replays: files that hold every number, what verifying them finds, and `armfold replay`."""

import hashlib
import itertools
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

from armfold.core import envs, games, random, simulate
from armfold.core.bandits import ALGORITHMS
from armfold.core.games import armac
from armfold.core.games.decisions import decisions
from armfold.shell.replay import record as recording
from armfold.shell.replay import values
from armfold.shell.replay import verify as verifying
from armfold.shell.replay.bandit import Facts, record_bandit
from armfold.shell.replay.record import Recorder, ReplayError, find_versions, read_replay
from armfold.shell.replay.verify import Verdict, register, verify
from armfold.shell.run.armac import run_armac
from armfold.shell.run.training import Trained
from tests.purity import same_bits
from tests.shell.commands import SCRIPT, armfold_command, check_refused, read_csv, strict_json
from tests.shell.helpers import run

FILE = Path("replay.jsonl")
FLOATS = ["float16", "bfloat16", "float32", "float64"]
INTEGERS = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-(2**15), 2**15 - 1), "int64": (-(2**63), 2**63 - 1)}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


class Deal(NamedTuple):
    """What a game may record."""

    deck: torch.Tensor
    value: torch.Tensor


def walk(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A run as cheap as can be, with everything in its records that records may hold."""
    value = facts["start"]
    for i in range(facts["episodes"]):
        value = value * facts["factor"] + i
        yield {"deal": Deal(torch.arange(3).roll(i), value), "note": ["é", None, True, 0.5, {"inner": i}]}


FACTS: dict[str, Any] = {"seed": 3, "episodes": 4, "start": torch.tensor([[0.5, -2.0]]), "factor": 1.5}


@pytest.fixture(autouse=True)
def walks(monkeypatch: pytest.MonkeyPatch) -> None:
    """`walk` made known, for one test."""
    monkeypatch.setattr(verifying, "_KINDS", dict(verifying._KINDS))
    register("walk", walk, unit="episode")


def record_walk(path: Path = FILE, **facts: Any) -> bytes:
    facts = {**FACTS, **facts}
    with Recorder(path, "walk", facts) as recorder:
        for fields in walk(facts):
            recorder.write(**fields)
    return path.read_bytes()


def alter(number: int, old: str, new: str) -> None:
    """Replace the first `old` in that line of FILE."""
    lines = FILE.read_text().splitlines(keepends=True)
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new, 1)
    FILE.write_text("".join(lines))


# --- values


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    size = int(torch.tensor(shape).prod())
    dtype = draw(st.sampled_from([*FLOATS, *INTEGERS, "bool"]))
    if dtype in FLOATS:
        elements: st.SearchStrategy[Any] = st.floats(width=16 if "16" in dtype else 32 if "32" in dtype else 64)
    elif dtype == "bool":
        elements = st.booleans()
    else:
        elements = st.integers(*INTEGERS[dtype])
    drawn = draw(st.lists(elements, min_size=size, max_size=size))
    return torch.tensor(drawn, dtype=getattr(torch, dtype)).reshape(shape)


@given(tensors())
def test_tensors_come_back_bit_for_bit(x: torch.Tensor) -> None:
    """In JSON of the standard; a NaN stays one, its bits apart."""
    text = values.dumps({"x": x})
    strict_json(text.decode())
    back = values.from_json(values.loads(text))["x"]
    assert (back.dtype, back.shape) == (x.dtype, x.shape)
    here, there = (torch.where(y == y, y, torch.zeros_like(y)) for y in (x, back))
    assert same_bits(here, there)
    assert torch.equal(x != x, back != back)


def test_what_is_no_tensor_comes_back_too() -> None:
    told = {"a": None, "b": [True, 3, 2**70, -0.0, "é\ud800"], "c": {"d": float("inf"), "e": (1.5,)}}
    back = values.from_json(values.loads(values.dumps(told)))
    assert back == {**told, "c": {"d": float("inf"), "e": [1.5]}}


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ({"x": {"y": [torch.zeros(1), object()]}}, r"x\.y\[1\].*object"),
        ({"x": {1: 2}}, r"x .*\b1"),
        ({"x": torch.zeros(1, dtype=torch.complex64)}, r"x .*complex64"),
    ],
)
def test_what_json_cannot_say_is_refused(field: dict[str, Any], name: str) -> None:
    with Recorder(FILE, "walk", {}) as recorder:
        with pytest.raises(ValueError, match=name):
            recorder.write(**field)
        for fields in ({}, {"end": 1}, {"sha256": "x"}):
            with pytest.raises(ValueError, match="fields"):
                recorder.write(**fields)
    assert list(read_replay(FILE)[1]) == []  # nothing half written


# --- a file


def test_a_file_says_everything_in_lines_that_anyone_can_check() -> None:
    data = record_walk()
    lines = data.splitlines(keepends=True)
    first, *records, last = (strict_json(line.decode()) for line in lines)
    assert (first["replay"], first["kind"], first["versions"]) == (1, "walk", find_versions())
    assert len(records) == 4
    assert last == {"end": 4, "sha256": hashlib.sha256(b"".join(lines[:-1])).hexdigest()}
    for i, line in enumerate(lines[:-1]):
        before = b"".join(lines[:i]) + line[: line.rindex(b', "sha256"')]
        assert strict_json(line.decode())["sha256"] == hashlib.sha256(before).hexdigest()[:16]
    header, read = read_replay(FILE)
    assert header.kind == "walk"
    assert all(same_bits(header.facts[name], FACTS[name]) for name in FACTS)
    for got, want in zip(read, walk(FACTS), strict=True):
        assert got["note"] == want["note"]
        assert all(same_bits(got["deal"][name], x) for name, x in want["deal"]._asdict().items())
        assert "sha256" not in got


def test_what_was_recorded_agrees() -> None:
    record_walk()
    verdict = verify(FILE)
    assert verdict == (4, None, None, {})
    assert verdict.agrees
    assert str(verdict) == "4 records agree"
    record_walk(episodes=0)
    assert verify(FILE).agrees


def test_every_altered_byte_is_found_where_it_is() -> None:
    """Each byte of the file in turn: another digit, or another letter. What is found names no line after it."""
    data = record_walk(episodes=1)
    for i, byte in enumerate(data):
        if byte in b"\n":
            continue
        other = b"0123456789"[(byte - 47) % 10] if chr(byte).isdigit() else byte ^ 1
        FILE.write_bytes(data[:i] + bytes([other]) + data[i + 1 :])
        line = data[:i].count(b"\n") + 1
        found = outcome()
        if isinstance(found, str):
            assert re.search(rf"line {line}\b" + "|not a replay file" * (line == 1), found), (i, found)
        else:
            assert found.altered == line
            assert found.difference is None or found.difference.line == line


def outcome() -> Verdict | str:
    """What verifying FILE comes to, or the error."""
    try:
        return verify(FILE)
    except ReplayError as error:
        return str(error)


def test_a_file_that_was_cut_anywhere_is_found() -> None:
    data = record_walk(episodes=2)
    for end in range(len(data)):
        FILE.write_bytes(data[:end])
        lines = data[:end].count(b"\n")
        whole = max(lines - 1, 0)
        if end < 11:
            message = "is not a replay file"
        elif data[:end].endswith(b"\n"):
            message = f"is cut short after record {whole}: it has no last line"
        else:
            message = f"is cut short in line {lines + 1}, after record {whole}"
        with pytest.raises(ReplayError, match=message + f"; the {whole} records before agree" * (whole > 0)):
            verify(FILE)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[[2.125, -3.5]]", "[[2.125, -3.25]]", "deal.value[0, 1]: file -3.25, recomputed -3.5"),
        ("[[2.125, -3.5]]", "[[2.125]]", "deal.value[0]: file [2.125], recomputed [2.125, -3.5]"),
        ("[[2.125, -3.5]]", '[[2.125, "NaN"]]', 'deal.value[0, 1]: file "NaN", recomputed -3.5'),
        ("float32", "float64", 'deal.value.tensor: file "float64", recomputed "float32"'),
        ("[1, 2]", "[2, 1]", "deal.value.shape[0]: file 2, recomputed 1"),
        ("[2, 0, 1]", "[2, 0, 1.0]", "deal.deck[2]: file 1.0, recomputed 1"),
        ("[2, 0, 1]", "[2, false, 1]", "deal.deck[1]: file false, recomputed 0"),
        ('"deck"', '"desk"', 'deal.deck: file nothing, recomputed {"tensor": '),
        ('"inner": 1', '"inner": 1, "outer": 2', "note[4].outer: file 2, recomputed nothing"),
        ("null", '"null"', 'note[1]: file "null", recomputed null'),
    ],
)
def test_differences_are_told_where_they_are(old: str, new: str, said: str) -> None:
    record_walk()
    alter(3, old, new)
    verdict = verify(FILE)
    assert verdict.records == 1
    assert str(verdict).startswith(f"line 3, episode 2, {said}")
    assert str(verdict).endswith("; line 3 is not as it was written")


@pytest.mark.parametrize(
    ("episodes", "said"),
    [
        (3, "line 5, episode 4: file nothing, recomputed a record"),
        (5, "line 6, episode 5: file a record, recomputed nothing"),
    ],
)
def test_more_and_fewer_records_than_the_run_has(episodes: int, said: str) -> None:
    """Files that are whole in themselves."""
    with Recorder(FILE, "walk", FACTS) as recorder:
        for fields in walk({**FACTS, "episodes": episodes}):
            recorder.write(**fields)
    verdict = verify(FILE)
    assert (verdict.records, verdict.altered, str(verdict)) == (min(episodes, 4), None, said)


@pytest.mark.parametrize("change", ["drop", "double", "swap", "append"])
def test_lines_in_other_places_are_found(change: str) -> None:
    lines = record_walk().splitlines(keepends=True)
    order = {"drop": [0, 1, 3, 4, 5], "double": [0, 1, 2, 2, 3, 4, 5], "swap": [0, 1, 3, 2, 4, 5]}
    FILE.write_bytes(b"".join(lines[i] for i in order.get(change, [0, 1, 2, 3, 4, 5, 5])))
    verdict = verify(FILE)
    line = {"drop": 3, "double": 4, "swap": 3, "append": 7}[change]
    assert verdict.altered == line
    assert verdict.difference is None if change == "append" else verdict.difference.line == line


def test_differences_below_the_tolerance_pass_but_the_file_is_told_to_be_altered() -> None:
    record_walk(start=torch.tensor([[0.5, -200.0]], dtype=torch.float64))
    alter(2, "0.75", "0.7500009")
    alter(3, "-449.0", "-449.0003")
    for tolerance, line in ((0, 2), (8e-7, 2), (1e-6, None), (6e-7, 2)):
        verdict = verify(FILE, tolerance=tolerance)
        assert (verdict.difference and verdict.difference.line) == line
        assert verdict.altered == 2
        assert not verdict.agrees
    assert str(verify(FILE)) == "4 records agree; line 2 is not as it was written"
    for bad in (-1e-9, float("nan")):
        with pytest.raises(ValueError, match="tolerance"):
            verify(FILE, tolerance=bad)


def test_a_change_of_the_program_is_found_in_a_file_that_nobody_altered() -> None:
    """Up to the first difference and no further, with what the file was recorded with where that is not the same."""
    record_walk()
    drawn = []

    def drift(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for i, fields in enumerate(walk(facts)):
            drawn.append(i)
            yield {**fields, "deal": fields["deal"]._replace(value=fields["deal"].value + (i == 1) * 1e-3)}

    register("walk", drift, unit="hand")
    verdict = verify(FILE)
    assert str(verdict) == "line 3, hand 2, deal.value[0, 0]: file 2.125, recomputed 2.125999927520752"
    assert drawn == [0, 1]


def test_other_versions_are_named_where_something_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "1.0")
        record_walk()
    assert verify(FILE).agrees
    register("walk", lambda facts: walk({**facts, "factor": 2.0}))
    assert str(verify(FILE)).endswith("; it was recorded with torch 1.0")


def test_files_that_cannot_be_used_are_refused() -> None:
    """Of another kind, of a newer format, whose run cannot be computed, not JSON: with the place."""
    with Recorder(FILE, "walks", {}):
        pass
    with pytest.raises(ReplayError, match="unknown kind of replay 'walks': did you mean 'walk'"):
        verify(FILE)
    record_walk()
    alter(1, '"replay": 1', '"replay": 2')
    with pytest.raises(ReplayError, match="has format 2, this version of armfold reads 1; line 1 is not as it was"):
        verify(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "FORMAT", 2)
        record_walk()
    with pytest.raises(ReplayError, match=r"has format 2, this version of armfold reads 1$"):
        verify(FILE)
    record_walk()
    register("walk", "armfold_none:walk")
    with pytest.raises(ReplayError, match="cannot be computed again: cannot import 'armfold_none:walk'"):
        verify(FILE)
    register("walk", "tests.shell.test_replay:walk")
    assert verify(FILE).agrees


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (", ", " ", r"Expecting ',' delimiter, character \d+"),
        ("{", "{\n", r"Expecting property name enclosed in double quotes, character 2"),
        ("0.5", "9" * 5000, "an integer of 5000 digits is too long"),
        ("0.5", "NaN", "NaN is no number in JSON"),
    ],
)
def test_what_is_not_json_is_told_with_one_place(old: str, new: str, reason: str) -> None:
    record_walk()
    alter(4, old, new)
    with pytest.raises(ReplayError, match=rf"jsonl: line 4 is not JSON \({reason}\); the 2 records before agree"):
        verify(FILE)
    with pytest.raises(ReplayError, match="line 4 is not as it was written"):
        list(read_replay(FILE)[1])


def test_reading_refuses_what_is_not_as_it_was_written() -> None:
    record_walk()
    alter(4, "0.5", "0.6")
    header, records = read_replay(FILE)
    assert header.kind == "walk"
    assert len(list(itertools.islice(records, 2))) == 2
    with pytest.raises(ReplayError, match="line 4 is not as it was written"):
        next(records)
    alter(1, '"seed": 3', '"seed": 4')
    with pytest.raises(ReplayError, match="line 1 is not as it was written"):
        read_replay(FILE)


# --- a run that ends early


def cut_recording(records: int) -> None:
    """FILE, as a run leaves it that was stopped after that many."""

    def stop() -> None:
        with Recorder(FILE, "walk", FACTS) as recorder:
            for fields in itertools.islice(walk(FACTS), records):
                recorder.write(**fields)
                assert len(FILE.read_bytes().splitlines()) == 1 + recorder.records  # it is there at once
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()


def test_a_run_that_is_stopped_leaves_what_it_recorded() -> None:
    cut_recording(3)
    with pytest.raises(ReplayError, match="cut short after record 3: it has no last line; the 3 records before agree"):
        verify(FILE)
    _, records = read_replay(FILE)
    assert len(list(itertools.islice(records, 3))) == 3
    with pytest.raises(ReplayError, match="cut short after record 3"):
        next(records)
    alter(3, "0.5", "0.6")
    assert verify(FILE).difference  # before the cut


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_run_that_is_resumed_leaves_the_same_file(after: int) -> None:
    whole = record_walk()
    cut_recording(3)
    with Recorder(FILE, "walk", FACTS, after=after) as recorder:
        for fields in itertools.islice(walk(FACTS), after, None):
            recorder.write(**fields)
    assert FILE.read_bytes() == whole


def test_only_the_same_run_is_resumed() -> None:
    cut_recording(3)
    before = FILE.read_bytes()
    with pytest.raises(ReplayError, match="holds another run"):
        Recorder(FILE, "walk", {**FACTS, "seed": 4}, after=1)
    with pytest.raises(ReplayError, match="cut short after record 3"):
        Recorder(FILE, "walk", FACTS, after=4)
    assert FILE.read_bytes() == before
    alter(2, "0.5", "0.6")
    with pytest.raises(ReplayError, match="does not hold 2 records to go on from"):
        Recorder(FILE, "walk", FACTS, after=2)
    with pytest.raises(ReplayError, match="no such file"):
        Recorder("none.jsonl", "walk", FACTS, after=2)


# --- bandits


BANDITS: dict[str, dict[str, Any]] = {
    "counts": {"algorithm": "ucb1", "env": "bernoulli", "env_options": {"arms": 3}, "runs": 3, "agent_seed": 2**63},
    "a posterior": {"algorithm": "beta_ts", "env": "bernoulli", "env_options": {"p": [0.25, 0.5]}, "seed": -5},
    "an infinite tunable": {"algorithm": "moss", "env": "abrupt", "env_options": {"arms": 3, "period": 2}},
    "contexts": {"algorithm": "lin_ucb", "env": "contextual", "env_options": {"arms": 3, "features": 2}, "runs": 65},
    "precision": {"algorithm": "lin_ts", "env": "flowers.csv", "dtype": "float64", "tunables": {"scale": 0.5}},
    "a range": {"algorithm": "ucb1", "env": "gaussian", "env_options": {"mean": [0, 1]}, "reward_range": (-9.0, 9.0)},
    "late rewards": {"algorithm": "exp3", "env": "delayed", "env_options": {"arms": 2, "delay": 2}, "delay": 2},
    "a file": {"algorithm": "lin_ucb", "env": "flowers.csv", "context": "blocks", "label": "kind"},
    "my own": {"algorithm": "armfold_my:follow", "env": "armfold_my:coins", "env_options": {"arms": 3}},
}
MINE = """
    from armfold.core import bandits, envs

    def follow(*, arms):
        return bandits.ucb1(arms=arms, c=0.5)

    def coins(*, arms):
        return envs.bernoulli(p=[0.25] * (arms - 1) + [0.75])
"""
SMALL = {"algorithm": "ucb1", "env": "bernoulli", "env_options": {"arms": 3}, "steps": 6, "runs": 2}


@pytest.mark.parametrize("facts", BANDITS.values(), ids=BANDITS)
def test_bandits_agree(facts: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(place))
    (place / "flowers.csv").write_text("a,b,kind\n0,1,x\n1,0,z\n0,2,x\n2,0,z\n")
    (place / "armfold_my.py").write_text(textwrap.dedent(MINE))
    record_bandit(FILE, Facts(**{"steps": 4, **facts}), progress=False)
    assert verify(FILE) == (4, None, None, {})
    record_bandit("again.jsonl", Facts(**{"steps": 4, **facts}), progress=False)
    assert FILE.read_bytes() == Path("again.jsonl").read_bytes()


def test_records_are_the_steps_of_the_run() -> None:
    """Bit for bit those of `simulate`, and of the core's step folded by hand over the same lanes."""
    seeds = {"seed": 4, "agent_seed": 5}
    name, options = "lin_ucb", {"arms": 3, "features": 2}
    learner, env = ALGORITHMS[name].make(**options), envs.contextual(**options)
    record_bandit(FILE, Facts(name, "contextual", env_options=options, steps=12, runs=3, **seeds), progress=False)
    lanes = torch.arange(64)
    keys = (random.fold_in(random.key(seed).expand(64, 2), lanes) for seed in (4, 5))
    rng, agent_rng = keys
    carry = simulate.init(learner, env, rng, agent_rng=agent_rng)
    regret = reward = torch.zeros(3, dtype=torch.float64)
    for step, record in enumerate(read_replay(FILE)[1], 1):
        obs, means, law = env.observe(carry.env), env.means(carry.env), None
        law = learner.policy(carry.bandit, carry.bandit_rng, obs, samples=1)
        want = {"agent_rng": carry.bandit_rng, "env_rng": carry.env_rng, "obs": obs, "means": means}
        carry, trace = simulate.step(learner, env, carry)
        chance = law.gather(-1, trace.action[:, None])[:, 0]
        want = {"step": step, **want, "propensity": chance, **trace._asdict()}
        assert record.keys() == want.keys()
        for field, value in want.items():
            assert same_bits(record[field], value if field == "step" else value[:3]), field
        regret, reward = regret + record["regret"], reward + record["reward"]
    assert step == 12
    result = run(learner, env, steps=12, runs=70, **seeds)
    assert same_bits(result.regret[:3], regret)
    assert same_bits(result.reward[:3], reward / 12)


def test_a_context_that_all_arms_share_is_recorded_once_and_no_propensity_is_estimated() -> None:
    Path("flowers.csv").write_text("a,b,kind\n0,1,x\n1,0,z\n")
    record_bandit(FILE, Facts("lin_ts", "flowers.csv", steps=2), progress=False)
    for record in read_replay(FILE)[1]:
        assert record["obs"].tolist() in ([[[0.0, 1.0]]], [[[1.0, 0.0]]])
        assert record["propensity"] is None


@pytest.mark.parametrize(
    ("number", "pattern", "said"),
    [
        (4, r'("reward".*?"values": \[)(\d)', "line 4, step 3, reward[0]: file {new}.0, recomputed {old}.0"),
        (5, r'("action".*?"values": \[\d, )(\d)', "line 5, step 4, action[1]: file {new}, recomputed {old}"),
        (2, r'("env_rng".*?\[\[-?\d+, -?)(\d)', "line 2, step 1, env_rng[0, 1]: file "),
        (7, r'("means".*?\[\[0\.\d)(\d)', "line 7, step 6, means[0, 0]: file 0."),
    ],
)
def test_a_flipped_digit_is_named(number: int, pattern: str, said: str) -> None:
    record_bandit(FILE, Facts(**SMALL), progress=False)
    found = re.search(pattern, FILE.read_text().splitlines()[number - 1])
    assert found
    old, new = found[2], str((int(found[2]) + 1) % 10)
    alter(number, found[0], found[1] + new)
    verdict = verify(FILE)
    assert str(verdict).startswith(said.format(old=old, new=new))
    assert str(verdict).endswith(f"; line {number} is not as it was written")


def test_a_flipped_digit_in_the_first_or_the_last_line() -> None:
    record_bandit(FILE, Facts(**SMALL), progress=False)
    alter(8, '"end": 6', '"end": 5')
    assert str(verify(FILE)) == "6 records agree; line 8 is not as it was written"
    alter(1, '"seed": 0', '"seed": 1')
    assert str(verify(FILE)).startswith("line 1 is not as it was written")


def test_a_data_set_that_is_gone_or_changed_is_told(place: Path) -> None:
    data = place / "flowers.csv"
    data.write_text("a,b,kind\n0,1,x\n1,0,z\n")
    record_bandit(FILE, Facts("lin_ucb", "flowers.csv", steps=2), progress=False)
    before = hashlib.sha256(data.read_bytes()).hexdigest()
    data.write_text("a,b,kind\n0,1,x\n1,9,z\n")
    now = hashlib.sha256(data.read_bytes()).hexdigest()
    told = rf"env flowers\.csv is not what it was: its sha256 was {before}, now it is {now}"
    with pytest.raises(ReplayError, match=told):
        verify(FILE)
    data.unlink()
    with pytest.raises(ReplayError, match=r"env flowers\.csv: there is no such file"):
        verify(FILE)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"algorithm": "ucb2"}, "unknown algorithm 'ucb2'"),
        ({"env": "none.csv"}, "none.csv: there is no such file"),
        ({"runs": 0}, "runs"),
        ({"steps": 0}, "steps"),
        ({"dtype": "int32"}, "dtype"),
        ({"mode": "compiled"}, r"mode must be one of \['eager'\], got 'compiled'"),
        ({"reward_range": (0.0,)}, r"reward_range must be a list of 2 numbers, got \[0\.0\]"),
        ({"env_options": {"arm": 3}}, "env_options arm = 3: .* did you mean 'arms'"),
        ({"env": "abrupt", "env_options": {"p": 0.5, "arms": 2}}, "p must be a list of numbers, got 0.5"),
        ({"env": "abrupt", "env_options": {"p": [0.5]}}, "arms must be"),
        ({"algorithm": "armfold.core.bandits:ucb1", "tunables": {"c": 1.0}}, "tunables are for"),
    ],
)
def test_facts_that_cannot_be_are_refused_before_anything_is_written(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record_bandit(FILE, Facts(**{**SMALL, **changed}), progress=False)
    assert not FILE.exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tempo": 3}, "unknown name in facts 'tempo': "),
        ({"algorithm": 5}, "algorithm must be of type str, got 5"),
        ({"env": None}, "env must be of type str, got None"),
        ({"steps": 2.0}, r"steps must be of type int, got 2\.0"),
        ({"tunables": 3}, "tunables must be values by their names, got 3"),
        ({"env_options": [1]}, r"env_options must be values by their names, got \[1\]"),
        ({"env_options": {"arms": 3, "zz": 1}}, "env_options zz = 1: unknown option of environments 'zz'"),
        ({"env_options": {"arms": 2**64}}, "cannot be computed again"),
        ({"reward_range": [0.0]}, r"reward_range must be a list of 2 numbers, got \[0\.0\]"),
        ({"reward_range": [0.0, "x"]}, "reward_range must be a number, got 'x'"),
        ({"data_sha256": 7}, "data_sha256 must be of type str, got 7"),
    ],
)
def test_facts_that_a_file_has_wrong_are_told(changed: dict[str, Any], message: str) -> None:
    """In a file that is sealed as it should be."""
    with Recorder(FILE, "bandit", {**SMALL, **changed}):
        pass
    with pytest.raises(ReplayError, match=message):
        verify(FILE)


# --- ARMAC


ARMAC = armac.Settings(
    hidden=(4,),
    games=16,
    critic_games=8,
    **dict.fromkeys(("regret_steps", "critic_steps", "average_steps", "actor_steps", "scheduler_steps"), 1),
    stored=2,
    scheduler_hidden=(4,),
    meta_games=4,
    max_states=20,
)


def train(folder: Path, **options: Any) -> dict[int, Trained]:
    """Two epochs of Kuhn poker, kept and recorded in a folder."""
    told = {"checkpoint": folder, "replay": folder, "replay_games": 1, **options}
    return run_armac("kuhn", settings=ARMAC, epochs=2, points=1, progress=False, **told)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, Trained], Path]:
    """What a seed has learned, and where it is kept."""
    folder = tmp_path_factory.mktemp("armac")
    return train(folder), folder


def test_a_record_of_armac_pins_every_network_down(trained: tuple[dict[int, Trained], Path]) -> None:
    tree = games.compile_game(games.kuhn())
    points = decisions(tree)
    state = armac.init(tree, points, random.key(0), ARMAC)
    found, folder = trained
    for record in read_replay(folder / "replay-0.jsonl")[1]:
        state, _ = armac.epoch(tree, points, state, ARMAC)
        assert record["norms"].keys() == set(armac.Nets._fields)
        for name, net in state.nets._asdict().items():
            every = torch.cat([leaf.flatten() for leaf in pytree.tree_leaves(net)])
            torch.testing.assert_close(record["norms"][name], every.to(torch.float64).norm())
    assert same_bits(record["average"], found[0].average)  # of the last epoch: what was learned


def test_a_seed_that_has_ended_needs_its_replay(
    trained: tuple[dict[int, Trained], Path], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, folder = trained
    monkeypatch.setattr(armac, "epoch", None)  # nothing may be computed
    shutil.copytree(folder / "seed-0", place / "seed-0")
    data = (folder / "replay-0.jsonl").read_bytes()
    for content, message in (
        (None, "there is no such file"),
        (data[: data.rindex(b'{"end"')], "cut short after record 2"),
        (data.replace(b'"epoch": 2', b'"epoch": 3'), "line 3 is not as it was written"),
        (data.replace(b'"end": 2', b'"end": 1'), "line 4 is not as it was written"),
    ):
        if content is not None:
            (place / "replay-0.jsonl").write_bytes(content)
        with pytest.raises(ReplayError, match=rf"replay {place} must hold seed 0, which has ended: .*{message}"):
            train(place, resume=True, seeds=(1, 0))
    (place / "replay-0.jsonl").write_bytes(data)
    with pytest.raises(ReplayError, match="holds another run"):
        train(place, resume=True, replay_games=2)
    assert same_bits(train(place, resume=True)[0].average, found[0].average)
    assert (place / "replay-0.jsonl").read_bytes() == data


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"settings": 3}, "settings must be values by their names, got 3"),
        ({"settings": {"continuous": "x"}}, "continuous must be of type bool, got 'x'"),
        ({"clusters": {"centre": 3}}, "centre must be a tensor, got 3"),
        ({"clusters": []}, r"clusters must be values by their names, got \[\]"),
    ],
)
def test_facts_of_armac_that_a_file_has_wrong_are_told(changed: dict[str, Any], message: str) -> None:
    facts = {"game": "kuhn", "rules": "", "settings": {}, "seed": 0, "epochs": 1, "games": 1}
    with Recorder(FILE, "armac", {**facts, **changed}):
        pass
    with pytest.raises(ReplayError, match=message):
        verify(FILE)


# --- the command


RUN = ("bandit", "--steps", 5, "--runs", 64, "--points", 2, "--compile", "off", "--quiet", "--out", "run")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with replays of two algorithms, and their decisions."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    logging_words = ("--log-replay", "--log-decisions", "--log-runs", 2, "--algos", "ucb1,epsilon_greedy")
    assert armfold_command(*RUN[:-1], folder, *logging_words) == 0
    return folder


def test_a_run_writes_replays_of_its_decisions(recorded: Path) -> None:
    for name in ("ucb1", "epsilon_greedy"):
        header, records = read_replay(recorded / f"replay-{name}.jsonl")
        kept = strict_json((recorded / "config.json").read_text())
        assert header.facts["tunables"] == kept["tunables"][name]
        assert (header.facts["env"], header.facts["steps"], header.facts["runs"]) == ("bernoulli", 5, 2)
        rows = read_csv(recorded / f"decisions-{name}.csv")
        got = [[r[k][i].item() for k in ("action", "reward", "propensity")] for r in records for i in range(2)]
        assert got == [[float(row[k]) for k in ("action", "reward", "propensity")] for row in rows]


def test_verify_says_what_it_found(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, other = (recorded / f"replay-{name}.jsonl" for name in ("ucb1", "epsilon_greedy"))
    assert armfold_command("replay", "verify", path, other) == 0
    assert capsys.readouterr() == (f"{path}: 5 records agree\n{other}: 5 records agree\n", "")
    FILE.write_bytes(path.read_bytes())
    alter(3, '"step": 2', '"step": 7')
    assert armfold_command("replay", "verify", FILE, path) == 1
    out, err = capsys.readouterr()
    difference = "line 3, step 2, step: file 7, recomputed 2; line 3 is not as it was written"
    assert (out, err) == (f"{FILE}: {difference}\n{path}: 5 records agree\n", "")
    assert armfold_command("replay", "verify", "--quiet", FILE) == 1
    assert capsys.readouterr() == ("", "")


def test_a_file_that_cannot_be_used_keeps_no_other_from_being_looked_at(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recorded / "replay-ucb1.jsonl"
    Path("cut").write_bytes(path.read_bytes()[:-70])
    FILE.write_bytes(path.read_bytes())
    alter(3, '"step": 2', '"step": 7')
    assert armfold_command("replay", "verify", "none", path, "cut", FILE) == 2
    out, err = capsys.readouterr()
    assert [line.partition(": ")[0] for line in out.splitlines()] == [str(path), str(FILE)]
    assert re.fullmatch(r"armfold: error: none: there is no such file\narmfold: error: cut is cut short .*\n", err)
    assert armfold_command("replay", "show", "none", path) == 2
    assert "records: 5" in capsys.readouterr().out
    with pytest.raises(ReplayError):
        armfold_command("replay", "verify", "--verbose", "none", path)


def test_show_says_what_is_recorded(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert armfold_command("replay", "show", recorded / "replay-ucb1.jsonl") == 0
    out = capsys.readouterr().out
    for said in ("bandit", "algorithm ucb1", "seed 0", "action torch.int64 [2]", "propensity torch", "records: 5"):
        assert said in out


def test_what_cannot_be_used_costs_one_line(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded / "replay-ucb1.jsonl"
    data = path.read_bytes()
    for name, content in {
        "empty": b"",
        "noise": bytes(range(256)),
        "cut": data[:-70],
        "torn": data[: len(data) // 2],
    }.items():
        Path(name).write_bytes(content)
    for words, pattern in {
        ("verify", "none"): "none: there is no such file",
        ("verify", "."): r"\. is not a file",
        ("verify", "empty"): "empty is not a replay file: it is empty",
        ("verify", "noise"): "noise is not a replay file",
        ("verify", "cut"): r"cut is cut short in line 7, after record 5; the 5 records before agree",
        ("verify", "torn"): r"torn is cut short in line \d, after record (\d); the \1 records before agree",
        ("show", "torn"): "torn is cut short",
        ("verify",): "files must be one replay file at least",
        ("verify", path, "--tolerence", 1): "--tolerance",
        ("verify", path, "--tolerance", "small"): "--tolerance",
        ("verify", path, "--tolerance", -1): "tolerance must be",
        ("verifi", path): "did you mean 'verify'",
    }.items():
        status = armfold_command("replay", *words)
        out, err = capsys.readouterr()
        assert (status, err.count("\n")) == (2, 1), err
        assert re.search(pattern, err), err
        assert words[0] == "show" or out == ""


def test_runs_to_record_are_checked_before_anything_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    check_refused(capsys, armfold_command(*RUN, "--log-replay", "--log-runs", 65), r"log_runs .* got 65")
    assert not Path("run").exists()


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["verify", "--help"], ["show", "--help"]):
        assert armfold_command("replay", *words) == 0
        assert "usage: armfold replay" in capsys.readouterr().out
    assert armfold_command("replay") == 2


@pytest.mark.slow
def test_another_process_agrees(recorded: Path) -> None:
    path = recorded / "replay-ucb1.jsonl"
    for status in (0, 1):
        FILE.write_bytes(path.read_bytes())
        if status:
            alter(4, '"regret"', '"regert"')
        words = [SCRIPT, "replay", "verify", FILE]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert (ended.returncode, ended.stderr) == (status, "")
        assert ("agree" in ended.stdout) is (status == 0)
