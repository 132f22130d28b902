"""`armfold bandit --log-decisions` and `armfold evaluate`: what they write and say, and what they refuse."""

import csv
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from armfold.core import envs, ope, random
from armfold.core.bandits import beta_ts, epsilon_greedy, lin_ucb
from armfold.core.types import Logged
from armfold.shell import cli, evaluate, read_log
from armfold.shell.cli_evaluate import _Options
from armfold.shell.run import decisions
from armfold.shell.run.decisions import log_decisions
from tests.shell.helpers import run

P = [0.3, 0.5, 0.7]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to stand in, and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def command(*argv: object) -> int:
    """`armfold ARGV`: its exit status. Logging is afterwards as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        return cli.main([str(word) for word in argv])
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)


def read(path: Path | str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def written(text: str) -> Path:
    path = Path("log.csv")
    path.write_text(text)
    return path


def uniform_log(rows: int = 600, *, obs: bool = False) -> Logged:
    """Bernoulli arms P under uniform play; with contexts, the arm of largest x0 pays half more."""
    keys = random.split(random.key(1), 3)
    action = random.randint(keys[0], (rows,), high=3)
    x = random.normal(keys[1], (rows, 3, 2)) if obs else None
    p = torch.tensor(P)[action] if x is None else 0.2 + 0.6 * (x[..., 0].argmax(-1) == action)
    return Logged(x, action, random.bernoulli(keys[2], p, (rows,)).double(), torch.full((rows,), 1 / 3).double())


# --- the log of a run


def test_decisions_are_those_of_the_run() -> None:
    """Lane by lane, bit for bit where the run is eager, whatever the number of lanes of either."""
    env = envs.bernoulli(arms=3)
    result = run(epsilon_greedy(arms=3, epsilon=0.5), env, runs=70, steps=40, seed=4, agent_seed=5)
    for runs in (1, 3):
        log_decisions(
            epsilon_greedy(arms=3, epsilon=0.5), env, Path("d.csv"), steps=40, runs=runs, seed=4, agent_seed=5
        )
        rows = read("d.csv")
        assert [(int(row["run"]), int(row["step"])) for row in rows] == [
            (i, t) for t in range(1, 41) for i in range(runs)
        ]
        for lane in range(runs):
            rewards = [float(row["reward"]) for row in rows if row["run"] == str(lane)]
            assert sum(rewards) / 40 == result.reward[lane].item()


def test_propensities_are_those_of_epsilon_greedy() -> None:
    log_decisions(
        epsilon_greedy(arms=3, epsilon=0.3), envs.bernoulli(p=P), Path("d.csv"), steps=60, runs=2, progress=False
    )
    rows = read("d.csv")
    assert list(rows[0]) == ["run", "step", "action", "reward", "propensity"]
    pulls = {run: [[0.0, 0] for _ in P] for run in "01"}
    for row in rows:
        seen, action = pulls[row["run"]], int(row["action"])
        means = [total / n if n else float("inf") for total, n in seen]
        best = [k for k in range(3) if means[k] == max(means)]
        want = 0.1 + (0.7 / len(best) if action in best else 0)
        assert float(row["propensity"]) == pytest.approx(want, rel=1e-6)
        seen[action][0] += float(row["reward"])
        seen[action][1] += 1


def test_propensities_without_a_closed_form_are_estimated_and_said_to_be(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decisions, "_SAMPLES", 64)
    log_decisions(beta_ts(arms=2), envs.bernoulli(p=[0.1, 0.9]), Path("d.csv"), steps=30, progress=False)
    assert "estimated from 64 draws" in caplog.text
    chances = [float(row["propensity"]) for row in read("d.csv")]
    assert all(round(chance * 65) == pytest.approx(chance * 65, abs=1e-4) for chance in chances)
    assert all(1 / 65 <= chance <= 1 for chance in chances)
    assert chances[-1] > 0.9
    caplog.clear()
    log_decisions(epsilon_greedy(arms=2), envs.bernoulli(p=[0.1, 0.9]), Path("d.csv"), steps=3, progress=False)
    assert not caplog.text


@pytest.mark.parametrize("context", ["shared", "blocks"])
def test_contexts_are_written_as_they_were_seen(context: Any) -> None:
    x = random.normal(random.key(9), (20, 2))
    env = envs.classification(x=x, y=torch.arange(20) % 3, arms=3, context=context)
    features = 2 if context == "shared" else 6
    log_decisions(lin_ucb(arms=3, features=features), env, Path("d.csv"), steps=20, runs=2, progress=False)
    logged, arms = read_log("d.csv")
    assert arms == 3
    assert logged.obs is not None
    assert logged.obs.shape == (40, 3, features)
    every = {tuple(row) for row in x.tolist()}
    mine = logged.obs[::2, 0] if context == "shared" else logged.obs[::2, 1, 2:4]
    assert {tuple(row) for row in mine.tolist()} == every  # a lane walks through all rows
    assert ("x0" in read("d.csv")[0]) is (context == "shared")
    if context == "blocks":
        assert (logged.obs[:, 1, [0, 1, 4, 5]] == 0).all()


def test_a_log_is_written_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(decisions.core, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        log_decisions(epsilon_greedy(arms=3), envs.bernoulli(p=P), Path("d.csv"), steps=3, progress=False)
    assert not list(Path().iterdir())


# --- both commands


@pytest.mark.slow
def test_an_exploring_run_tells_what_an_arm_is_worth(capsys: pytest.CaptureFixture[str]) -> None:
    """The intervals hold the true p = 0.7 with this seed, as they do with 19 of 20."""
    words = ("--p", *P, "--steps", 250, "--runs", 64, "--algos", "epsilon_greedy,ucb1", "--compile", "off", "--quiet")
    logging_words = ("--epsilon-greedy.epsilon", 0.6, "--log-decisions", "--log-runs", 3, "--out", "run")
    assert command("bandit", *words, *logging_words) == 0
    assert {path.name for path in Path("run").glob("*.csv")} == {
        "summary.csv",
        "decisions-epsilon_greedy.csv",
        "decisions-ucb1.csv",
    }
    capsys.readouterr()
    evaluating = ("evaluate", "run/decisions-epsilon_greedy.csv", "--policy", "arm:2", "--reward-range", 0, 1)
    assert command(*evaluating, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["arms"], found["policy"]) == (750, 3, "arm:2")
    assert [line["estimator"] for line in found["lines"]] == ["ips", "snips", "dm", "dr"]
    for line in found["lines"]:
        assert line["value"] == pytest.approx(0.7, abs=0.06)
        if line["estimator"] != "dm":
            for method, ends in line["intervals"].items():
                assert (ends is None) is (method == "bernstein" and line["estimator"] == "snips")
                assert ends is None or ends[0] < 0.7 < ends[1] < ends[0] + 0.6
    assert command(*evaluating, "--out", "out.json") == 0
    assert json.loads(Path("out.json").read_text()) == found
    table = capsys.readouterr().out
    assert "arm:2: reward a step, 95% intervals" in table
    for line in found["lines"]:
        assert f"{line['value']:.4f}" in table
    assert "bernstein" in table
    assert f"effective sample size {found['effective_sample_size']:.1f} of 750 rows" in table


def test_log_runs_are_checked_before_anything_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    for bad in (0, 65):
        assert command("bandit", "--runs", 64, "--log-decisions", "--log-runs", bad, "--out", "run") == 2
        assert f"log_runs must be an integer in [1, runs], got {bad}" in capsys.readouterr().err
    assert not Path("run").exists()


def test_every_flag_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("evaluate", "--help")
    said = capsys.readouterr().out
    for name in _Options.__dataclass_fields__:
        assert (f"--{name.replace('_', '-')}" in said) or name == "log"
    assert command("--help") == 0
    assert "evaluate  Estimate from a log" in capsys.readouterr().out


# --- what is evaluated


def value(found: Any, name: str) -> float:
    return next(line.value for line in found.lines if line.estimator == name)


def test_estimates_are_the_core_s() -> None:
    logged = uniform_log()
    found = evaluate(logged, "arm:1", arms=3, estimators=["ips", "snips", "dr", "switch_dr"], clip=2.5, threshold=2.0)
    target = torch.tensor([0.0, 1.0, 0.0]).double().expand(600, 3)
    model = ope.ridge_model(logged, arms=3)
    ips = ope.ips(logged, target, clip=2.5)
    assert value(found, "ips") == ips.value.item()
    assert found.lines[0].intervals["normal"] == tuple(end.item() for end in ope.normal(ips))
    assert value(found, "snips") == ope.snips(logged, target, clip=2.5).value.item()
    assert value(found, "dr") == ope.doubly_robust(logged, target, model, clip=2.5).value.item()
    assert value(found, "switch_dr") == ope.switch_dr(logged, target, model, threshold=2.0).value.item()
    assert found.logged.value == logged.reward.mean().item()
    played = (logged.action == 1).sum().item()
    assert found.effective_sample_size == pytest.approx(played)
    assert found.largest_weight == pytest.approx(3)
    assert found.warnings == []


def test_a_policy_may_be_given_in_many_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    logged = uniform_log(obs=True)
    Path("mine.py").write_text(
        "import torch\n"
        "def largest(obs, arms):\n"
        "    return torch.nn.functional.one_hot(obs[..., 0].argmax(-1), arms)\n"
        "def wrong(obs, arms):\n    return obs[..., 0]\n"
        "def short(obs, arms):\n    return [0.5, 0.5]\n"
    )
    monkeypatch.syspath_prepend(".")
    by_name = evaluate(logged, "mine:largest", arms=3)
    function = sys.modules["mine"].largest
    assert by_name.lines == evaluate(logged, function, arms=3).lines
    assert by_name.lines == evaluate(logged, function(logged.obs, 3), arms=3).lines
    low, high = by_name.lines[0].intervals["normal"] or (0, 0)
    assert low < 0.8 < high
    assert value(evaluate(logged, "uniform", arms=3), "ips") == pytest.approx(logged.reward.mean().item())
    for policy, complaint in {
        "mine:wrong": r"target must hold probabilities >= 0, got .* in row \d",
        "mine:short": r"mine:short must give probabilities \(600, 3\), gave \(2,\)",
        "mine:none": "cannot import 'mine:none'",
        "arm:3": r"arm:K with K in \[0, 3\), got 'arm:3'",
        "arm:x": "got 'arm:x'",
        "lin_ucbb": "did you mean 'lin_ucb'",
    }.items():
        with pytest.raises(ValueError, match=complaint):
            evaluate(logged, policy, arms=3)


def test_an_algorithm_learns_from_the_first_rows_and_is_evaluated_on_the_rest() -> None:
    logged = uniform_log(900, obs=True)
    found = evaluate(logged, "lin_ucb", arms=3, train_share=2 / 3, reward_range=(0, 1))
    assert found.rows == 300
    assert value(found, "snips") > 0.6  # uniform play earns 0.4, the best policy 0.8
    backwards = Logged(*(None if x is None else x.flip(0) for x in logged))
    assert value(evaluate(backwards, "lin_ucb", arms=3), "ips") != value(found, "ips")


def test_replay_follows_a_learner_and_wants_a_uniform_log() -> None:
    logged = uniform_log(300)
    found = evaluate(logged, "ucb1", arms=3, estimators=["replay"], reward_range=(0, 1))
    assert 0.35 < value(found, "replay") < 0.85
    assert found.lines[0].intervals["bernstein"] is not None
    assert found.warnings == []
    skewed = logged._replace(propensity=torch.full((300,), 0.5).double())
    assert "uniform" in evaluate(skewed, "ucb1", arms=3, estimators=["replay"]).warnings[0]
    with pytest.raises(ValueError, match="replay is for an algorithm"):
        evaluate(logged, "uniform", arms=3, estimators=["replay"])


def test_little_overlap_is_said() -> None:
    logged = uniform_log(200)
    target = torch.full((200, 3), 1e-3, dtype=torch.float64)
    target[:2] = 1.0
    found = evaluate(logged, target / target.sum(-1, keepdim=True), arms=3)
    assert found.warnings == []  # these weights are still all alike
    few = logged._replace(propensity=torch.where(torch.arange(200) < 2, 0.001, 0.999).double())
    found = evaluate(few, "uniform", arms=3)
    assert found.ess_share < 0.1
    assert "little overlap" in found.warnings[0]
    unseen = evaluate(logged, torch.tensor([0.5, 0, 0, 0.5]).expand(200, 4), arms=4)
    assert unseen.unseen == pytest.approx(0.5)
    assert "50% of the policy's choices are actions that the log never shows" in unseen.warnings[-1]


def test_rewards_of_learners_of_the_unit_interval() -> None:
    logged = uniform_log()
    wide = logged._replace(reward=10 * logged.reward - 5)
    with pytest.raises(ValueError, match=r"ucb1 needs rewards in \[0, 1\]"):
        evaluate(wide, "ucb1", arms=3)
    found = evaluate(wide, "ucb1", arms=3, reward_range=(-5, 5))
    plain = evaluate(logged, "ucb1", arms=3)
    assert value(found, "snips") == pytest.approx(10 * value(plain, "snips") - 5)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"estimators": ["ipss"]}, "unknown estimator 'ipss': did you mean 'ips'"),
        ({"estimators": []}, "estimators must name"),
        ({"intervals": ["exact"]}, "unknown interval 'exact'"),
        ({"intervals": ["bernstein"]}, "reward_range must be given"),
        ({"level": 1.0}, r"level must be below 1"),
        ({"level": 0.0}, r"level .*0"),
        ({"clip": 0.0}, r"clip .*0"),
        ({"threshold": -1.0}, r"threshold .*-1"),
        ({"reward_range": (1.0, 0.0)}, r"reward_range must be finite .*\(1.0, 0.0\)"),
        ({"reward_range": (0.0, 0.5)}, r"reward_range \[0, 0.5\] must hold all rewards: they are 0 to 1"),
        ({"train_share": 1.0}, "train_share must be below 1"),
        ({"resamples": 0}, r"resamples .*0"),
        ({"seed": 2**65}, "seed must"),
        ({"arms": 1}, r"arms .*1"),
        ({"arms": 2}, r"action must lie in \[0, 2\), got 2 in row"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        evaluate(uniform_log(50), "uniform", **{"arms": 3, **settings})
    with pytest.raises(ValueError, match="leaves none"):
        evaluate(uniform_log(1), "ucb1", arms=3)
    with pytest.raises(ValueError, match="propensities"):
        evaluate(uniform_log(5)._replace(propensity=None), "uniform", arms=3)


# --- reading logs

GOOD = "action,reward,propensity\n0,1,0.5\n1,0,0.25\n"


def test_columns_may_have_other_names(capsys: pytest.CaptureFixture[str]) -> None:
    path = written("who,a,r,p,age,size\nx,0,1.5,0.5,20,1\ny,2,-2,0.25,30,2\n\n")
    logged, arms = read_log(path, action="a", reward="r", propensity="p", context=["size", "age"])
    assert arms == 3
    assert logged.action.tolist() == [0, 2]
    assert logged.reward.tolist() == [1.5, -2]
    assert logged.propensity is not None
    assert logged.propensity.tolist() == [0.5, 0.25]
    assert logged.obs is not None
    assert logged.obs.tolist() == [[[1, 20]] * 3, [[2, 30]] * 3]
    words = ("--action", "a", "--reward", "r", "--propensity", "p", "--context", "size,age", "--arms", 4)
    assert command("evaluate", path, "--policy", "uniform", *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["arms"] == 4
    assert read_log(written(GOOD))[0].obs is None


def test_contexts_are_found_in_their_order() -> None:
    head, row = [f"x{j}" for j in (10, *range(10))], [10, *range(10)]
    logged, _ = read_log(written(GOOD[:24] + f",{','.join(head)}\n0,1,1,{','.join(map(str, row))}\n"))
    assert logged.obs is not None
    assert logged.obs[0, 0].tolist() == list(range(11))
    logged, arms = read_log(written("x1_0,x0_0,x2_0,action,reward,propensity\n1,0,2,0,1,1\n"))
    assert arms == 3
    assert logged.obs is not None
    assert logged.obs.tolist() == [[[0], [1], [2]]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GOOD.replace("reward", "pay"), "no column 'reward'; columns are action, pay, propensity"),
        (GOOD.replace("reward", "action"), "column 'action' is there twice"),
        (GOOD.replace("0.25", "0"), "row 3, column 'propensity': 0 is not in (0, 1]"),
        (GOOD.replace("0.25", "1.5"), "row 3, column 'propensity': 1.5 is not in (0, 1]"),
        (GOOD.replace("0.25", "half"), "row 3, column 'propensity': 'half' is not a number"),
        (GOOD.replace("0.25", ""), "row 3, column 'propensity': '' is not a number"),
        (GOOD.replace("0,1,", "0.5,1,"), "row 2, column 'action': 0.5 is not a whole number >= 0"),
        (GOOD.replace("0,1,", "-1,1,"), "row 2, column 'action': -1 is not a whole number >= 0"),
        (GOOD.replace("0,1,", "0,nan,"), "row 2, column 'reward': 'nan' is not finite"),
        (GOOD.replace("0,1,", "0,inf,"), "row 2, column 'reward': 'inf' is not finite"),
        (GOOD.replace("0,1,", "0,"), "row 2 has 2 fields, the header has 3"),
        ("action,reward,propensity\n", "needs a header and at least one row"),
        ("", "needs a header and at least one row"),
        ("x0,x0_1,action,reward,propensity\n1,1,0,1,1\n", "has both 'x0' and 'x0_1'"),
        ("x0_0,x1_1,action,reward,propensity\n1,1,0,1,1\n", "no column 'x0_1' for a context of 2 arms and 2 features"),
        ("x0_0,x1_0,action,reward,propensity\n1,1,2,1,1\n", "row 2, column 'action': 2 is not one of 2 arms"),
        ("action,reward,propensity\n1e9,1,1\n", "is not one of 100000 arms"),
    ],
)
def test_a_bad_log_costs_one_line(text: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("evaluate", written(text), "--policy", "uniform", "--out", "out.json") == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    assert not Path("out.json").exists()


def test_other_wrong_words_cost_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    path, three = written(GOOD), Path("three.csv")
    three.write_text(GOOD.replace("1,0,", "2,0,"))
    for words, complaint in {
        ("evaluate", "none.csv", "--policy", "uniform"): "none.csv: there is no such file",
        ("evaluate", path): "--policy",
        ("evaluate", path, "--policy", "uniform", "--arms", "1"): "arms must be an integer >= 2, got 1",
        ("evaluate", three, "--policy", "uniform", "--arms", "2"): "2 is not one of 2 arms",
        ("evaluate", path, "--policy", "uniform", "--context", "age"): "no column 'age'",
        ("evaluate", path, "--policy", "lin_ucb"): "policy lin_ucb needs contexts",
        ("evaluate", path, "--policy", "uniform", "--clip", "0"): "clip must be",
    }.items():
        assert command(*words) == 2
        said = capsys.readouterr().err
        assert complaint in said
        assert said.count("\n") == 1


def test_nothing_is_written_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    path = written(GOOD)
    assert command("evaluate", path, "--policy", "arm:0") == 0
    assert "ips" in capsys.readouterr().out
    assert [file.name for file in Path().iterdir()] == ["log.csv"]
