"""An explanation as `result_version.steps` holds it: a JSON array of objects, the fields of `Step` that are not empty.

What a version's own columns say is not written once more: `receive` and `decode` get it back when they are read for
people (`as_sent`). Rows of before have it in their steps.

Steps that explain many results are written once, to `explanation`; what refers to them is a text in place of objects:
their id. Where results are explained by the same words but for the inputs of some steps, the words are kept with holes
in them, and an array in place of objects has their id and what is in the holes. `lab.explained(decision.steps)` has all
of it in it, and is what everybody reads; `decision` is a view that knows where a version's explanation is; it is
looked up by the version (`lateral`), for the planner does not look into it for a join.
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
from interface.store.rows import json_bytes

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
    made = _text(written)
    object.__setattr__(step, "written", made)
    return made


def _text(value: object) -> str:
    return json_bytes(value).decode()


# ---- what many results share -----------------------------------------------------------------------------------------

# What is said in these is said of one result: its own number, or another that it is compared with.
_OWN = frozenset({"delta", "rule", "consistency", "calculation", "run", "version", "review", "again"})
_SHORT = 120  # characters; a reference has 39
_MOST = 2000  # parts that are known at a time, of each kind
_MOST_ONCE = 8000
_TELLING = 2  # the place of the step that mostly tells tests apart, after those of the message
_NEAR = 4  # explanations of a test that are looked through
_HOLE = "\x01"  # in JSON it is written otherwise


@record
class Part:
    """Steps that explain many results, and their id, which is made of them and of the organization."""

    id: UUID
    steps: str
    name: str  # the id as a text


@record
class _Seen:
    """An explanation that was kept with holes, as it came last: most that come after it are of the same steps."""

    steps: tuple[Step, ...]
    part: Part
    holes: tuple[int, ...]  # the places of steps with such
    names: tuple[str, ...]  # of all of these
    text: bytes


class _Known:
    """What is kept as a part, from its second time on. `_once`: hashes of what was written before: most of it comes
    once, and is long. Where two have the same hash, one becomes a part although nothing shares it yet."""

    def __init__(self) -> None:
        self.parts: dict[tuple[object, ...], Part] = {}
        self._once: set[int] = set()
        self._seen: dict[str, list[_Seen]] = {}  # those of parts, by the words of a step

    def again(self, written: tuple[object, ...]) -> bool:
        """Whether it was written before."""
        number = hash(written)
        if number in self._once:
            return True
        self._once.add(number)
        return False

    def near(self, steps: tuple[Step, ...]) -> list[_Seen]:
        """What was seen last of what says the same of the test, the latest first."""
        name = steps[_TELLING].text if len(steps) > _TELLING else ""
        near = self._seen.get(name)
        if near is None:
            if len(self._seen) >= _MOST // _NEAR:
                self._seen.clear()
            near = self._seen[name] = []
        return near

    def within_bounds(self) -> _Known:
        """Forgets where there is too much: it is learnt again."""
        if len(self.parts) > _MOST:
            self.parts.clear()
            self._seen.clear()
        if len(self._once) > _MOST_ONCE:
            self._once.clear()
        return self


# By organization. `_runs`: of steps that others may share; `_shapes`: whole explanations, without the inputs of steps
# that are one result's own.
_runs: dict[UUID, _Known] = {}
_shapes: dict[UUID, _Known] = {}


def in_parts(organization_id: UUID, explanations: Iterable[tuple[Step, ...]]) -> tuple[list[bytes], list[Part]]:
    """`result_version.steps` of explanations, and the rows of `explanation` they refer to, which must be there with
    them."""
    runs = _runs.setdefault(organization_id, _Known()).within_bounds()
    shapes = _shapes.setdefault(organization_id, _Known()).within_bounds()
    parts: dict[UUID, Part] = {}
    texts: list[bytes] = []
    last: Part | None = None
    for steps in explanations:
        near = shapes.near(steps)
        seen = _seen(near, steps)
        if seen is None:
            shape, inputs = _shape(steps)
            part = shapes.parts.get(shape)
            if part is None and inputs and shapes.again(shape):
                part = shapes.parts[shape] = _with_holes(organization_id, steps)
            if part is None:
                texts.append(_in_runs(organization_id, steps, runs, parts).encode())
                continue
            holes = tuple([at for at in range(len(steps)) if _has_holes(steps[at])])
            names = tuple([name for at in holes for name in steps[at].inputs])
            seen = _Seen(steps, part, holes, names, _filled_in(part, inputs))
            near.insert(0, seen)
            if len(near) > _NEAR:
                near.pop()
        if seen.part is not last:
            last = seen.part
            parts[last.id] = last
        texts.append(seen.text)
    return texts, list(parts.values())


def _seen(near: list[_Seen], steps: tuple[Step, ...]) -> _Seen | None:
    """The explanation, if one of these differs from it in inputs at most. Steps that are shared are mostly the same
    objects."""
    for seen in near:
        kept = seen.steps
        if len(kept) != len(steps):
            continue
        same = True
        for at in range(len(steps)):
            one, other = steps[at], kept[at]
            if one is not other:
                if not _alike(one, other):
                    break
                same = same and not _has_holes(one)
        else:
            if same:
                return seen
            inputs = _inputs(steps, seen)
            if inputs is not None:
                return _Seen(steps, seen.part, seen.holes, seen.names, _filled_in(seen.part, inputs))
    return None


def _has_holes(step: Step) -> bool:
    return bool(step.inputs) and step.step in _OWN


def _alike(one: Step, kept: Step) -> bool:
    """Whether they are the same but for inputs that stand in holes."""
    if not _has_holes(one):
        return (one.written or _write(one)) == kept.written
    return (
        one.text == kept.text
        and one.step == kept.step
        and one.verdict == kept.verdict
        and one.version == kept.version
        and len(one.inputs) == len(kept.inputs)
    )


def _inputs(steps: tuple[Step, ...], seen: _Seen) -> list[str] | None:
    """What is in the holes, if they have the names of those that were seen; there are as many."""
    inputs: list[str] = []
    names = seen.names
    for at in seen.holes:
        for name, value in steps[at].inputs.items():
            if name != names[len(inputs)]:
                return None
            inputs.append(value)
    return inputs


def _filled_in(part: Part, inputs: list[str]) -> bytes:
    """A reference to the part, with what is in its holes."""
    return json_bytes([[part.name, *inputs]])


def _shape(steps: tuple[Step, ...]) -> tuple[tuple[object, ...], list[str]]:
    """What is the same in explanations that differ in inputs only, and these."""
    shape: list[object] = []
    inputs: list[str] = []
    for step in steps:
        if _has_holes(step):
            shape.append((step.step, step.verdict, step.text, step.version, *step.inputs))
            inputs += step.inputs.values()
        else:
            shape.append(step.written or _write(step))
    return tuple(shape), inputs


def _with_holes(organization_id: UUID, steps: Iterable[Step]) -> Part:
    pieces = []
    for step in steps:
        if _has_holes(step):
            empty = Step(step.step, step.verdict, step.text, step.version)
            names = ",".join([f"{_text(name)}:{_HOLE}" for name in step.inputs])
            pieces.append(f'{_write(empty)[:-1]},"inputs":{{{names}}}}}')
        else:
            pieces.append(step.written or _write(step))
    return _part(organization_id, ",".join(pieces))


def _part(organization_id: UUID, steps: str) -> Part:
    digest = blake2b(organization_id.bytes + steps.encode(), digest_size=16).digest()
    made = of_int(int.from_bytes(digest))
    return Part(made, steps, str(made))


def _in_runs(organization_id: UUID, steps: Sequence[Step], known: _Known, parts: dict[UUID, Part]) -> str:
    """An explanation of which runs of steps may be kept."""
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
    return f"[{','.join(pieces)}]"


def _piece(organization_id: UUID, run: tuple[str, ...], known: _Known, parts: dict[UUID, Part]) -> str:
    """The run itself, or the reference to what it is kept as."""
    part = known.parts.get(run)
    if part is None:
        steps = ",".join(run)
        if len(steps) < _SHORT or not known.again(run):
            return steps
        part = known.parts[run] = _part(organization_id, steps)
    parts[part.id] = part
    return f'"{part.name}"'


def read_steps(text: str | bytes) -> tuple[Step, ...]:
    """The other way round."""
    return steps_of(orjson.loads(text))


def steps_of(read: Iterable[dict[str, Any]]) -> tuple[Step, ...]:
    """The same from the column's value, as a connection of ours gives it."""
    return tuple(Step(**one) for one in read)


def comments_of(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The lines of what staff said of a result (`flow.review.comment`): `comment` of `inputs` is what they said."""
    return tuple(step for step in steps if step.step == "comment" and step.inputs.get("comment"))


def as_sent(steps: Iterable[Step], version: Mapping[str, Any] | Record) -> tuple[Step, ...]:
    """The steps with what the version's own columns (`SENT_COLUMNS`) say of the message and of its record."""
    return tuple(
        step if step.inputs or step.step not in _SENT else _filled(step, version, _SENT[step.step]) for step in steps
    )


def _filled(step: Step, version: Mapping[str, Any] | Record, columns: Mapping[str, str]) -> Step:
    inputs = {name: str(version[column]) for name, column in columns.items() if version[column]}
    return Step(step.step, step.verdict, step.text, step.version, inputs)
