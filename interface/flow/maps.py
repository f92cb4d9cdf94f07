"""Changes of the code maps: proposed as a difference, then written as one change with who, when and why.

A proposal is computed from what is stored at one instant and can be shown; `commit` writes it in the same or in another
transaction, and refuses when the maps have changed since. Nothing is overwritten: `undo` is a change too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from interface.domain.map_files import LeftOut
from interface.domain.mapping import (
    KeyChange,
    MapKey,
    MapRow,
    Span,
    Target,
    Wanted,
    cut,
    effective,
    lookup,
    overlay,
    put,
    replan,
)
from interface.domain.permissions import Permission
from interface.domain.views import Actor
from interface.errors import LaboraError
from interface.flow import map_controls
from interface.flow.actors import may
from interface.store import audit, maps
from interface.store.catalogue import SHIPPED, SITE, shipped_code_map
from interface.store.db import Connection
from interface.store.maps import Basis, NewRow

LONGEST_REASON = 500
AUDITED_KEYS = 20  # named in the audit row; all of them are in the change's rows


class MapError(LaboraError):
    """A change of the maps that cannot be made, in one sentence."""

    slug = "map"


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a change would do, computed from what is stored on a `basis`."""

    kind: str
    basis: Basis
    changes: tuple[KeyChange, ...] = ()
    ended: tuple[UUID, ...] = ()
    added: tuple[NewRow, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    undoes: UUID | None = None


Rows = Mapping[MapKey, Sequence[MapRow]]


async def _current(connection: Connection, site: bool, drivers: Collection[str] | None = None) -> Rows:
    found: defaultdict[MapKey, list[MapRow]] = defaultdict(list)
    for row in await maps.read_rows(connection, drivers):
        if row.site is site:
            found[row.key].append(row)
    return found


def _proposal(
    kind: str,
    basis: Basis,
    rows: Rows,
    after: Mapping[MapKey, Sequence[Span]],
    left_out: tuple[LeftOut, ...] = (),
    revision: int | None = None,
) -> Proposal:
    """From what the keys' spans are to be. `revision`: of a shipped map, None for the site's rows."""
    changes: list[KeyChange] = []
    ended: list[UUID] = []
    added: list[NewRow] = []
    for key, spans in sorted(after.items()):
        before = rows.get(key, ())
        change = KeyChange(key, tuple(row.span for row in before), tuple(spans))
        gone = set(change.ended)
        ended += [row.id for row in before if row.span in gone]
        for span in change.added:
            rest = next((row for row in before if row.span in gone and _rest_of(span, row.span)), None)
            number = rest.revision if rest else revision
            added.append(NewRow(key, span, SITE if revision is None else SHIPPED, number))
        if change.ended or change.added:
            changes.append(change)
    return Proposal(kind, basis, tuple(changes), tuple(ended), tuple(added), left_out)


def _rest_of(span: Span, whole: Span) -> bool:
    """Whether `span` is what a cut left of `whole`: it keeps saying what the earlier change said."""
    return span.target == whole.target and (span.start == whole.start or span.end == whole.end)


def _in_order(key: MapKey, start: datetime, end: datetime | None) -> None:
    """Nobody wants a row of no time: a year was mistyped, and it would change nothing but cut what is there in two."""
    if end is not None and end <= start:
        raise MapError(f"{key}: it would end ({end:%Y-%m-%d %H:%M}) before it begins ({start:%Y-%m-%d %H:%M})")


async def propose_put(
    connection: Connection, wanted: Iterable[Wanted], basis: Basis, kind: str, left_out: tuple[LeftOut, ...] = ()
) -> Proposal:
    """What is wanted beside what there is. Raises MapError where it ends before it begins."""
    wanted = list(wanted)
    for one in wanted:
        _in_order(one.key, one.start or basis.at, one.end)
    rows = await _current(connection, True, {one.key.driver for one in wanted})
    after: dict[MapKey, Sequence[Span]] = {}
    for one in wanted:
        spans = after.get(one.key, [row.span for row in rows.get(one.key, ())])
        after[one.key] = put(spans, one, basis.at)
    return _proposal(kind, basis, rows, after, left_out)


async def propose_plan(
    connection: Connection, wanted: Iterable[Wanted], scopes: Collection[tuple[str, str]], basis: Basis
) -> Proposal:
    """What is wanted in place of all the site's rows of the scopes, each a driver and a link or "". Raises MapError
    where it ends before it begins."""
    by_key: defaultdict[MapKey, list[Wanted]] = defaultdict(list)
    for one in wanted:
        _in_order(one.key, one.start or basis.at, one.end)
        by_key[one.key].append(one)
    rows = await _current(connection, True, {driver for driver, _ in scopes})
    keys = {key for key in rows if (key.driver, key.link) in scopes} | set(by_key)
    after = {key: replan([row.span for row in rows.get(key, ())], by_key.get(key, ()), basis.at) for key in keys}
    return _proposal("apply", basis, rows, after)


async def propose_unset(
    connection: Connection, key: MapKey, start: datetime | None, end: datetime | None, basis: Basis, *, own: bool
) -> Proposal:
    """Results of the code are held from `start` (now) to `end`. `own`: only the site's row goes, what is below holds.

    Raises MapError when there is nothing to unset.
    """
    begin = start or basis.at
    _in_order(key, begin, end)
    everything = await maps.read_rows(connection, {key.driver})
    rows = {key: [row for row in everything if row.site and row.key == key]}
    spans = cut([row.span for row in rows[key]], begin, end)
    # What still maps the code once the row is gone: a shipped row, the driver's for a link's, or one for any specimen.
    below = effective((row for row in everything if row not in rows[key]), key.driver, key.link, begin)
    row = lookup(below, key.code, key.specimen_type)
    if not own and row is not None and row.span.target.test:
        spans = overlay(spans, Span(Target(""), begin, end))
    proposal = _proposal("unset", basis, rows, {key: spans})
    if not proposal.changes:
        raise MapError(f"{key} is not mapped{' by a row of the site' if own else ''}; there is nothing to unset")
    return proposal


async def propose_copy(
    connection: Connection, source: tuple[str, str], target: tuple[str, str], basis: Basis
) -> Proposal:
    """The site's rows of one driver or link, those of the future included, for another. Raises MapError."""
    rows = await _current(connection, True)
    wanted = [
        Wanted(MapKey(*target, key.code, key.specimen_type), row.span.target, row.span.start, row.span.end)
        for key, found in rows.items()
        if (key.driver, key.link) == source
        for row in found
        if row.span.end is None or row.span.end > basis.at
    ]
    if not wanted:
        raise MapError(f"{source[1] or source[0]} has no rows of its own to copy")
    return await propose_put(connection, wanted, basis, "copy")


async def propose_upgrade(connection: Connection, driver_id: str, basis: Basis) -> Proposal:
    """The shipped map of a driver as this program has it, in place of the revision in force. Raises MapError."""
    shipped = shipped_code_map(driver_id)
    if shipped is None:
        raise MapError(f"no map is shipped for {driver_id}")
    rows = await _current(connection, False, {driver_id})
    tests = {row["code"] for row in await connection.fetch("SELECT code FROM lab.test")}
    wanted: defaultdict[MapKey, list[Wanted]] = defaultdict(list)
    left_out = []
    for one in shipped.codes:
        key = MapKey(driver_id, "", one.code, one.specimen_type)
        if not one.verified:
            continue
        if one.test not in tests:
            left_out.append(
                LeftOut(f"{driver_id} map {shipped.revision}", 0, one.code, f"{one.code}: there is no test {one.test}")
            )
            continue
        wanted[key] = [Wanted(key, Target(one.test, one.unit))]
    after = {
        key: replan([row.span for row in rows.get(key, ())], wanted.get(key, ()), basis.at) for key in {*rows, *wanted}
    }
    return _proposal("upgrade", basis, rows, after, tuple(left_out), shipped.revision)


async def propose_undo(connection: Connection, number: int, basis: Basis) -> Proposal:
    """As it was before a change. Raises MapError when there is no such change, or a later one built upon it."""
    change = await maps.find_change(connection, number)
    if change is None:
        raise MapError(f"there is no change {number}")
    if change.undone_by:
        raise MapError(f"change {number} has been undone by change {change.undone_by}")
    made, ended = await maps.rows_of_change(connection, change.id)
    keys = {row.key for row in (*made, *ended)}
    before = await maps.rows_as_of(connection, number - 1, keys)
    now = [row for row in await maps.read_rows(connection, {key.driver for key in keys}) if row.key in keys]
    if {_said(row) for row in now} != {_said(row) for row in await maps.rows_as_of(connection, number, keys)}:
        text = ", ".join(map(str, await maps.later_changes(connection, number, keys)))
        raise MapError(
            f"change {number} cannot be undone alone: later ones are about the same codes ({text}); undo them first"
        )
    there, wanted = {_said(row) for row in now}, {_said(row) for row in before}
    changes = []
    spans_now, spans_before = _spans(now), _spans(before)
    for place in sorted({(row.key, row.site) for row in (*made, *ended)}):
        changes.append(KeyChange(place[0], spans_now[place], spans_before[place]))
    gone = tuple(row.id for row in now if _said(row) not in wanted)
    added = tuple(
        NewRow(row.key, row.span, SITE if row.site else SHIPPED, row.revision)
        for row in before
        if _said(row) not in there
    )
    return Proposal("undo", basis, tuple(changes), gone, added, undoes=change.id)


def _spans(rows: Iterable[MapRow]) -> Mapping[tuple[MapKey, bool], tuple[Span, ...]]:
    found: defaultdict[tuple[MapKey, bool], tuple[Span, ...]] = defaultdict(tuple)
    for row in rows:
        found[row.key, row.site] += (row.span,)
    return found


def _said(row: MapRow) -> tuple[MapKey, Span, bool]:
    return row.key, row.span, row.site


async def commit(
    connection: Connection, actor: Actor, proposal: Proposal, reason: str, source: str = ""
) -> tuple[UUID, int]:
    """Write a proposal as one change, audited; returns its id and number. All of it or nothing.

    Raises MapError: nobody who may, no reason, nothing to change, or the maps have changed since it was computed.
    """
    if not may(actor, Permission.MAP_WRITE):
        raise MapError(f"only a user with the permission {Permission.MAP_WRITE} may change maps")
    if not reason.strip():
        raise MapError("a change of the maps needs a reason")
    if len(reason) > LONGEST_REASON or not reason.isprintable():
        raise MapError(f"the reason is longer than {LONGEST_REASON} characters, or not printable")
    if not proposal.changes:
        raise MapError("there is nothing to change")
    await maps.lock(connection, actor.organization_id)
    if (await maps.basis(connection)).seen != proposal.basis.seen:
        raise MapError("the maps have changed meanwhile; look at the difference again")
    change_id, number = await maps.write_change(
        connection, actor, proposal.kind, reason.strip(), source, proposal.ended, proposal.added, proposal.undoes
    )
    if proposal.undoes is not None:
        await map_controls.restore(connection, actor, proposal.undoes, reason.strip())
    controls = await map_controls.exclude(connection, actor, [one.key for one in proposal.changes], reason.strip())
    keys = [str(change.key) for change in proposal.changes]
    detail = {
        "change": str(number), "reason": reason.strip(), "source": source, "added": str(len(proposal.added)),
        "ended": str(len(proposal.ended)), "codes": "; ".join(keys[:AUDITED_KEYS]) + " …" * (len(keys) > AUDITED_KEYS),
    }  # fmt: skip
    if controls:
        detail["controls"] = str(controls)
    await audit.record(connection, actor, proposal.kind, "code_map", change_id, detail)
    return change_id, number
