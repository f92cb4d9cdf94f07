"""Control materials, their lots, and the reagents and calibrators in use on analyzers. API and command line share it.

Each change is in the caller's transaction, with an audit row. Raises ApiError 403, 404, 409 and 422. Targets are in
`flow.qc_targets`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final
from uuid import UUID

from interface.domain.permissions import Permission
from interface.domain.qc_lots import AnalyzerLotView, InUse, LotKind, LotView, MaterialView, named_alike, until
from interface.domain.views import Actor
from interface.errors import ApiError
from interface.flow import qc_gate
from interface.flow.actors import require
from interface.flow.changes import given, record_change, refuse, same_version
from interface.flow.problems import instant_problems, reason_of, text_problems
from interface.store import audit
from interface.store import qc_lots as rows
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.qc_gate import expired_points
from interface.store.worksheets import analyzer_id as find_analyzer
from interface.store.worksheets import test_id as find_test

MOST_LEVELS: Final = 9
LONGEST_NAME: Final = 80  # characters of a lot, a level, an identifier, a module


@dataclass(frozen=True, slots=True)
class MaterialChange:
    """What a material is to say; None leaves it."""

    name: str | None = None
    manufacturer: str | None = None
    catalogue_number: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class LotChange:
    """What a lot is to say; None leaves it. `identifiers` and `analyzers` are then all of them."""

    lot: str | None = None
    level: str | None = None
    level_number: int | None = None
    expires_on: date | None = None
    identifiers: tuple[str, ...] | None = None
    analyzers: tuple[str, ...] | None = None  # names
    note: str | None = None


# ---- materials ------------------------------------------------------------------------------------------------------


async def create_material(connection: Connection, actor: Actor, change: MaterialChange) -> MaterialView:
    """Add a material."""
    await _begin(connection, actor)
    new = replace(MaterialView(uuid7(), 1, datetime.now(UTC), ""), **given(change, MaterialChange.__slots__))
    await _check_material(connection, new)
    await rows.insert_material(connection, actor.organization_id, new)
    await record_change(connection, actor, "qc_material", new.id, new.name, "", None, new)
    return await material_of(connection, new.id)


async def change_material(
    connection: Connection,
    actor: Actor,
    material_id: UUID,
    change: MaterialChange,
    reason: str,
    version: int | None = None,
) -> MaterialView:
    """Change what a material says. `version`: what the change was made from."""
    reason = await _begin(connection, actor, reason)
    known = await material_of(connection, material_id)
    same_version(known.version, version)
    new = replace(known, **given(change, MaterialChange.__slots__))
    await _check_material(connection, new)
    return await _write_material(connection, actor, known, new, reason)


async def close_material(connection: Connection, actor: Actor, material_id: UUID, reason: str) -> MaterialView:
    """It is not used any more: it takes no new lot."""
    reason = await _begin(connection, actor, reason)
    known = await material_of(connection, material_id)
    if await rows.read_lots(connection, material_id=material_id):
        raise ApiError(409, "conflict", f"{known.name} has lots that are open: close them first")
    new = known if known.closed_at else replace(known, closed_at=datetime.now(UTC))
    return await _write_material(connection, actor, known, new, reason)


async def reopen_material(connection: Connection, actor: Actor, material_id: UUID, reason: str) -> MaterialView:
    """It was closed by mistake, or is used again."""
    reason = await _begin(connection, actor, reason)
    known = await material_of(connection, material_id)
    return await _write_material(connection, actor, known, replace(known, closed_at=None), reason)


async def material_of(connection: Connection, material_id: UUID) -> MaterialView:
    found = await rows.read_materials(connection, ids=[material_id])
    if not found:
        raise ApiError(404, "not-found", "there is no control material of this id")
    return found[0]


async def material_named(connection: Connection, text: str) -> MaterialView:
    """By its id or its name."""
    if (material_id := _id(text)) is not None:
        return await material_of(connection, material_id)
    found = await rows.read_materials(connection, names=[text])
    if not found:
        raise ApiError(404, "not-found", f"there is no control material {text!r}")
    return found[0]


async def _check_material(connection: Connection, new: MaterialView) -> None:
    problems = [] if new.name else ["a control material needs a name"]
    for name in ("name", "manufacturer", "catalogue_number", "note"):
        problems += text_problems(name.replace("_", " "), getattr(new, name))
    refuse(problems)
    for other in await rows.read_materials(connection, names=[new.name]):
        if other.id != new.id:
            raise ApiError(409, "duplicate", f"there is a control material {new.name!r} already")


async def _write_material(
    connection: Connection, actor: Actor, known: MaterialView, new: MaterialView, reason: str
) -> MaterialView:
    if new != known:
        await rows.update_material(connection, new)
    await record_change(connection, actor, "qc_material", new.id, new.name, reason, known, new)
    return await material_of(connection, new.id)


# ---- lots -----------------------------------------------------------------------------------------------------------


async def create_lot(connection: Connection, actor: Actor, material_id: UUID, change: LotChange) -> LotView:
    """Add one level of a lot of a material."""
    await _begin(connection, actor)
    material = await material_of(connection, material_id)
    if material.closed_at:
        raise ApiError(409, "conflict", f"{material.name} is closed")
    base = LotView(uuid7(), 1, datetime.now(UTC), material_id, material.name, "")
    new = replace(base, **given(change, LotChange.__slots__))
    analyzer_ids = await _check_lot(connection, new)
    await rows.insert_lot(connection, actor.organization_id, new, analyzer_ids)
    await record_change(connection, actor, "qc_lot", new.id, new.name, "", None, new)
    return await lot_of(connection, new.id)


async def change_lot(
    connection: Connection, actor: Actor, lot_id: UUID, change: LotChange, reason: str, version: int | None = None
) -> LotView:
    """Change what a lot says. One that was measured, or has targets, keeps its number and its level."""
    reason = await _begin(connection, actor, reason)
    known = await lot_of(connection, lot_id)
    same_version(known.version, version)
    new = replace(known, **given(change, LotChange.__slots__))
    moved = [name for name in ("lot", "level", "level_number") if getattr(known, name) != getattr(new, name)]
    if moved and await rows.has_points(connection, lot_id):
        what = " and ".join(moved).replace("_", " ")
        raise ApiError(409, "conflict", f"lot {known.name} has targets or points: its {what} cannot change; add a lot")
    return await _write_lot(connection, actor, known, new, reason)


async def close_lot(connection: Connection, actor: Actor, lot_id: UUID, reason: str) -> LotView:
    """It is not measured any more: from now on a control of it makes no acceptable point."""
    reason = await _begin(connection, actor, reason)
    known = await lot_of(connection, lot_id)
    return await _write_lot(connection, actor, known, replace(known, closed_at=known.closed_at or _now()), reason)


async def reopen_lot(connection: Connection, actor: Actor, lot_id: UUID, reason: str) -> LotView:
    """It was closed by mistake, or is measured again."""
    reason = await _begin(connection, actor, reason)
    known = await lot_of(connection, lot_id)
    if (await material_of(connection, known.material_id)).closed_at:
        raise ApiError(409, "conflict", f"{known.material} is closed")
    return await _write_lot(connection, actor, known, replace(known, closed_at=None), reason)


async def lot_of(connection: Connection, lot_id: UUID) -> LotView:
    found = await rows.read_lots(connection, ids=[lot_id])
    if not found:
        raise ApiError(404, "not-found", "there is no lot of this id")
    return found[0]


async def lot_named(connection: Connection, text: str) -> LotView:
    """By its id, or as `LOT`, `LOT/LEVEL` or `MATERIAL/LOT/LEVEL`; one that is open before others. One, or refused."""
    if (lot_id := _id(text)) is not None:
        return await lot_of(connection, lot_id)
    found = await rows.read_lots(connection, named=text, closed=True)
    found = [one for one in found if one.closed_at is None] or found
    if not found:
        raise ApiError(404, "not-found", f"there is no lot {text!r}")
    if len(found) > 1:
        names = ", ".join(f"{one.material}/{one.name}" for one in found)
        raise ApiError(409, "conflict", f"{text!r} is more than one lot: say which of {names}")
    return found[0]


async def lots_named(connection: Connection, text: str) -> tuple[UUID, ...]:
    """The ids of all lots that are called so, every level of them, closed ones too. At least one, or refused."""
    if (lot_id := _id(text)) is not None:
        return (lot_id,)
    found = await rows.read_lots(connection, named=text, closed=True)
    if not found:
        raise ApiError(404, "not-found", f"there is no lot {text!r}")
    return tuple(one.id for one in found)


async def _write_lot(connection: Connection, actor: Actor, known: LotView, new: LotView, reason: str) -> LotView:
    analyzer_ids = await _check_lot(connection, new)
    # What vouched may do so no more, or again; and which levels are wanted.
    streams = await rows.streams_with(connection, new.id) if until(new) != until(known) else ()
    before = [await expired_points(connection, stream, new.id) for stream in streams]
    if new != known:
        await rows.update_lot(connection, new, analyzer_ids)
    await record_change(connection, actor, "qc_lot", new.id, new.name, reason, known, new)
    why, said = f"lot {new.name} had expired", f"lot {new.name} can be used until {until(new)}"
    for stream, were in zip(streams, before, strict=True):
        wrong = await expired_points(connection, stream, new.id)
        again = [one for one in were if one not in wrong]
        await qc_gate.refresh(connection, actor, stream, said, next(iter(again or wrong), None))
        if wrong:
            await qc_gate.look_at_unvouched(connection, actor, stream, wrong, why)
        if again:
            await qc_gate.look_no_more(connection, actor, stream, again[0], why)
    return await lot_of(connection, new.id)


async def _check_lot(connection: Connection, new: LotView) -> list[UUID]:
    """The ids of its analyzers; raises for whatever is wrong with it, by itself or beside the others."""
    problems = [] if new.lot else ["a lot needs its number"]
    for name in ("lot", "level"):
        problems += text_problems(name, getattr(new, name), LONGEST_NAME)
    problems += [*text_problems("note", new.note), *_identifier_problems(new.identifiers)]
    if not 1 <= new.level_number <= MOST_LEVELS:
        problems.append(f"the number of a level is from 1 to {MOST_LEVELS}")
    analyzer_ids = []
    for name in new.analyzers:
        if (found := await find_analyzer(connection, name)) is None:
            problems.append(f"there is no analyzer {name!r}")
        else:
            analyzer_ids.append(found)
    refuse(problems)
    for other in await rows.read_lots(connection, closed=True):
        if other.id != new.id:
            _refuse_twin(new, other)
    return analyzer_ids


def _refuse_twin(new: LotView, other: LotView) -> None:
    """Raise ApiError 409 when a control, or a level, could be taken for one of another lot."""
    levels = (new.material_id, new.lot) == (other.material_id, other.lot)
    if levels and new.level == other.level:
        raise ApiError(409, "duplicate", f"there is a lot {new.name} of {new.material} already")
    if new.closed_at or other.closed_at:
        return
    if levels:
        if new.level_number == other.level_number:
            raise ApiError(409, "conflict", f"level {other.level} of lot {new.lot} has the number {new.level_number}")
        return  # levels may share an identifier: the analyzer says the level beside it
    for one in named_alike(new, other):
        text = f"{one!r} is also what lot {other.name} of {other.material} is called: say which analyzers measure each"
        raise ApiError(409, "conflict", f"{text}, or close one")


def _identifier_problems(identifiers: Sequence[str]) -> Iterable[str]:
    if len(set(identifiers)) < len(identifiers):
        yield "an identifier is given twice"
    for one in identifiers:
        if not one.strip("*") or one != one.strip():
            yield "an identifier is empty, or begins or ends with a space"
        if "*" in one[:-1]:
            yield "an identifier has its * at the end"
        yield from text_problems("identifier", one, LONGEST_NAME)


# ---- reagents and calibrators in use --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What an analyzer said that it uses. `module` "" and `test_id` None: of all, or it did not say."""

    module: str
    test_id: UUID | None
    kind: LotKind
    lot: str
    expires_on: date | None
    at: datetime


async def seen(
    connection: Connection,
    actor: Actor,
    analyzer_id: UUID,
    module: str,
    test_id: UUID | None,
    kind: LotKind,
    lot: str,
    expires_on: date | None,
    at: datetime,
    message_id: UUID | None = None,
) -> None:
    """An analyzer says which lot it uses; see `seen_many`."""
    said = Seen(module, test_id, kind, lot, expires_on, at)
    await seen_many(connection, actor, analyzer_id, [said], message_id)


async def seen_many(
    connection: Connection, actor: Actor, analyzer_id: UUID, said: Sequence[Seen], message_id: UUID | None = None
) -> int:
    """Write down what an analyzer said it uses, as far as that is new; how much was.

    `actor` is the link. What is known already costs one SELECT. A lot that was in use before the one that is known now
    (an analyzer that uploads late) is written beside it and ends where that begins.
    """
    said = [one for one in said if one.lot and len(one.lot) <= LONGEST_NAME]
    if not said:
        return 0
    since = min(one.at for one in said)
    known = (await rows.in_use(connection, analyzer_id, since)).lots
    if all(_is_known(one, known) for one in said):
        return 0
    await rows.lock_uses(connection, actor.organization_id, analyzer_id)
    new, written = list((await rows.in_use(connection, analyzer_id, since)).lots), 0
    words = []
    for one in sorted(said, key=lambda each: each.at):
        if _is_known(one, new):
            continue
        made = await _write_use(connection, actor, analyzer_id, one, new, message_id)
        new = [*(each for each in new if each.id not in {row.id for row in made}), *made]
        written += 1
        words.append(f"{one.kind.value} {one.lot}")
    if words:
        detail = {"lots": ", ".join(dict.fromkeys(words)), "message": str(message_id or "")}
        await audit.record(connection, actor, "create", "analyzer_lot", analyzer_id, detail)
    return written


def _rivals(one: Seen, known: Iterable[AnalyzerLotView]) -> list[AnalyzerLotView]:
    """What is said of exactly the same, newest first."""
    found = [row for row in known if (row.module, row.test_id, row.kind) == (one.module, one.test_id, one.kind)]
    return sorted(found, key=lambda row: (row.from_at, row.id), reverse=True)


def _is_known(one: Seen, known: Sequence[AnalyzerLotView]) -> bool:
    """Whether it is in use already as far as the laboratory knows: of this test, or as one of every test."""
    held = InUse(known).find(one.kind, one.module, one.test_id, one.at)
    return held is not None and held.lot == one.lot and one.expires_on in (None, held.expires_on)


async def _write_use(
    connection: Connection,
    actor: Actor,
    analyzer_id: UUID,
    one: Seen,
    known: Sequence[AnalyzerLotView],
    message_id: UUID | None,
) -> list[AnalyzerLotView]:
    """The rows as they are afterwards: the new one, and the one that it ended."""
    rivals = _rivals(one, known)
    later = [row.from_at for row in rivals if row.from_at > one.at]
    held = next((row for row in rivals if row.holds(one.at)), None)
    made = []
    if held is not None and not later:
        await rows.end_uses(connection, actor, [(held.id, one.at)])
        made.append(replace(held, ended_at=one.at))
    end = min(later, default=None)
    new = rows.NewUse(
        analyzer_id, one.module, one.test_id, one.kind, one.lot, one.expires_on, one.at, end
    )  # fmt: skip
    [id] = await rows.insert_uses(connection, actor, [new], message_id)
    view = AnalyzerLotView(
        id, analyzer_id, "", one.module, one.test_id, "", one.kind, one.lot, one.expires_on, one.at, actor.name, end
    )
    return [*made, view]


@dataclass(frozen=True, slots=True)
class NewUse:
    """A lot that a person puts on an analyzer. `test`: a code, "" for every test; `from_at` None: now."""

    analyzer: str
    kind: LotKind
    lot: str
    module: str = ""
    test: str = ""
    expires_on: date | None = None
    from_at: datetime | None = None


async def enter_use(connection: Connection, actor: Actor, new: NewUse) -> AnalyzerLotView:
    """A person says that an analyzer uses a lot from then on; what it used in its place ends."""
    require(actor, Permission.QC_WRITE)
    problems = [] if new.lot.strip() else ["a lot needs its number"]
    problems += [*text_problems("lot", new.lot, LONGEST_NAME), *text_problems("module", new.module, LONGEST_NAME)]
    problems += instant_problems("the begin", new.from_at)
    refuse(problems)
    analyzer_id, test_id = await analyzer_named(connection, new.analyzer), await _test_id(connection, new.test)
    at = new.from_at or _now()
    if new.expires_on is not None and new.expires_on < at.astimezone(UTC).date():
        raise ApiError(422, "value", f"lot {new.lot} expired on {new.expires_on}")
    await rows.lock_uses(connection, actor.organization_id, analyzer_id)
    known = (await rows.in_use(connection, analyzer_id, at)).lots
    one = Seen(new.module.strip(), test_id, new.kind, new.lot.strip(), new.expires_on, at)
    if _is_known(one, known):
        raise ApiError(409, "conflict", f"{new.analyzer} uses lot {new.lot} already")
    *_, made = await _write_use(connection, actor, analyzer_id, one, known, None)
    view = await use_of(connection, made.id)
    await record_change(connection, actor, "analyzer_lot", made.id, view.lot, "", None, view)
    return view


async def end_use(
    connection: Connection, actor: Actor, use_id: UUID, reason: str, at: datetime | None = None
) -> AnalyzerLotView:
    """It is not used any more from `at` (now) on."""
    require(actor, Permission.QC_WRITE)
    reason, known = reason_of(reason), await use_of(connection, use_id)
    refuse(list(instant_problems("the end", at)))
    at = at or _now()
    if known.ended_at is not None:
        raise ApiError(409, "conflict", f"lot {known.lot} has been ended already")
    if at < known.from_at:
        raise ApiError(422, "value", "it would end before it begins")
    await rows.end_uses(connection, actor, [(use_id, at)], reason)
    view = await use_of(connection, use_id)
    await record_change(connection, actor, "analyzer_lot", use_id, view.lot, reason, known, view)
    return view


async def use_of(connection: Connection, use_id: UUID) -> AnalyzerLotView:
    found = await rows.find_analyzer_lots(connection, ids=[use_id])
    if not found:
        raise ApiError(404, "not-found", "there is no lot in use of this id")
    return found[0]


# ---- parts ----------------------------------------------------------------------------------------------------------


async def analyzer_named(connection: Connection, name: str) -> UUID:
    found = await find_analyzer(connection, name)
    if found is None:
        raise ApiError(404, "not-found", f"there is no analyzer {name!r}")
    return found


async def _test_id(connection: Connection, code: str) -> UUID | None:
    if not code:
        return None
    found = await find_test(connection, code)
    if found is None:
        raise ApiError(404, "not-found", f"there is no test {code!r}")
    return found


async def _begin(connection: Connection, actor: Actor, reason: str | None = None) -> str:
    """Who may, and why; nobody else changes materials, lots and targets meanwhile."""
    require(actor, Permission.QC_MANAGE)
    said = "" if reason is None else reason_of(reason)
    await rows.lock_lots(connection, actor.organization_id)
    return said


def _now() -> datetime:
    return datetime.now(UTC)


def _id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
