"""What a backup says of itself, in a file that can be read without its key; no patient's data is in it.

A backup is a folder: `manifest.json`, the dump, and `SHA256SUMS` of both for whoever has only `sha256sum -c`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson

from interface.errors import BackupError
from interface.ops.backup_pipe import Encryption, Stored
from interface.store.audit_chain import parse_head
from interface.store.census import Laboratory, TableCount

FORMAT: Final = 1
MANIFEST, DUMP, SUMS = "manifest.json", "labora.dump", "SHA256SUMS"
_NAME: Final = re.compile(r"labora-(\d{8}T\d{6}Z)(-\d+)?")
_STAMP: Final = "%Y%m%dT%H%M%SZ"
PART: Final = ".part"


@dataclass(frozen=True, slots=True)
class Manifest:
    """`taken_at`: everything that was committed before is in it. `server`, `dumped_by`: versions such as 15.18."""

    taken_at: datetime
    finished_at: datetime
    labora: str
    schema: str
    server: str
    dumped_by: str
    file: str
    stored: Stored
    encryption: Encryption
    tables: Mapping[str, TableCount]
    laboratories: tuple[Laboratory, ...]

    @property
    def server_major(self) -> int:
        return int(self.server.split(".")[0])

    @property
    def client_major(self) -> int:
        return int(self.dumped_by.split(".")[0])


def name_of(at: datetime, number: int = 0) -> str:
    """What a backup taken at an instant is called; `number` where that is taken."""
    return f"labora-{at.astimezone(UTC):{_STAMP}}" + (f"-{number}" if number else "")


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def write(manifest: Manifest) -> bytes:
    """The manifest as its file has it."""
    said = {
        "format": FORMAT,
        "taken_at": manifest.taken_at,
        "finished_at": manifest.finished_at,
        "labora": manifest.labora,
        "schema": manifest.schema,
        "postgresql": manifest.server,
        "pg_dump": manifest.dumped_by,
        "dump": {
            "file": manifest.file,
            "bytes": manifest.stored.bytes,
            "sha256": manifest.stored.sha256,
            "encryption": manifest.encryption.value,
        },
        "organizations": [
            {
                "id": str(one.id),
                "name": one.name,
                "audit_head": str(one.audit_head) if one.audit_head else None,
                "audit_unsealed": one.unsealed,
            }
            for one in manifest.laboratories
        ],
        "tables": {name: {"rows": one.rows, "digest": one.digest} for name, one in sorted(manifest.tables.items())},
    }
    return orjson.dumps(said, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z) + b"\n"


def read(folder: Path) -> Manifest:
    """The manifest of a backup's folder. Raises BackupError, a sentence for each way in which there is none."""
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise BackupError(f"{folder} is not a backup: it has no {MANIFEST}") from None
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}") from None
    try:
        said = orjson.loads(data)
        format = said["format"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        raise BackupError(f"{path} is damaged: it is not the manifest of a backup") from None
    if format != FORMAT:
        raise BackupError(f"{folder.name} is of format {format}, and this program reads {FORMAT}: install a newer one")
    try:
        return _manifest(said)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BackupError(f"{path} is damaged: something is missing in it") from None


def _manifest(said: Any) -> Manifest:
    dump = said["dump"]
    file = dump["file"]
    if "/" in file or not file.startswith(DUMP):
        raise ValueError(file)
    return Manifest(
        datetime.fromisoformat(said["taken_at"]),
        datetime.fromisoformat(said["finished_at"]),
        said["labora"],
        said["schema"],
        said["postgresql"],
        said["pg_dump"],
        file,
        Stored(int(dump["bytes"]), str(dump["sha256"])),
        Encryption(dump["encryption"]),
        {name: TableCount(one["rows"], one["digest"]) for name, one in said["tables"].items()},
        tuple(
            Laboratory(
                UUID(one["id"]),
                one["name"],
                parse_head(one["audit_head"]) if one["audit_head"] else None,
                one["audit_unsealed"],
            )
            for one in said["organizations"]
        ),
    )
