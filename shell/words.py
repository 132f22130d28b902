"""The words of a command line: what tyro makes of them, and what it says of those that it cannot read."""

import contextlib
import dataclasses
import functools
import io
import re
from collections.abc import Mapping
from typing import Annotated, Any, get_type_hints

import tyro
from docstring_parser import parse_from_object


def find_flag(argv: list[str], name: str) -> str | None:
    """What follows the last --NAME, which is the one that counts; None where it is not there."""
    for i in reversed(range(len(argv))):
        if argv[i] == f"--{name}" and i + 1 < len(argv):
            return argv[i + 1]
        if argv[i].startswith(f"--{name}="):
            return argv[i].partition("=")[2]
    return None


def flags(argv: list[str]) -> dict[str, str]:
    """The flags among the words of a command line: the option that each means, by the flag as it was typed."""
    typed = [word.removeprefix("--").partition("=")[0] for word in argv if word.startswith("--")]
    return {flag: flag.replace("-", "_") for flag in typed}


def refuse_flags(argv: list[str], idle: Mapping[str, str]) -> None:
    """Raise ValueError for a flag whose option is in `idle`, which says why it would change nothing."""
    for flag, option in flags(argv).items():
        reason = idle.get(option) or idle.get(option.removeprefix("no_"))
        if reason is not None:
            raise ValueError(f"--{flag} would change nothing: {reason}")


def read_words(kind: Any, **settings: Any) -> Any:
    """tyro.cli, with its boxes for words it cannot read as a ValueError of one line."""
    _join_help(kind)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, **settings)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(_shorten(said.getvalue())) from None


@functools.cache
def _join_help(kind: Any) -> None:
    """Make one line of the docstring of every field of a dataclass: tyro would keep where its lines break."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return
    texts = {
        field.arg_name: field.description or ""
        for cls in kind.__mro__[-2::-1]
        for field in parse_from_object(cls).params
    }
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name in texts:
            kind.__annotations__[name] = Annotated[hint, tyro.conf.arg(help=" ".join(texts[name].split()))]


def _shorten(box: str) -> str:
    """What a box of tyro's says, without the help texts in it."""
    body = "\n" + box.partition("\n")[2]  # without the title
    sections = [
        [text for line in section.splitlines() if (text := line.strip("│╰╯─|+ "))]
        for section in re.split(r"\n[│| ]*[─-]{9,}[│| ]*(?=\n)", body)
    ]
    (message, *others) = filter(None, sections)
    said = [" ".join(message).partition(" Got errors:")[0]]
    for heading, *lines in others:
        flags = [line.split()[0] for line in lines if line.startswith("--")]
        if heading != "Argument helptext:":
            said.append(" ".join([heading, ", ".join(flags)]).strip())
    return ". ".join(sentence.rstrip(".") for sentence in said).partition(". For full helptext")[0]
