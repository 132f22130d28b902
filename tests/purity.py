"""`check_pure`: what every function of the core promises about its inputs, its outputs and hidden state."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


def same_bits(x: Any, y: Any) -> bool:
    """Whether two leaves are the same, NaNs and signs of zeros included."""
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        return type(x) is type(y) and bool(x == y)
    if (x.dtype, x.shape, x.device) != (y.dtype, y.shape, y.device):
        return False
    return torch.equal(x.reshape(-1).view(torch.uint8), y.reshape(-1).view(torch.uint8))


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def check_pure(f: Callable[..., Any], *args: Any) -> Any:
    """f(*args), having asserted that f changes no input, draws from no global generator, returns nothing that shares
    storage with an input (but an input itself, passed through as the same object), and repeats bit for bit."""
    inputs = pytree.tree_leaves(args)
    before = [x.detach().clone() if isinstance(x, Tensor) else x for x in inputs]
    torch_state, python_state = torch.get_rng_state(), random.getstate()

    outputs, spec = pytree.tree_flatten(f(*args))
    assert torch.equal(torch.get_rng_state(), torch_state), "the global torch generator was used"
    assert random.getstate() == python_state, "the global generator of `random` was used"
    for i, (x, y) in enumerate(zip(inputs, before, strict=True)):
        assert same_bits(x, y), f"input leaf {i} was changed in place"
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    owned = {_storage(x) for x in tensors}
    for i, x in enumerate(outputs):
        passed = any(x is y for y in tensors)
        assert passed or not isinstance(x, Tensor) or _storage(x) not in owned, f"output leaf {i} aliases an input"

    kept = [x.detach().clone() if isinstance(x, Tensor) else x for x in outputs]
    again, spec_again = pytree.tree_flatten(f(*args))
    assert spec == spec_again, "a second call returned another structure"
    for i, (x, y) in enumerate(zip(kept, again, strict=True)):
        assert same_bits(x, y), f"output leaf {i} was different in a second call"
    return pytree.tree_unflatten(outputs, spec)
