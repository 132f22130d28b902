"""Configurations as TOML."""

import dataclasses
import json
from pathlib import Path
from typing import Any

_OMITTED = ("config", "print_config", "preset")  # which say where values come from


def to_toml(config: Any) -> str:
    """A dataclass of options, and of tables of them, as a TOML file that --config reads."""
    lines, tables = [], []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            inner = [f"{key} = {_toml(number)}" for key, number in vars(value).items()]
            tables += ["", f"[{field.name}]", *inner]
        elif value is not None and field.name not in _OMITTED:
            lines.append(f"{field.name} = {_toml(value)}")
    return "\n".join(lines + tables) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's escapes are JSON's
    return repr(value)
