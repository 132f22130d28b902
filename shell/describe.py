"""Telling in JSON what a tuple of functions is: for configurations, and to refuse a checkpoint of something else."""

import functools
import hashlib
from typing import Any

import torch
from torch import Tensor


def describe(value: Any) -> Any:
    """Names of functions, values of tunables and digests of tensors, as JSON."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: describe(field) for name, field in zip(value._fields, value, strict=True)}
    if isinstance(value, functools.partial):
        keywords = {name: describe(keyword) for name, keyword in sorted(value.keywords.items())}
        return {"function": describe(value.func), **keywords}
    if isinstance(value, Tensor):
        if value.ndim == 0:
            return value.item()
        digest = hashlib.sha256(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        return {"dtype": str(value.dtype), "shape": list(value.shape), "sha256": digest[:16]}
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', repr(type(value)))}"
    return value if isinstance(value, bool | int | float | str | None) else str(value)
