"""Networks: against torch.nn, over lanes, and the law of their first weights. Statistical tests reject with
probability 1e-6 each (fixed keys)."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from armfold.core import nn, random
from armfold.core.check import ShapeError
from armfold.core.nn import Mlp
from tests.purity import check_pure

SIZES = (3, 5, 4, 2)
DOUBLE = torch.float64
LANES: tuple[tuple[int, ...], ...] = ((), (3,), (2, 3))
MODULES = {torch.relu: torch.nn.ReLU, torch.tanh: torch.nn.Tanh}


def keys(*batch: int, seed: int = 0) -> Tensor:
    return random.split(random.key(seed), math.prod(batch)).reshape(*batch, 2)


def network(*batch: int, sizes: tuple[int, ...] = SIZES, dtype: torch.dtype = DOUBLE) -> Mlp:
    """A network for each lane, with biases that are not 0."""
    params = nn.mlp_init(keys(*batch), sizes, dtype=dtype)
    noise = keys(*batch, seed=1)
    biases = (random.normal(random.fold_in(noise, i), b.shape[-1:], dtype=dtype) for i, b in enumerate(params.biases))
    return params._replace(biases=tuple(biases))


def inputs(*batch: int, data: tuple[int, ...] = (7,), dtype: torch.dtype = DOUBLE) -> Tensor:
    return random.normal(keys(*batch, seed=2), (*data, SIZES[0]), dtype=dtype)


def sequential(params: Mlp, activation: Any) -> torch.nn.Sequential:
    """The torch.nn network of one lane's parameters."""
    layers: list[torch.nn.Module] = []
    for weight, bias in zip(params.weights, params.biases, strict=True):
        linear = torch.nn.Linear(*weight.shape, dtype=weight.dtype)
        linear.load_state_dict({"weight": weight.mT, "bias": bias})
        layers += [linear, MODULES[activation]()]
    return torch.nn.Sequential(*layers[:-1])


def lane_of(params: Mlp, lane: tuple[int, ...]) -> Mlp:
    return Mlp(tuple(w[lane] for w in params.weights), tuple(b[lane] for b in params.biases))


# ---------------------------------------------------------------- the function


@pytest.mark.parametrize("activation", MODULES)
@pytest.mark.parametrize("data", [(), (1,), (7,), (2, 4), (0,)])
@pytest.mark.parametrize("batch", LANES)
def test_every_lane_is_the_network_of_torch(
    batch: tuple[int, ...], data: tuple[int, ...], activation: Callable[[Tensor], Tensor]
) -> None:
    params, x = network(*batch), inputs(*batch, data=data)
    out = nn.mlp(params, x, activation=activation)
    assert out.shape == (*batch, *data, SIZES[-1])
    for i in range(math.prod(batch)):
        lane = tuple(int(n) for n in torch.unravel_index(torch.tensor(i), batch)) if batch else ()
        want = sequential(lane_of(params, lane), activation)(x[lane])
        torch.testing.assert_close(out[lane], want, rtol=1e-12, atol=1e-12)


def test_relu_is_the_default_and_a_single_layer_has_no_activation() -> None:
    params, x = network(2), inputs(2)
    assert torch.equal(nn.mlp(params, x), nn.mlp(params, x, activation=torch.relu))
    linear = Mlp(params.weights[:1], params.biases[:1])
    torch.testing.assert_close(nn.mlp(linear, x), x @ linear.weights[0] + linear.biases[0].unsqueeze(-2))


def test_no_lanes_at_all_give_no_outputs() -> None:
    params = nn.mlp_init(torch.empty(0, 2, dtype=torch.int64), SIZES)
    assert nn.mlp(params, torch.zeros(0, 5, SIZES[0])).shape == (0, 5, SIZES[-1])


def loss(params: Mlp, x: Tensor) -> Tensor:
    """[*B], of x [*B, M, in]."""
    return nn.mlp(params, x, activation=torch.tanh).square().sum((-2, -1))


def test_gradients_of_lanes_together_vmapped_and_of_torch_agree() -> None:
    params, x = network(3), inputs(3)
    together = torch.func.grad(lambda p: loss(p, x).sum())(params)
    mapped = torch.func.vmap(torch.func.grad(loss))(params, x)
    for i in range(3):
        module = sequential(lane_of(params, (i,)), torch.tanh)
        module(x[i]).square().sum().backward()
        linears = [m for m in module if isinstance(m, torch.nn.Linear)]
        for k, linear in enumerate(linears):
            for grads in (together, mapped):
                torch.testing.assert_close(grads.weights[k][i], linear.weight.grad.mT, rtol=1e-11, atol=1e-12)
                torch.testing.assert_close(grads.biases[k][i], linear.bias.grad, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("batch", LANES)
def test_mlp_agrees_in_every_variant(batch: tuple[int, ...], variants) -> None:
    args = network(*batch, dtype=torch.float32), inputs(*batch, dtype=torch.float32)
    variants(nn.mlp, *args, batch=len(batch), atol=1e-6, traced=batch == (3,))


@pytest.mark.parametrize("batch", LANES)
def test_mlp_init_agrees_in_every_variant(batch: tuple[int, ...], variants) -> None:
    def init(rng: Tensor, scale: Tensor) -> Mlp:
        return nn.mlp_init(rng, SIZES, final_scale=scale)

    variants(init, keys(*batch), torch.linspace(0, 2, math.prod(batch)).reshape(batch), batch=len(batch), traced=False)


def test_functions_are_pure() -> None:
    check_pure(lambda rng: nn.mlp_init(rng, SIZES), keys(3))
    check_pure(nn.mlp, network(3), inputs(3))
    check_pure(nn.mlp, network(), inputs(data=()))


# ---------------------------------------------------------------- first weights


def test_init_has_the_shapes_and_types_it_says() -> None:
    params = nn.mlp_init(keys(2, 3), SIZES, dtype=DOUBLE)
    assert [tuple(w.shape) for w in params.weights] == [(2, 3, 3, 5), (2, 3, 5, 4), (2, 3, 4, 2)]
    assert [tuple(b.shape) for b in params.biases] == [(2, 3, 5), (2, 3, 4), (2, 3, 2)]
    assert all(x.dtype == DOUBLE and x.is_contiguous() for x in (*params.weights, *params.biases))
    assert all((b == 0).all() for b in params.biases)


@pytest.mark.parametrize(("layer", "variance"), [(0, 2 / 30), (1, 2 / 40), (2, 1 / 50)])
def test_weights_are_normal_with_their_variance(layer: int, variance: float) -> None:
    weights = nn.mlp_init(keys(10), (30, 40, 50, 60), dtype=DOUBLE).weights[layer]
    drawn = weights.flatten().numpy()
    assert stats.kstest(drawn / math.sqrt(variance), "norm").pvalue > 1e-6


def test_outputs_have_the_mean_square_of_the_inputs() -> None:
    """Over lanes the mean of an output's square is exact, whatever the widths are: 4000 networks, z-test."""
    x = torch.tensor([1.0, -2.0, 0.5], dtype=DOUBLE)
    out = nn.mlp(nn.mlp_init(keys(4000), (3, 8, 8, 2), dtype=DOUBLE), x.expand(4000, 3)).square().mean(-1)
    assert stats.ttest_1samp(out.numpy(), float(x.square().mean())).pvalue > 1e-6


def test_layers_lanes_and_keys_draw_their_own_weights() -> None:
    params = nn.mlp_init(keys(2), (4, 4, 4, 4))  # the first two layers have one law
    drawn = [*params.weights[0], *params.weights[1], nn.mlp_init(random.key(9), (4, 4)).weights[0]]
    values = torch.stack(drawn)
    assert len(values.flatten().unique()) == values.numel()


def test_final_scale_multiplies_the_last_weights_of_its_lane_and_no_others() -> None:
    plain = nn.mlp_init(keys(3), SIZES)
    scaled = nn.mlp_init(keys(3), SIZES, final_scale=torch.tensor([0.0, 0.5, 1.0]))
    for got, want in zip(scaled.weights[:-1], plain.weights[:-1], strict=True):
        assert torch.equal(got, want)
    assert torch.equal(scaled.weights[-1], plain.weights[-1] * torch.tensor([0.0, 0.5, 1.0]).reshape(3, 1, 1))
    assert (nn.mlp(scaled, inputs(3, dtype=torch.float32))[0] == 0).all()


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((3, 7, 4), DOUBLE),  # features
        ((4, 7, 3), DOUBLE),  # lanes
        ((3,), DOUBLE),  # no lanes
        ((), DOUBLE),
        ((3, 7, 3), torch.float32),
    ],
)
def test_other_inputs_are_refused_with_both_shapes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    with pytest.raises(ShapeError) as error:
        nn.mlp(network(3), torch.zeros(shape, dtype=dtype))
    message = str(error.value)
    assert message.startswith("x must be torch.float64 of shape (3, '...', 3) for weights (3, 3, 5)")
    assert message.endswith(f"got {dtype} {shape}")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((4,), r"sizes must hold at least two numbers, \(in, hidden\.\.\., out\), got \(4,\)"),
        ((4, 0, 2), r"sizes\[1\] must be an integer >= 1, got 0"),
        ((4, 2.0), r"sizes\[1\] must be an integer >= 1, got 2.0"),
    ],
)
def test_bad_sizes_are_named(sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nn.mlp_init(keys(2), sizes)


def test_bad_scales_and_keys_are_named() -> None:
    with pytest.raises(ValueError, match=r"final_scale must be finite and in \[0.0, inf\), got -1"):
        nn.mlp_init(keys(2), SIZES, final_scale=-1.0)
    with pytest.raises(ShapeError, match=r"final_scale must have shape \(\), got \(2,\)"):
        nn.mlp_init(random.key(0), SIZES, final_scale=torch.ones(2))
    with pytest.raises(ShapeError, match=r"rng must be an int64 key .* got torch.float32 \(2, 2\)"):
        nn.mlp_init(torch.zeros(2, 2), SIZES)
