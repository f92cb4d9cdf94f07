"""Revisions of a driver: which content one is, and what differs between two. Pure."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from interface.errors import DriverError


def digest_of(manifest: str) -> str:
    """What the content of a `driver.toml` is known by: SHA-256 of its bytes, in hexadecimal."""
    return hashlib.sha256(manifest.encode("utf-8")).hexdigest()


def split_pin(text: str) -> tuple[str, str]:
    """`sysmex_xn@2` as id and revision; the revision is "" where none is named."""
    driver_id, _, revision = text.partition("@")
    return driver_id, revision


@dataclass(frozen=True, slots=True)
class Change:
    """One place of the manifest. `old` or `new` is "" where it does not stand there."""

    path: str
    old: str
    new: str

    def __str__(self) -> str:
        if not self.old:
            return f"+ {self.path} = {self.new}"
        return f"- {self.path} = {self.old}" if not self.new else f"~ {self.path} = {self.old} -> {self.new}"


def changes(old: str, new: str) -> tuple[Change, ...]:
    """What a manifest says otherwise than another, by TOML path. Comments say nothing. Raises DriverError."""
    before, after = _places(old), _places(new)
    paths = list(dict.fromkeys((*before, *after)))
    return tuple(
        Change(path, before.get(path, ""), after.get(path, ""))
        for path in paths
        if before.get(path, "") != after.get(path, "")
    )


def _places(manifest: str) -> dict[str, str]:
    try:
        return dict(_leaves(tomllib.loads(manifest), ""))
    except tomllib.TOMLDecodeError as error:
        raise DriverError(f"a manifest cannot be read: {error}") from error


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:  # TOML: any of its types
    if isinstance(value, dict) and value:
        for key, item in value.items():
            name = key if key.replace("_", "").replace("-", "").isalnum() else repr(key)
            yield from _leaves(item, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, repr(value) if not isinstance(value, bool) else str(value).lower()
