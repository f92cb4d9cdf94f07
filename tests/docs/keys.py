"""The keys of `config.toml` as their parser asks for them: it is run, with everything there, and listened to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from interface.config import parse
from interface.config.table import Table
from interface.errors import ConfigError

# Everything that may be there, once: problems in it are not what is asked here.
_EVERYTHING: Final = """
[database]
[api]
tls = {}
[limits]
[standby]
[backup]
upload = {}
[retention]
[alerts]
""" + "".join(
    f'[[alerts.channel]]\nid = "a{index}"\ntype = "{type}"\nheaders = {{}}\n'
    for index, type in enumerate(("smtp", "slack", "teams", "webhook", "sms"))
) + "".join(
    f'[[link]]\nid = "l{index}"\nrole = "{role}"\norganization = "main"\ndriver = "generic_lis2"\ntls = {{}}\n'
    f'barcode = {{}}\nmatch = {{}}\nauthorities = {{}}\ntransport = {{ type = "{type}", {at} }}\n'
    for index, (type, role, at) in enumerate(
        (
            ("tcp-listen", "analyzer", 'listen = "127.0.0.1:4001"'),
            ("mllp-dial", "analyzer", 'dial = "127.0.0.1:4002"'),
            ("serial", "analyzer", 'port = "/dev/ttyS0"'), ("folder", "analyzer", 'path = "/srv/drop"'),
            ("mllp-listen", "hospital", 'listen = "127.0.0.1:4003"'),
        )
    )
)  # fmt: skip

Key = tuple[str, str, str]  # path, type with its bounds, default


def _text(_: Table, key: str, default: str = "", required: bool = False) -> tuple[str, object]:
    return "text", "required" if required else default


def _choice(_: Table, key: str, default: Any) -> tuple[str, object]:
    return " or ".join(f"`{one}`" for one in type(default)), default.value


def _number(value: float) -> str:
    return f"{value:.10g}"


def _between(what: str) -> Callable[..., tuple[str, object]]:
    return lambda _, key, default, low, high: (f"{what}, {_number(low)} to {_number(high)}", _number(default))


def _address(_: Table, key: str, default: object = None) -> tuple[str, object]:
    return "host:port", default or "required"


def _plain(what: str) -> Callable[..., tuple[str, object]]:
    return lambda *_, required=False: (what, "required" if required else "")


_KINDS: Final[dict[str, Callable[..., tuple[str, object]]]] = {
    "text": _text, "name": lambda *said, **more: ("name", _text(*said, **more)[1]), "choice": _choice,
    "whole": _between("whole number"), "seconds": _between("seconds"), "flag": _plain("true or false"),
    "texts": _plain("list of texts"), "address": _address, "table": _plain("table"), "tables": _plain("tables"),
    "get": _plain("value"),
}  # fmt: skip


@contextmanager
def _heard() -> Iterator[dict[str, tuple[str, str]]]:
    """What is asked of tables meanwhile, by path; of a method that asks by another one, only what was asked first."""
    found: dict[str, tuple[str, str]] = {}
    deep = [0]

    def listening(name: str, says: Callable[..., tuple[str, object]]) -> Callable[..., object]:
        real = getattr(Table, name)

        def method(self: Table, key: str, *more: Any, **named: Any) -> object:
            if not deep[0]:
                kind, default = says(self, key, *more, **named)
                path = re.sub(r"\[\d+\]", "", self.at(key))
                found.setdefault(path, (kind, "" if default is None else str(default)))
            deep[0] += 1
            try:
                return real(self, key, *more, **named)
            finally:
                deep[0] -= 1

        return method

    with pytest.MonkeyPatch.context() as patch:
        for name, says in _KINDS.items():
            patch.setattr(Table, name, listening(name, says))
        yield found


def keys() -> list[Key]:
    """Every key, in the order in which it is asked for; a table stands before what is in it."""
    with _heard() as found, suppress(ConfigError):
        parse(_EVERYTHING, Path("config.toml"), {})
    return [(path, kind, default) for path, (kind, default) in found.items()]
