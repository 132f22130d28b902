"""Small networks as pure functions of their parameters, for lanes of networks [*B] that are run together."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from armfold.core import random
from armfold.core.check import ShapeError, check_number, check_shape, check_size
from armfold.core.types import Scalar, per_lane


class Mlp(NamedTuple):
    """Parameters of a multilayer perceptron, layer by layer from the input on."""

    weights: tuple[Tensor, ...]  # each [*B, in, out] float
    biases: tuple[Tensor, ...]  # each [*B, out] float


def mlp_init(
    rng: Tensor, sizes: Sequence[int], *, final_scale: Scalar = 1.0, dtype: torch.dtype = torch.float32
) -> Mlp:
    """Random weights and zero biases, a network for each key in rng [*B, 2].

    sizes: (in, hidden..., out), each >= 1. final_scale >= 0 multiplies the last layer's weights, a number or a tensor
    [*B]: with 0 every output is 0. Weights are normal with variance 2 / in where a ReLU follows (He et al. 2015,
    equation 10) and 1 / in in the last layer (LeCun et al. 1998, section 4.6), so that outputs have the mean square
    of the inputs. Raises ValueError for other sizes and scales.
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes must hold at least two numbers, (in, hidden..., out), got {tuple(sizes)}")
    for i, size in enumerate(sizes):
        check_size(f"sizes[{i}]", size)
    check_number("final_scale", final_scale, low=0.0)
    if isinstance(final_scale, Tensor) and final_scale.ndim:
        check_shape("final_scale", final_scale, rng.shape[:-1])
    weights, biases, last = [], [], len(sizes) - 2
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        std = math.sqrt((1 if i == last else 2) / fan_in)
        weights.append(random.normal(random.fold_in(rng, i), (fan_in, fan_out), std=std, dtype=dtype))
        biases.append(torch.zeros((*rng.shape[:-1], fan_out), dtype=dtype, device=rng.device))
    weights[-1] = weights[-1] * per_lane(final_scale, dtype, 2)
    # Draws lie in memory with the lanes last, where a matrix product would have to gather its rows.
    return Mlp(tuple(w.contiguous() for w in weights), tuple(biases))


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b, [*B, M, out], for x [*B, M, in]: one call for all lanes."""
    if weight.ndim == 2:
        return torch.addmm(bias, x, weight)
    flat = torch.baddbmm(bias.flatten(0, -2).unsqueeze(-2), x.flatten(0, -3), weight.flatten(0, -3))
    return flat.reshape(*x.shape[:-1], weight.shape[-1])


def mlp(params: Mlp, x: Tensor, *, activation: Callable[[Tensor], Tensor] = torch.relu) -> Tensor:
    """The networks' outputs [*B, *M, out] for inputs x [*B, *M, in].

    The lanes of `params` come first in x, then any number of data dimensions, none included, then the features. Data
    that all lanes share is expanded: x.expand(*B, *x.shape). `activation` is elementwise and follows every layer but
    the last. Raises ShapeError for other lanes, features or dtypes.
    """
    first = params.weights[0]
    batch, width = first.shape[:-2], first.shape[-2]
    lanes = len(batch)
    if x.ndim <= lanes or x.shape[:lanes] != batch or x.shape[-1] != width or x.dtype != first.dtype:
        raise ShapeError(
            f"x must be {first.dtype} of shape {(*batch, '...', width)} for weights {tuple(first.shape)}, "
            f"got {x.dtype} {tuple(x.shape)}"
        )
    h = x.reshape(*batch, math.prod(x.shape[lanes:-1]), width)
    for i, (weight, bias) in enumerate(zip(params.weights, params.biases, strict=True)):
        h = _affine(activation(h) if i else h, weight, bias)
    return h.reshape(*x.shape[:-1], h.shape[-1])
