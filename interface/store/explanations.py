"""An explanation as `decision.steps` holds it: a JSON array of objects, the fields of `Step` that are not empty.

What a version's own columns say is not written once more: `receive` and `decode` get it back when they are read for
people (`as_sent`). Rows of before have it in their steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from asyncpg import Record

from interface.domain.model import Step

# By step: what it has as inputs, and the column of the version that says it.
_SENT = {
    "receive": {"message": "message_id", "location": "location"},
    "decode": {
        "code": "code", "value": "raw_value", "unit": "raw_unit", "flags": "raw_flags", "status": "raw_status",
    },
}  # fmt: skip
SENT_COLUMNS = ", ".join(f"v.{column}" for columns in _SENT.values() for column in columns.values())


def write_steps(steps: Iterable[Step]) -> str:
    """The column's text. A step that many results share is put into words once."""
    return f"[{','.join([step.written or _write(step) for step in steps])}]"


def _write(step: Step) -> str:
    """What is empty is not written: there are many of them."""
    written: dict[str, Any] = {"step": step.step, "verdict": step.verdict, "text": step.text}
    if step.version:
        written["version"] = step.version
    if step.inputs:
        written["inputs"] = step.inputs
    text = orjson.dumps(written)
    if b"\\u0000" in text:  # PostgreSQL's JSON functions refuse a NUL; the bytes themselves are in the frame
        text = text.replace(b"\\u0000", "\N{REPLACEMENT CHARACTER}".encode())
    made = text.decode()
    object.__setattr__(step, "written", made)
    return made


def read_steps(text: str | bytes) -> tuple[Step, ...]:
    """The other way round."""
    return steps_of(orjson.loads(text))


def steps_of(read: Iterable[dict[str, Any]]) -> tuple[Step, ...]:
    """The same from the column's value, as a connection of ours gives it."""
    return tuple(Step(**one) for one in read)


def as_sent(steps: Iterable[Step], version: Mapping[str, Any] | Record) -> tuple[Step, ...]:
    """The steps with what the version's own columns (`SENT_COLUMNS`) say of the message and of its record."""
    return tuple(
        step if step.inputs or step.step not in _SENT else _filled(step, version, _SENT[step.step]) for step in steps
    )


def _filled(step: Step, version: Mapping[str, Any] | Record, columns: Mapping[str, str]) -> Step:
    inputs = {name: str(version[column]) for name, column in columns.items() if version[column]}
    return Step(step.step, step.verdict, step.text, step.version, inputs)
