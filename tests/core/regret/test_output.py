"""What a scheduler says and the lambda it means, against torch's own Gumbel-softmax. Statistical tests reject with
probability 1e-6 each (fewer than 10, fixed keys)."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError
from armfold.core.regret import (
    BINS,
    Continuous,
    Discrete,
    as_dict,
    check_bins,
    check_output,
    discrete_logits_to_lambda,
    expected_lambda,
    from_dict,
    output_to_lambda,
)
from armfold.core.regret.output import best_bin
from tests.purity import check_pure

NAN = math.nan
MODES = ("soft", "hard", "gumbel")
ODD = (0.0, 0.1, 0.3, 1.0)  # values that float32 rounds

LOGITS = st.lists(st.floats(-30, 30), min_size=4, max_size=4)
TAU = st.floats(0.05, 20)


def keys(*batch: int) -> Tensor:
    return random.split(random.key(0), math.prod(batch)).reshape(*batch, 2)


def logits(*batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return 2 * random.normal(random.key(7), (*batch, 4), dtype=dtype)


def discrete(scores: Tensor, fixed: Tensor | None = None) -> Discrete:
    return Discrete(scores, best_bin(scores), fixed)


# ---------------------------------------------------------------- bins to lambda


@given(LOGITS, TAU)
def test_soft_is_the_mean_bin(row: list[float], tau: float) -> None:
    weights = [math.exp((x - max(row)) / tau) for x in row]
    want = sum(w * b for w, b in zip(weights, ODD)) / sum(weights)
    got = discrete_logits_to_lambda(torch.tensor(row, dtype=torch.float64), ODD, tau=tau)
    assert float(got) == pytest.approx(want, rel=1e-12)
    assert float(got) == pytest.approx(
        float(expected_lambda(torch.tensor(row, dtype=torch.float64).div(tau).softmax(-1), ODD)), rel=1e-12
    )


@pytest.mark.parametrize("mode", ["hard", "gumbel"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hard_and_gumbel_give_bins_to_the_last_bit(mode: str, dtype: torch.dtype) -> None:
    got = discrete_logits_to_lambda(logits(500, dtype=dtype), ODD, tau=0.37, mode=mode, rng=keys(500))
    assert got.dtype == dtype
    assert set(got.tolist()) == set(torch.tensor(ODD, dtype=dtype).tolist())


@given(LOGITS)
def test_hard_is_the_best_bin(row: list[float]) -> None:
    got = discrete_logits_to_lambda(torch.tensor(row, dtype=torch.float64), ODD, mode="hard")
    assert float(got) == ODD[row.index(max(row))]


@pytest.mark.parametrize("tau", [0.1, 1.0, 5.0])
def test_gumbel_is_torchs_of_the_same_noise(tau: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forward value and the gradient are those of torch.nn.functional.gumbel_softmax(hard=True), in float64."""
    x, rng, bins = logits(200, dtype=torch.float64), keys(200), torch.tensor(ODD, dtype=torch.float64)
    noise = random.gumbel(rng, (4,), dtype=torch.float64)
    monkeypatch.setattr(Tensor, "exponential_", lambda self: self.copy_(torch.exp(-noise)))
    theirs = x.clone().requires_grad_()
    want = (torch.nn.functional.gumbel_softmax(theirs, tau=tau, hard=True) * bins).sum(-1)
    monkeypatch.undo()
    ours = x.clone().requires_grad_()
    got = discrete_logits_to_lambda(ours, ODD, tau=tau, mode="gumbel", rng=rng)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-15)
    got.sum().backward()
    want.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-14)
    # The gradient is also that of "soft" at logits + noise: straight through.
    soft = (x + noise).requires_grad_()
    discrete_logits_to_lambda(soft, ODD, tau=tau).sum().backward()
    assert torch.equal(ours.grad, soft.grad)
    assert (soft.grad != 0).any()


@pytest.mark.parametrize("tau", [0.1, 3.0])
def test_gumbel_draws_bins_by_the_softmax_of_their_logits(tau: float) -> None:
    row, n = logits(), 20_000
    got = discrete_logits_to_lambda(row.expand(n, 4), ODD, tau=tau, mode="gumbel", rng=keys(n))
    counts = torch.stack([(got == b).sum() for b in torch.tensor(ODD)]).numpy()
    want = row.double().softmax(-1).numpy() * n
    assert counts.sum() == n
    assert stats.chisquare(counts, want).pvalue > 1e-6


def test_a_lower_temperature_moves_soft_towards_hard() -> None:
    row = torch.tensor([0.0, 0.5, 1.0, 1.5])
    taus = torch.tensor([10.0, 1.0, 0.3, 0.1, 1e-3, 1e-40])
    got = discrete_logits_to_lambda(row.expand(6, 4), ODD, tau=taus)
    assert (got[:-1].diff() > 0).all()
    assert got[-2:].tolist() == [1.0, 1.0]
    alone = [discrete_logits_to_lambda(row, ODD, tau=float(tau)) for tau in taus[:-1]]
    torch.testing.assert_close(got[:-1], torch.stack(alone))
    by_lane = discrete_logits_to_lambda(logits(6, 3), ODD, tau=taus)
    torch.testing.assert_close(by_lane[2], discrete_logits_to_lambda(logits(6, 3)[2], ODD, tau=float(taus[2])))


@pytest.mark.parametrize("mode", MODES)
def test_logits_that_are_nan_give_nan(mode: str) -> None:
    x = torch.tensor([[0.0, NAN, 1.0, 2.0], [0.0, -math.inf, 1.0, 9.0]])
    got = discrete_logits_to_lambda(x, ODD, mode=mode, rng=keys(2))
    assert torch.isnan(got).tolist() == [True, False]
    assert torch.isnan(output_to_lambda(discrete(x), bins=ODD, mode=mode, rng=keys(2))).tolist() == [True, False]


@pytest.mark.parametrize("mode", MODES)
def test_bins_may_be_a_tensor(mode: str) -> None:
    x, rng = logits(3), keys(3)
    want = discrete_logits_to_lambda(x, ODD, mode=mode, rng=rng)
    for bins in (torch.tensor(ODD), torch.tensor(ODD).expand(3, 4), list(ODD)):
        assert torch.equal(discrete_logits_to_lambda(x, bins, mode=mode, rng=rng), want)


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize("mode", MODES)
def test_a_fixed_lambda_holds_in_every_mode(mode: str) -> None:
    x, rng = logits(4), keys(4)
    fixed = torch.tensor([0.5, NAN, 0.123, NAN])
    got = output_to_lambda(discrete(x, fixed), bins=ODD, mode=mode, rng=rng)
    free = output_to_lambda(discrete(x), bins=ODD, mode=mode, rng=rng)
    assert torch.equal(got, torch.where(torch.isnan(fixed), free, fixed))
    beyond = output_to_lambda(discrete(x, torch.tensor([-1.0, 0.0, 1.0, 1.5])), bins=ODD, mode=mode, rng=rng)
    assert beyond.tolist() == [0.0, 0.0, 1.0, 1.0]


def test_hard_takes_the_bin_that_was_chosen() -> None:
    out = Discrete(logits(3), torch.tensor([3, 0, 4]))
    got = output_to_lambda(out, bins=BINS[1:], mode="hard")
    assert got[:2].tolist() == [1.0, 0.25]
    assert torch.isnan(got[2])  # no such bin
    assert torch.equal(
        output_to_lambda(discrete(logits(9)), bins=ODD, mode="hard"),
        discrete_logits_to_lambda(logits(9), ODD, mode="hard"),
    )


@pytest.mark.parametrize(
    "out",
    [Continuous(torch.tensor([[0.3], [0.7]])), discrete(logits(2)), discrete(logits(2), torch.tensor([0.5, NAN]))],
)
def test_dictionaries_say_the_same(out: Continuous | Discrete) -> None:
    said = as_dict(out)
    again = from_dict({**said, "note": "kept apart"})
    assert type(again) is type(out)
    assert all(x is y for x, y in zip(again, out, strict=True))
    assert torch.equal(output_to_lambda(said, bins=ODD), output_to_lambda(out, bins=ODD))


def test_dictionaries_have_the_keys_of_the_seed() -> None:
    assert as_dict(Continuous(torch.zeros(2, 1))).keys() == {"mode", "lambda"}
    assert as_dict(discrete(logits(2))).keys() == {"mode", "logits", "lambda_idx"}
    with pytest.raises(ValueError, match=r'out\["mode"\] must be "continuous" or "discrete", got \'soft\''):
        from_dict({"mode": "soft"})
    with pytest.raises(ValueError, match=r"out of mode 'discrete' must have 'lambda_idx', got the keys"):
        from_dict({"mode": "discrete", "logits": logits(2)})


def test_a_continuous_lambda_is_drawn_into_the_interval() -> None:
    out = Continuous(torch.tensor([[-0.5], [0.0], [0.4], [1.0], [1.5], [NAN]]))
    torch.testing.assert_close(
        output_to_lambda(out), torch.tensor([0.0, 0.0, 0.4, 1.0, 1.0, NAN]), rtol=0, atol=0, equal_nan=True
    )


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("bins", "message"),
    [
        ((0.0, 0.5, 0.25), r"bins must be sorted, each above the one before, got \(0.0, 0.5, 0.25\)"),
        ((0.5, 0.5), r"bins must be sorted, each above the one before, got \(0.5, 0.5\)"),
        ((0.0, 1.5), r"bins must be numbers in \[0, 1\], at least one, got \(0.0, 1.5\)"),
        ((-0.1, 0.5), r"bins must be numbers in \[0, 1\]"),
        ((0.0, NAN), r"bins must be numbers in \[0, 1\]"),
        (("0", "1"), r"bins must be numbers in \[0, 1\]"),
        ((), r"bins must be numbers in \[0, 1\], at least one, got \(\)"),
        (0.5, r"bins must be numbers in \[0, 1\], at least one, got 0.5"),
    ],
)
def test_bad_bins_are_named(bins: Any, message: str) -> None:
    for call in (lambda: check_bins(bins), lambda: discrete_logits_to_lambda(torch.zeros(2), bins)):
        with pytest.raises(ValueError, match=message):
            call()


def test_bins_of_a_tensor_are_checked_where_they_come_in() -> None:
    check_bins(torch.tensor([ODD, ODD]))
    with pytest.raises(ValueError, match=r"bins must be sorted, each above the one before, got \[0.5, 0.25\]"):
        check_bins(torch.tensor([[0.0, 1.0], [0.5, 0.25]]))
    for bins, shape in ((torch.zeros(0), r"\(0,\)"), (torch.tensor(0.5), r"\(\)"), (torch.zeros(2, 0), r"\(2, 0\)")):
        with pytest.raises(ShapeError, match=rf"bins must have shape \(K,\) or \(\*B, K\), K >= 1, got {shape}"):
            check_bins(bins)


@pytest.mark.parametrize("tau", [0.0, -1.0, NAN, math.inf])
def test_bad_temperatures_are_named(tau: float) -> None:
    with pytest.raises(ValueError, match=f"tau must be finite and in \\(0.0, inf\\), got {tau}"):
        discrete_logits_to_lambda(logits(), ODD, tau=tau)


def test_other_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="mode must be one of soft, hard, gumbel, got 'auto'"):
        discrete_logits_to_lambda(logits(), ODD, mode="auto")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='rng must be given for mode "gumbel"'):
        discrete_logits_to_lambda(logits(), ODD, mode="gumbel")
    with pytest.raises(ShapeError, match=r"rng must have shape \(3, 2\), got \(4, 2\)"):
        discrete_logits_to_lambda(logits(3), ODD, mode="gumbel", rng=keys(4))
    with pytest.raises(ShapeError, match=r"bins must be as many as logits, \[K\] for \(3, 4\), got \(5,\)"):
        discrete_logits_to_lambda(logits(3), BINS)
    with pytest.raises(ShapeError, match=r"tau must have the first dimensions of \(3, 4\), got \(2,\)"):
        discrete_logits_to_lambda(logits(3), ODD, tau=torch.ones(2))
    with pytest.raises(ValueError, match="bins must be given for the output of a discrete scheduler"):
        output_to_lambda(discrete(logits(3)))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (Continuous(torch.zeros(3)), r"lambda must be floating of shape \(\*B, 1\), got torch.float32 \(3,\)"),
        (Continuous(torch.zeros(3, 1, dtype=torch.int64)), r"lambda must be floating .* got torch.int64"),
        ({"mode": "continuous", "lambda": 0.5}, r"lambda must be floating of shape \(\*B, 1\), got 0.5"),
        (Discrete(logits(3), torch.zeros(3)), r"chosen must be torch.int64 of shape \(3,\), got torch.float32 \(3,\)"),
        (Discrete(logits(3), torch.zeros(2, dtype=torch.int64)), r"chosen must be .* got torch.int64 \(2,\)"),
        (Discrete(logits(3), 2), r"chosen must be .* got 2"),  # type: ignore[arg-type]
        (Discrete(0.5, torch.zeros(3)), r"logits must be floating of shape .* got 0.5"),  # type: ignore[arg-type]
        (discrete(logits(3), torch.zeros(2)), r"fixed must be a tensor of shape \(3,\), got torch.float32 \(2,\)"),
        (discrete(logits(3), 0.5), r"fixed must be a tensor of shape \(3,\), got 0.5"),  # type: ignore[arg-type]
    ],
)
def test_outputs_of_wrong_shapes_are_named(out: Any, message: str) -> None:
    for call in (lambda: output_to_lambda(out, bins=ODD), lambda: check_output(out)):
        with pytest.raises(ShapeError, match=message):
            call()


@pytest.mark.parametrize(("out", "got"), [(0.5, "0.5"), (torch.zeros(1), r"torch.float32 \(1,\)"), (None, "None")])
def test_what_is_no_output_is_named(out: Any, got: str) -> None:
    for call in (lambda: output_to_lambda(out, bins=ODD), lambda: check_output(out)):
        with pytest.raises(ValueError, match=f"out must be Continuous, Discrete or a dictionary of either, got {got}$"):
            call()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (Continuous(torch.tensor([[0.5], [1.5]])), r"lambda must lie in \[0.0, 1.0\], got 1.5"),
        (as_dict(Continuous(torch.tensor([[NAN]]))), r"lambda must lie in \[0.0, 1.0\], got nan"),
        (discrete(torch.tensor([0.0, NAN])), "logits must have a finite largest entry in every row, got nan"),
        (discrete(torch.full((2,), -math.inf)), "logits must have a finite largest entry in every row, got -inf"),
        (Discrete(torch.zeros(2), torch.tensor(2)), r"chosen must lie in \[0, 1\], got 2"),
        (discrete(torch.zeros(2), torch.tensor(-0.5)), r"fixed must lie in \[0.0, 1.0\], got -0.5"),
    ],
)
def test_values_are_checked_where_they_come_in(out: Continuous | Discrete, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_output(out)


def test_good_outputs_pass() -> None:
    check_output(Continuous(torch.tensor([[0.0], [1.0]])))
    check_output(discrete(logits(3), torch.tensor([0.5, NAN, 0.0])), ODD)
    with pytest.raises(ValueError, match="bins must be sorted"):
        check_output(discrete(logits(3)), (1.0, 0.0))


# ---------------------------------------------------------------- every mode


def to_lambda(rng: Tensor, x: Tensor, fixed: Tensor, tau: Tensor, mode: str) -> Tensor:
    return output_to_lambda(discrete(x, fixed), bins=ODD, tau=tau, mode=mode, rng=rng)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("mode", MODES)
def test_modes_agree_in_every_variant(mode: str, batch: tuple[int, ...], variants) -> None:
    lane = {(): (1, 0), (3,): (1,), (2, 3): ()}[batch]
    fixed = torch.tensor([[0.5, NAN, NAN], [NAN, NAN, 0.25]])
    args = (keys(2, 3)[lane], logits(2, 3)[lane], fixed[lane], torch.tensor([[0.1, 1, 3], [2, 0.5, 1]])[lane])
    variants(to_lambda, *args, mode, batch=len(batch), traced=batch == (3,) and mode == "hard")


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_pure(mode: str) -> None:
    check_pure(to_lambda, keys(3), logits(3), torch.tensor([0.5, NAN, NAN]), torch.ones(3), mode)
