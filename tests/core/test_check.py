"""Messages name the argument and both shapes, or the value."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from armfold.core import check
from armfold.core.check import ShapeError

LONG = torch.int64


def test_shape_errors_are_value_errors_and_assertion_errors() -> None:
    assert issubclass(ShapeError, ValueError)
    assert issubclass(ShapeError, AssertionError)


@pytest.mark.parametrize(
    ("call", "fragments"),
    [
        (lambda: check.check_shape("theta", torch.zeros(2, 3), (2, 4)), ["theta", "(2, 4)", "(2, 3)"]),
        (lambda: check.check_shape("theta", torch.zeros(()), (1,)), ["theta", "(1,)", "()"]),
        (lambda: check.check_key(torch.zeros(3, 2)), ["rng", "int64", "torch.float32", "(3, 2)"]),
        (lambda: check.check_key(torch.zeros(2, 3, dtype=LONG)), ["rng", "(*B, 2)", "(2, 3)"]),
        (lambda: check.check_key(7), ["rng", "random.key(0)", "got 7"]),  # type: ignore[arg-type]
        (lambda: check.check_key(torch.tensor(2)), ["rng", "(*B, 2)", "()"]),
        (lambda: check.check_key(torch.zeros(3, 2, dtype=LONG), (4,)), ["rng", "(4, 2)", "(3, 2)"]),
        (lambda: check.check_action(torch.zeros(3), (3,)), ["action", "torch.int64", "torch.float32"]),
        (lambda: check.check_action(torch.zeros(3, dtype=torch.int32), (3,)), ["action", "torch.int64", "torch.int32"]),
        (lambda: check.check_action(torch.zeros(3, 1, dtype=LONG), (3,)), ["action", "(3,)", "(3, 1)"]),
        (lambda: check.check_reward(torch.zeros(3, dtype=LONG), (3,)), ["reward", "floating", "torch.int64"]),
        (lambda: check.check_reward(torch.zeros(()), (3,)), ["reward", "(3,)", "()"]),
        (lambda: check.check_obs(torch.zeros(3, 5), (3,), 5), ["obs", "(3, 5, 'd')", "(3, 5)"]),
        (lambda: check.check_obs(torch.zeros(3, 4, 2), (3,), 5), ["obs", "(3, 5, 'd')", "(3, 4, 2)"]),
        (lambda: check.require_obs(None, (3,), 5, 2), ["obs", "(3, 5, 2)", "None"]),
        (lambda: check.require_obs(torch.zeros(3, 5, 3), (3,), 5, 2), ["obs", "(3, 5, 2)", "(3, 5, 3)"]),
        (lambda: check.check_number("c", torch.zeros(3, dtype=LONG)), ["c", "floating", "torch.int64"]),
    ],
)
def test_shape_errors_name_the_argument_and_both_shapes(call: Callable[[], object], fragments: list[str]) -> None:
    with pytest.raises(ShapeError) as error:
        call()
    message = str(error.value)
    assert message.startswith(fragments[0] + " ")
    assert all(fragment in message for fragment in fragments), message


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "3", None, torch.tensor(3)])
def test_sizes(value: object) -> None:
    with pytest.raises(ValueError, match="arms must be an integer >= 1, got ") as error:
        check.check_size("arms", value)  # type: ignore[arg-type]
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(
    ("value", "limits", "fragments"),
    [
        (-0.1, {"low": 0.0}, ["[0.0, inf)", "-0.1"]),
        (0.0, {"low": 0.0, "open_low": True}, ["(0.0, inf)", "0.0"]),
        (1.5, {"low": 0.0, "high": 1.0}, ["[0.0, 1.0]", "1.5"]),
        (2, {"high": 1.0}, ["(-inf, 1.0]", "2"]),
        (math.nan, {}, ["(-inf, inf)", "nan"]),
        (math.inf, {"low": 0.0}, ["[0.0, inf)", "inf"]),
        (-math.inf, {}, ["(-inf, inf)", "-inf"]),
        (True, {}, ["number", "True"]),
        ("1", {}, ["number", "'1'"]),
        (None, {}, ["number", "None"]),
    ],
)
def test_numbers(value: object, limits: dict[str, float], fragments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^gamma must be ") as error:
        check.check_number("gamma", value, **limits)  # type: ignore[arg-type]
    assert not isinstance(error.value, ShapeError)
    assert all(fragment in str(error.value) for fragment in fragments), error.value


def test_good_arguments_pass() -> None:
    check.check_shape("x", torch.zeros(2, 3), [2, 3])
    check.check_shape("x", torch.zeros(2, 3), torch.Size((2, 3)))
    for batch in ((), (3,), (2, 3)):
        check.check_key(torch.zeros(*batch, 2, dtype=LONG))
        check.check_key(torch.zeros(*batch, 2, dtype=LONG), batch)
        check.check_action(torch.zeros(batch, dtype=LONG), batch)
        check.check_reward(torch.zeros(batch, dtype=torch.float64), batch)
        check.check_obs(None, batch, 5)
        check.check_obs(torch.zeros(*batch, 5, 7), batch, 5)
        obs = torch.zeros(*batch, 5, 7)
        assert check.require_obs(obs, batch, 5, 7) is obs
    check.check_size("arms", 1)
    check.check_size("arms", 0, low=0)
    for number in (0, 0.0, 1, 1.0, torch.tensor([-5.0, math.nan])):  # the values of tensors are the shell's affair
        check.check_number("c", number, low=0.0, high=1.0)


@given(st.floats(), st.floats(allow_nan=False), st.floats(allow_nan=False), st.booleans())
def test_check_number_accepts_exactly_its_interval(value: float, low: float, high: float, open_low: bool) -> None:
    inside = math.isfinite(value) and low <= value <= high and not (open_low and value == low)
    try:
        check.check_number("x", value, low=low, high=high, open_low=open_low)
        accepted = True
    except ValueError:
        accepted = False
    assert accepted == inside


@pytest.mark.slow
def test_checks_hold_under_python_o() -> None:
    code = """
import torch
from armfold.core import check, random
assert False, "asserts are off"
for call in (lambda: check.check_shape("x", torch.zeros(2), (3,)), lambda: random.uniform(torch.zeros(2))):
    try:
        call()
    except AssertionError as error:
        print(type(error).__name__, error)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-O", "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "ShapeError x must have shape (3,), got (2,)",
        "ShapeError rng must be an int64 key of shape (*B, 2), got torch.float32 (2,)",
    ]
