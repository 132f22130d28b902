"""Data sets from files: what is read, and what a message about a bad one names."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from armfold.shell.choose import env_shape, make_env
from armfold.shell.envs.data import Labelled, Rewarded, load_csv, load_digits, load_npz
from tests.shell.helpers import learner, run

X = np.array([[0.5, 1.0], [2.0, -3.0], [4.0, 1e-3], [0.0, 7.0]])
Y = np.array([0, 2, 1, 0])
GOOD = "a,b,y\n0.5,1,0\n2,-3,2\n4,1e-3,1\n0,7,0\n"
P = np.array([[0.25, 1.0], [0.5, 0.0], [1.0, 0.75], [0.0, 0.125]])
OWN = np.arange(24.0).reshape(4, 2, 3)
CHANCES = "a,p1,b,p0\n0.5,1,1,0.25\n2,0,-3,0.5\n4,0.75,1e-3,1\n0,0.125,7,0\n"
LABEL_FIRST = "y,b,a\n0,0.5,1\n2,2,-3\n1,4,1e-3\n0,0,7\n"


def csv(folder: Path, text: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def npz(folder: Path, **arrays: Any) -> Path:
    path = folder / "arrays.npz"
    np.savez(path, **arrays)
    return path


def check_good(data: Labelled) -> None:
    assert (data.x.dtype, data.y.dtype) == (torch.float32, torch.int64)
    assert torch.equal(data.x, torch.tensor(X, dtype=torch.float32))
    assert data.y.tolist() == Y.tolist()
    assert data.classes == ["0", "1", "2"]


def test_digits() -> None:
    data = load_digits()
    assert (data.x.shape, data.y.shape) == ((1797, 64), (1797,))
    assert (data.x.dtype, data.y.dtype) == (torch.float32, torch.int64)
    assert (data.x.min(), data.x.max()) == (0, 1)
    assert data.classes == [str(digit) for digit in range(10)]
    assert data.y.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


# CSV


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.rstrip("\n"),
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + LABEL_FIRST,
        "\ufeff" + LABEL_FIRST.replace("y,b,a", '"y","b","a"'),
        GOOD.replace(",", ", "),
        LABEL_FIRST,
        "b,label,a\n0.5,0,1\n2,2,-3\n4,1,1e-3\n0,0,7\n",
        "a,b,kind\n0.5,1,0\n2,-3,2\n4,1e-3,1\n0,7,0\n",
    ],
    ids=["plain", "no last newline", "CRLF", "BOM", "BOM and quotes", "spaces", "y first", "label", "last column"],
)
def test_a_csv_file(text: str, tmp_path: Path) -> None:
    check_good(load_csv(csv(tmp_path, text)))


def test_blank_lines_at_the_end_are_no_rows(tmp_path: Path) -> None:
    check_good(load_csv(csv(tmp_path, GOOD + "\n\n")))


def test_the_label_column_may_be_named(tmp_path: Path) -> None:
    data = load_csv(csv(tmp_path, "y,a,kind\n1,2,0\n3,4,1\n"), "kind")
    assert data.x.tolist() == [[1, 2], [3, 4]]
    assert data.y.tolist() == [0, 1]


def test_labels_may_be_words_and_numbers_keep_their_order(tmp_path: Path) -> None:
    words = load_csv(csv(tmp_path, "a,y\n1,cat\n2,ant\n3, cat \n4,bee\n"))
    assert words.classes == ["ant", "bee", "cat"]
    assert words.y.tolist() == [2, 0, 2, 1]
    numbers = load_csv(csv(tmp_path, "a,y\n1,10\n2,9\n3,2\n"))
    assert numbers.classes == ["2", "9", "10"]
    assert numbers.y.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,y\n1,2,0\n1,1\n", "row 3 .*2 fields.* 3"),
        ("a,b,y\n1,2,0\n1,1,1,1\n", "row 3 .*4 fields.* 3"),
        ("a,b,y\n1,2,0\n1,nan,1\n", "row 3, column 'b': 'nan'"),
        ("a,b,y\n1,2,0\n-inf,1,1\n", "row 3, column 'a': '-inf'"),
        ("a,b,y\n1,oops,0\n1,1,1\n", "row 2, column 'b': 'oops'"),
        ("a,b,y\n1,2,0\n,1,1\n", "row 3, column 'a': ''"),
        ("y,b,a\n0,1,2\n1,1,x\n", "row 3, column 'a': 'x'"),
        ("a,b,y\n1,2,\n1,1,1\n", "row 2, column 'y'"),
        ("a,b,y\n1,2,0\n1,1,NaN\n", "row 3, column 'y'"),
        ("a,b,y\n1,1e300,0\n1,1,1\n", "row 2, column 'b'"),
        ("", "header"),
        ("a,b,y\n", "at least one row"),
        ("a,b,y\n1,2,0\n3,4,0\n", "two classes.*'0'"),
        ("y\n0\n1\n", "one feature"),
    ],
    ids=[
        "short row",
        "long row",
        "NaN",
        "infinity",
        "text",
        "empty field",
        "text right of the label",
        "no label",
        "NaN label",
        "too large for float32",
        "empty",
        "header only",
        "one class",
        "no features",
    ],
)
def test_a_bad_csv_file_is_refused_where_it_is_bad(text: str, message: str, tmp_path: Path) -> None:
    path = csv(tmp_path, text)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{message}"):
        load_csv(path)


def test_a_label_that_is_no_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'kind'.*\blabel\b.*'a', 'b', 'y'"):
        load_csv(csv(tmp_path, GOOD), "kind")


@pytest.mark.parametrize(
    "data",
    ["a,y\n1,é\n2,1\n".encode("latin-1"), b"a,y\n1," + b"z" * 200_000 + b"\n2,1\n"],
    ids=["latin-1", "huge field"],
)
def test_a_file_that_is_no_csv_is_refused_by_name(data: bytes, tmp_path: Path) -> None:
    path = csv(tmp_path, data)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_csv(path)


# NPZ


@pytest.mark.parametrize("name", ["X", "x"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_npz_file(name: str, dtype: Any, tmp_path: Path) -> None:
    check_good(load_npz(npz(tmp_path, **{name: X.astype(dtype), "y": Y})))
    check_good(load_npz(npz(tmp_path, **{name: X.astype(dtype), "y": Y.astype(np.uint8)})))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": X}, r"X and y.*\['x'\]"),
        ({"y": Y}, r"X and y.*\['y'\]"),
        ({}, "X and y"),
        ({"X": X, "y": Y[:3]}, r"\(4, 2\).*\(3,\)"),
        ({"X": X[:, 0], "y": Y}, r"\(4,\)"),
        ({"X": X, "y": Y[:, None]}, r"\(4, 1\)"),
        ({"X": X, "y": Y - 1}, "whole numbers.*-1"),
        ({"X": X, "y": Y + 0.5}, "whole numbers.*float64"),
        ({"X": X, "y": Y == 0}, "whole numbers.*bool"),
        ({"X": X, "y": Y.astype(str)}, "whole numbers"),
        ({"X": X.astype(str), "y": Y}, "X must"),
        ({"X": X * 1j, "y": Y}, "X must"),
        ({"X": np.where(X == 7, np.nan, X), "y": Y}, "row 3, column 1"),
        ({"X": np.where(X == 7, 1e300, X), "y": Y}, "row 3, column 1"),
        ({"X": X[:0], "y": Y[:0]}, "at least one row"),
        ({"X": X, "y": Y * 0}, "two classes"),
    ],
    ids=[
        "no y",
        "no X",
        "nothing",
        "lengths differ",
        "X a vector",
        "y a matrix",
        "negative",
        "fractions",
        "bools",
        "y text",
        "X text",
        "X complex",
        "NaN",
        "too large for float32",
        "empty",
        "one class",
    ],
)
def test_bad_arrays_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = npz(tmp_path, **arrays)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{message}"):
        load_npz(path)


# Rewards of every arm


@pytest.mark.parametrize("kind", ["csv", "npz", "npz, lower case", "npz, other types"])
def test_a_file_may_hold_the_expected_rewards(kind: str, tmp_path: Path) -> None:
    if kind == "csv":
        data = load_csv(csv(tmp_path, CHANCES))
    elif kind == "npz":
        data = load_npz(npz(tmp_path, X=X, P=P))
    else:
        data = load_npz(npz(tmp_path, x=X.astype(np.float32), p=P.astype(np.float16)))
    assert isinstance(data, Rewarded)
    assert data.x.dtype == data.p.dtype == torch.float32
    assert torch.equal(data.x, torch.tensor(X, dtype=torch.float32))
    assert torch.equal(data.p, torch.tensor(P, dtype=torch.float32))


def test_whole_numbers_are_rewards_too(tmp_path: Path) -> None:
    data = load_npz(npz(tmp_path, X=OWN, P=P.round().astype(int)))
    assert isinstance(data, Rewarded)
    assert torch.equal(data.x, torch.tensor(OWN, dtype=torch.float32))
    assert torch.equal(data.p, torch.tensor(P.round(), dtype=torch.float32))


def test_columns_are_rewards_only_where_nothing_is_the_label(tmp_path: Path) -> None:
    labelled = "p0,p1,{}\n0.5,1,0\n2,-3,2\n4,1e-3,1\n0,7,0\n"
    for name in ("y", "label"):
        check_good(load_csv(csv(tmp_path, labelled.format(name))))
    check_good(load_csv(csv(tmp_path, labelled.format("kind")), "kind"))
    assert isinstance(load_csv(csv(tmp_path, "p0,kind\n0.5,0\n2,1\n")), Labelled)  # one column is no choice


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,p0,p2\n1,0,1\n", "p0 to p1"),
        ("a,p1,p2\n1,0,1\n", "p0 to p1"),
        ("a,p0,p1,p1\n1,0,1,1\n", "'p1' is there twice"),
        ("a,p0,p1\n1,0,1\n1,0,1.5\n", "row 1, arm 1 of P .*1.5"),
        ("a,p0,p1\n1,-0.5,1\n", "row 0, arm 0 of P .*-0.5"),
        ("a,p0,p1\n1,0,nan\n", "row 2, column 'p1': 'nan'"),
        ("a,p0,p1\n1,0,\n", "row 2, column 'p1': ''"),
        ("p0,p1\n0,1\n", "one feature"),
    ],
    ids=["gap", "no p0", "twice", "above 1", "below 0", "NaN", "empty field", "no features"],
)
def test_bad_columns_of_rewards_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = csv(tmp_path, text)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{message}"):
        load_csv(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"P": P}, r"X and y, or X and P.*\['p'\]"),
        ({"X": X, "y": Y, "P": P}, r"X and y, or X and P.*'p', 'x', 'y'"),
        ({"X": X, "P": P[:3]}, r"X .*\(4, 2\).*\(3, 2\)"),
        ({"X": X[:, 0], "P": P}, r"X .*\(4,\)"),
        ({"X": OWN[:, :1], "P": P}, r"X .*\(4, 1, 3\)"),
        ({"X": OWN[None], "P": P[None]}, r"P .*\(1, 4, 2\)"),
        ({"X": X, "P": P[:, 0]}, r"P .*\(4,\)"),
        ({"X": X, "P": P[:, :1]}, r"P .*\(4, 1\)"),
        ({"X": X, "P": P.astype(str)}, "P must"),
        ({"X": X, "P": P * 1j}, "P must"),
        ({"X": X, "P": np.where(P == 0.75, 1.5, P)}, "row 2, arm 1 of P .*1.5"),
        ({"X": X, "P": np.where(P == 0.75, -0.5, P)}, "row 2, arm 1 of P .*-0.5"),
        ({"X": X, "P": np.where(P == 0.75, np.nan, P)}, "row 2, arm 1 of P .*nan"),
        ({"X": X, "P": np.where(P == 0.75, np.inf, P)}, "row 2, arm 1 of P .*inf"),
        ({"X": np.where(X == 7, np.nan, X), "P": P}, "row 3, column 1 of X"),
        ({"X": np.where(OWN == 23, np.inf, OWN), "P": P}, "row 3, arm 1, feature 2 of X"),
        ({"X": X[:0], "P": P[:0]}, "at least one row"),
    ],
    ids=[
        "no X",
        "y and P",
        "lengths differ",
        "X a vector",
        "X of other arms",
        "P of three dimensions",
        "P a vector",
        "one arm",
        "P text",
        "P complex",
        "above 1",
        "below 0",
        "NaN",
        "infinity",
        "NaN in X",
        "infinity in X",
        "empty",
    ],
)
def test_bad_arrays_of_rewards_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = npz(tmp_path, **arrays)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{message}"):
        load_npz(path)


# Archives that are none


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


@pytest.mark.parametrize("name", ["X", "y", "other"])
def test_pickled_arrays_are_refused_and_never_run(name: str, tmp_path: Path) -> None:
    path = npz(tmp_path, **{"X": X, "y": Y, name: np.array([Payload(tmp_path / "ran")], dtype=object)})
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_npz(path)
    assert not (tmp_path / "ran").exists()


def no_archive(folder: Path) -> bytes:
    return b"hello, world"


def nothing(folder: Path) -> bytes:
    return b""


def half(folder: Path) -> bytes:
    data = npz(folder, X=X, y=Y).read_bytes()
    return data[: len(data) // 2]


def one_array(folder: Path) -> bytes:
    np.save(folder / "one.npy", X)
    return (folder / "one.npy").read_bytes()


@pytest.mark.parametrize("make", [no_archive, nothing, half, one_array])
def test_a_file_that_is_no_npz_is_refused_by_name(make: Callable[[Path], bytes], tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    path.write_bytes(make(tmp_path))
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_npz(path)


# Environments


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_a_file_becomes_an_environment(kind: str, tmp_path: Path) -> None:
    path = csv(tmp_path, GOOD) if kind == "csv" else npz(tmp_path, X=X, y=Y)
    env = make_env(str(path), {"arms": 17, "features": 17})
    assert env_shape(env) == (3, 2)
    assert env_shape(make_env(str(path), {}, context="blocks")) == (3, 6)
    result = run(learner("lin_ucb"), env, steps=8, runs=64)
    assert torch.equal(result.reward, result.optimal)  # the right class pays 1, any other nothing
    assert torch.equal(result.regret, 8 - 8 * result.reward)


def test_an_environment_shows_the_rows_of_the_file(tmp_path: Path) -> None:
    env = make_env(str(csv(tmp_path, "kind,a,b,y\n0,0.5,1,7\n1,2,-3,8\n")), {}, label="kind")
    assert env_shape(env) == (2, 3)
    seen = []
    state = env.init(torch.zeros(2, dtype=torch.int64))
    for _ in range(2):
        obs, means = env.observe(state), env.means(state)
        seen.append((obs[0].tolist(), means.tolist()))
        assert torch.equal(obs[0], obs[1])
        state, _ = env.pull(state, torch.zeros(2, dtype=torch.int64), torch.tensor(0))
    assert sorted(seen) == [([0.5, 1, 7], [1, 0]), ([2, -3, 8], [0, 1])]


def test_rewards_become_an_environment(tmp_path: Path) -> None:
    shown = {"shared": (2, 2), "blocks": (2, 4)}
    for path in (csv(tmp_path, CHANCES), npz(tmp_path, X=X, P=P)):
        assert {context: env_shape(make_env(str(path), {}, context=context)) for context in shown} == shown
        env = make_env(str(path), {"arms": 17, "p": (0.5, 0.5)})
        state = env.init(torch.zeros(2, dtype=torch.int64))
        obs = env.observe(state)
        assert obs is not None
        row = [row.tolist() == obs[0].tolist() for row in torch.tensor(X, dtype=torch.float32)].index(True)
        assert env.means(state).tolist() == P[row].tolist()


def test_arms_may_have_features_of_their_own(tmp_path: Path) -> None:
    path = npz(tmp_path, X=OWN, P=P)
    assert env_shape(make_env(str(path), {})) == (2, 3)
    result = run(learner("lin_ucb", arms=2, features=3), make_env(str(path), {}), steps=8, runs=64)
    assert (result.regret <= 8 * 0.75).all()
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}.*context .*'blocks'"):
        make_env(str(path), {}, context="blocks")


def test_digits_are_an_environment() -> None:
    assert env_shape(make_env("digits", {})) == (10, 64)


@pytest.mark.parametrize("name", ["no.csv", "no.npz"])
def test_a_file_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"env .*{re.escape(str(tmp_path / name))}"):
        make_env(str(tmp_path / name), {})
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=rf"env .*{re.escape(str(tmp_path / name))}"):
        make_env(str(tmp_path / name), {})
