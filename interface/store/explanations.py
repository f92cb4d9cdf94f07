"""An explanation as `decision.steps` holds it: a JSON array of objects, the fields of `Step` that are not empty.

What a version's own columns say is not written once more: `receive` and `decode` get it back when they are read for
people (`as_sent`). Rows of before have it in their steps.

Steps that explain many results are written once, to `explanation`; what refers to them is a text in place of objects.
`lab.explained(decision.steps)` has them in it, and is what everybody reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any
from uuid import UUID

import orjson
from asyncpg import Record

from interface.domain.model import Step
from interface.domain.record import record
from interface.store.ids import of_int

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


# ---- what many results share -----------------------------------------------------------------------------------------

# What is said in these is said of one result: its own number, or another that it is compared with.
_OWN = frozenset({"delta", "rule", "consistency", "calculation", "run", "version", "review", "again"})
_SHORT = 120  # characters; a reference has 39
_MOST = 4000


@record
class Part:
    """Steps that explain many results, and their id, which is made of them and of the organization."""

    id: UUID
    steps: str


# By organization: runs of other steps that were written before, each with what it is kept as from its second time on.
_before: dict[UUID, dict[tuple[str, ...], Part | None]] = {}


def in_parts(organization_id: UUID, explanations: Iterable[Sequence[Step]]) -> tuple[list[str], list[Part]]:
    """`decision.steps` of explanations, and the rows of `explanation` they refer to, which must be there with them."""
    known = _before.setdefault(organization_id, {})
    if len(known) > _MOST:
        known.clear()
    parts: dict[UUID, Part] = {}
    texts = []
    for steps in explanations:
        pieces: list[str] = []
        run: list[str] = []  # of steps that others may share
        for step in steps:
            written = step.written or _write(step)
            if step.step not in _OWN:
                run.append(written)
                continue
            if run:
                pieces.append(_piece(organization_id, tuple(run), known, parts))
                run = []
            pieces.append(written)
        if run:
            pieces.append(_piece(organization_id, tuple(run), known, parts))
        texts.append(f"[{','.join(pieces)}]")
    return texts, sorted(parts.values(), key=lambda part: part.id)  # so that no two transactions wait for each other


def _piece(
    organization_id: UUID, run: tuple[str, ...], known: dict[tuple[str, ...], Part | None], parts: dict[UUID, Part]
) -> str:
    """The run itself, or the reference to what it is kept as."""
    part = known.get(run)
    if part is None:
        steps = ",".join(run)
        if len(steps) < _SHORT:
            return steps
        if run not in known:
            known[run] = None
            return steps
        digest = blake2b(organization_id.bytes + steps.encode(), digest_size=16).digest()
        part = known[run] = Part(of_int(int.from_bytes(digest)), steps)
    parts[part.id] = part
    return f'"{part.id}"'


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
