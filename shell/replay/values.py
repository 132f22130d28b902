"""Tensors and what holds them as JSON, and back: every number round-trips exactly."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    )
}
_SPECIAL = ("NaN", "Infinity", "-Infinity")  # floats for which JSON has no numbers


def to_json(value: Any, name: str = "value") -> Any:
    """`value` in JSON's terms. Raises ValueError that names what has none.

    A tensor is {"tensor": dtype, "shape": [...], "values": nested lists}, with "NaN", "Infinity" and "-Infinity" for
    floats that JSON lacks; a float like that alone is {"float": "NaN"}. NamedTuples are objects, tuples are lists.
    """
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in _DTYPES:
            raise ValueError(f"{name} must have a real dtype, got {value.dtype}")
        x = value.detach().cpu()
        numbers = x.tolist()
        if x.is_floating_point() and not bool(x.isfinite().all()):
            numbers = _spell(numbers)
        return {"tensor": dtype, "shape": list(x.shape), "values": numbers}
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{name} must have names for keys, got {key!r}")
        return {key: to_json(inner, f"{name}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(inner, f"{name}[{i}]") for i, inner in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": _spell(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{name} must be a tensor or what JSON can say, got {type(value).__name__}")


def _spell(values: Any) -> Any:
    if isinstance(values, list):
        return [_spell(inner) for inner in values]
    return values if math.isfinite(values) else json.dumps(values)  # NaN, Infinity or -Infinity


def from_json(value: Any) -> Any:
    """What `to_json` was given, with NamedTuples as dicts and tuples as lists. Raises ValueError for a tensor whose
    values are not of its dtype, or not as many as its shape has."""
    if isinstance(value, list):
        return [from_json(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"tensor", "shape", "values"}:
        return _tensor(**value)
    if value.keys() == {"float"} and value["float"] in _SPECIAL:
        return float(value["float"])
    return {key: from_json(inner) for key, inner in value.items()}


def _tensor(tensor: Any, shape: Any, values: Any) -> Tensor:
    try:
        dtype = _DTYPES[tensor]
        kind = bool if dtype == torch.bool else float if dtype.is_floating_point else int
        leaves = [float(leaf) if kind is float and leaf in _SPECIAL else leaf for leaf in _leaves(values)]
        for leaf in leaves:
            if type(leaf) is not kind:  # else torch would cut 1.5 to 1
                raise ValueError(f"{leaf!r} is not of type {kind.__name__}")
        return torch.tensor(leaves, dtype=dtype).reshape(shape)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"a tensor of dtype {tensor!r} and shape {shape!r} cannot be read ({error})") from error


def _leaves(values: Any) -> Iterator[Any]:
    if isinstance(values, list):
        for inner in values:
            yield from _leaves(inner)
    else:
        yield values


def dumps(value: dict[str, Any]) -> bytes:
    """One line of JSON, without its end."""
    return json.dumps({name: to_json(inner, name) for name, inner in value.items()}, allow_nan=False).encode()


def loads(text: bytes) -> dict[str, Any]:
    """The JSON object that `text` holds, in JSON's terms. Raises ValueError for anything else, NaN included."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_int=_integer)
    except json.JSONDecodeError as error:  # whose text counts lines within this one
        raise ValueError(f"{error.msg}, character {error.pos}") from error
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:
        raise ValueError(f"an integer of {len(digits.lstrip('-'))} digits is too long") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON")
