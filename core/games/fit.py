"""Fitting a network to what was seen of the rows of a table."""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from armfold.core import masked, nn, optim
from armfold.core.games.retrospect import Targets


def fit(optimiser: optim.Optimiser, params: Any, opt: Any, loss: Any, steps: int) -> tuple[Any, Any, Tensor]:
    """`steps` steps down loss(params), and the last loss."""
    value = torch.zeros((), device=pytree.tree_leaves(params)[0].device)
    for _ in range(steps):
        grads, value = torch.func.grad_and_value(loss)(params)
        updates, opt = optimiser.update(grads, opt, params)
        params = optim.apply_updates(params, updates)
    return params, opt, value


def squares(x: Tensor, targets: Targets, params: nn.Mlp) -> Tensor:
    """Mean square error over the entries of what was seen."""
    error = (nn.mlp(params, x) - targets.mean) ** 2
    seen = targets.seen.expand_as(error)
    return (error * seen).sum() / seen.sum().clamp(min=1)


def cross_entropy(x: Tensor, legal: Tensor, targets: Targets, params: nn.Mlp) -> Tensor:
    """Mean cross entropy to the policies that were seen."""
    said = torch.where(legal, masked.log_softmax(nn.mlp(params, x), legal), 0)
    return -(targets.mean * said * targets.seen).sum() / targets.seen.sum().clamp(min=1)
