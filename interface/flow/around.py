"""Reading, under locks, what the decision on messages needs; for deciding, replaying and what people enter alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from uuid import UUID

from interface.domain.autoverify import Autoverification
from interface.domain.catalogue import Catalogue
from interface.domain.judging import QcGate, wants_previous
from interface.domain.model import SpecimenFacts
from interface.domain.qc_gate import joined
from interface.domain.qc_lots import InUse, Used
from interface.domain.times import CLOCK_BEHIND, measured_at
from interface.flow.again import waiting
from interface.flow.cases import Rules
from interface.flow.context import LinkContext
from interface.flow.late import released
from interface.flow.outcome import Surroundings, instant
from interface.flow.qc_gate import gate_of
from interface.flow.work import Rerun, Work, is_patient, keys_after, keys_apart, keys_of_reruns
from interface.store import qc
from interface.store import results as store
from interface.store import surroundings as rows
from interface.store.db import Connection
from interface.store.neighbours import Asked, neighbours, one_index
from interface.store.qc_lots import in_use
from interface.store.read_otherwise import read_otherwise
from interface.store.surroundings import Waited

_NONE: Mapping[str, Used] = MappingProxyType({})


async def surroundings(connection: Connection, works: Sequence[Work]) -> Surroundings:
    """Read and lock it for the caller's transaction, in the one order in which everybody locks: specimens, patients,
    results. Everything is read after its lock was had."""
    barcodes = sorted({barcode for work in works for barcode in work.barcodes})
    locked = await rows.lock(connection, barcodes)
    keys = [key for work in works for key in work.keys()]
    current = await store.load_current(connection, keys) if keys else {}
    apart: dict[bytes, bytes] = {}
    for work in works if current else ():
        apart |= keys_apart(work, locked.specimens, current)
    if apart:
        current |= await store.load_current(connection, list(apart.values()))
    at = Surroundings(locked, current=current, apart=apart)
    while current and await _follow(connection, works, at):
        pass
    return at


async def _follow(connection: Connection, works: Sequence[Work], at: Surroundings) -> bool:
    """Go on to the keys of what comes after a result that was retracted, and of a run that was asked for again; whether
    there are any."""
    after = [one for work in works for one in keys_after(work, at.apart, at.current)]
    again = [(work, *one) for work in works for one in keys_of_reruns(work, at.apart, at.current, at.locked)]
    if not after and not again:
        return False
    found = await store.load_current(connection, [own for _, own, _ in after] + [own for _, _, own, _ in again])
    reruns = [(key, own, rerun) for work, key, own, rerun in again if own in found or _answers(work, rerun)]
    at.current |= found
    at.retracted |= {own: known for _, own, known in after}
    at.reruns |= {own: rerun for _, own, rerun in reruns}
    at.apart |= {key: own for key, own, _ in (*after, *reruns)}
    return bool(after or reruns)


def _answers(work: Work, rerun: Rerun) -> bool:
    """Whether what came may be a run that nothing has answered. The bytes of a message that came before are a rerun
    where the analyzer was told of it; else nothing says that they are more than a resend."""
    return rerun.open and (rerun.told or work.message.duplicate_of is None)


async def add_neighbours(
    connection: Connection, at: Surroundings, works: Iterable[tuple[Work, Catalogue, Autoverification]]
) -> None:
    """Read the results of the same persons that a check or rule compares with, of what is in force or in the shadow."""
    asked: dict[str, Asked] = {}
    by: dict[str, tuple[Catalogue, Autoverification]] = {}
    found: dict[tuple[int, int], dict[tuple[str, str], tuple[str, ...]]] = {}
    for work, catalogue, now in works:
        for barcode in work.barcodes:
            by |= {one.id: (catalogue, now) for one in at.specimens.get(barcode, ())}
        compared = found.setdefault((id(catalogue), id(now)), {})
        _ask(asked, work, at.specimens, compared, catalogue, now)
    await _add(connection, at, asked, by)


async def _add(
    connection: Connection,
    at: Surroundings,
    asked: dict[str, Asked],
    by: Mapping[str, tuple[Catalogue, Autoverification]],
) -> None:
    """Also of those results of the same specimens that may be judged anew, where there are any, and what is known of
    released ones that another result may speak against. `by`: what each specimen, by id, is decided by."""
    found = waiting(at.locked) if any(now.active is not None for _, now in by.values()) else []
    late = released(at.locked, {specimen: now for specimen, (_, now) in by.items()})
    at.waited = await rows.waited(connection, [one.version_id for one in (*found, *late)])
    mine = {id_: at.waited[id_] for one in found if (id_ := one.version_id) in at.waited}
    for id_ in await read_otherwise(connection, mine):  # its map or test was put right since: no rule releases it so
        del at.waited[id_]
    for known in found:
        waited = at.waited.get(known.version_id)
        for one in at.locked.by_id[known.specimen_id].family if waited is not None else ():
            specimen = at.locked.by_id[one]
            for test_id in _compared(known.test, *by[one]) if one in by and specimen.person else ():
                when = specimen.collected_at or measured_at(waited.measured_at if waited else None, known.created_at)
                asked.setdefault(specimen.id, Asked(specimen, {})).times.setdefault(test_id, when)
    at.add_neighbours(await neighbours(connection, list(asked.values())))


async def add_neighbours_of(
    connection: Connection,
    at: Surroundings,
    tests: Sequence[tuple[SpecimenFacts, str]],
    catalogue: Catalogue,
    now: Autoverification,
) -> None:
    """The same for tests, by code, that nobody's message speaks of."""
    asked: dict[str, Asked] = {}
    at_once = datetime.now(UTC)
    for specimen, code in tests:
        times = asked.setdefault(specimen.id, Asked(specimen, {})).times
        times |= dict.fromkeys(_compared(code, catalogue, now), specimen.collected_at or at_once)
    await one_index(connection)
    await _add(connection, at, asked, {specimen.id: (catalogue, now) for specimen, _ in tests})


def _ask(
    asked: dict[str, Asked], work: Work, specimens: Mapping[str, tuple[SpecimenFacts, ...]],
    compared: dict[tuple[str, str], tuple[str, ...]], catalogue: Catalogue, now: Autoverification,
) -> None:  # fmt: skip
    """Ask for what is compared with what was measured on each specimen of a message whose person is known. `compared`:
    the tests, by id, by what was measured and on which type of specimen; filled here."""
    zone, by_rote, received_at = work.zone, work.by_rote, work.message.received_at
    for sent in work.decoded.specimens:
        found = specimens.get(work.barcode(sent), ()) if is_patient(sent) else ()
        if len(found) != 1 or not found[0].person:
            continue
        specimen, type_ = found[0], found[0].type or sent.type
        collected_at = specimen.collected_at
        times = asked.setdefault(specimen.id, Asked(specimen, {})).times
        for observed in sent.results:
            key = observed.code, type_
            test_ids = compared.get(key)
            if test_ids is None:
                mapping = catalogue.mapping(observed.code, type_)
                test = catalogue.tests.get(mapping.test_id) if mapping else None
                test_ids = compared[key] = tuple(_compared(test.code, catalogue, now)) if test else ()
            for test_id in test_ids:
                if test_id not in times:
                    at = instant(observed.instrument_time, zone, by_rote, received_at)
                    times[test_id] = collected_at or measured_at(at, received_at)


def _compared(code: str, catalogue: Catalogue, now: Autoverification) -> Iterator[str]:
    """The ids of those tests that are compared with earlier results: of this one and what is calculated of it."""
    for rule_set in (*((now.active,) if now.active else ()), *(shadow.rule_set for shadow in now.shadows)):
        for one in (code, *(rule.target for rule in rule_set.of(code).calculations)):
            if wants_previous(rule_set.of(one)):
                test = catalogue.by_code(one)
                if test is not None:
                    yield test.id


def rules_for(
    link: LinkContext, now: Autoverification, qc: QcGate, used: Used | None = None, used_by: Mapping[str, Used] = _NONE
) -> Rules:
    """What decides about a link's results, and about those that are judged anew with them."""
    return Rules(
        now, analyzer=link.settings.analyzer or link.name, driver=link.driver.id, qc=qc, used=used, used_by=used_by,
        names_dilutions=link.driver.law is not None,
    )  # fmt: skip


async def used_by(
    connection: Connection, analyzer_id: UUID, catalogue: Catalogue, now: Autoverification
) -> Used | None:
    """What the analyzer uses, or used as long ago as an instrument's clock is believed; where a rule asks for it, when
    it was calibrated."""
    lots = await in_use(connection, analyzer_id, datetime.now(UTC) - CLOCK_BEHIND)
    if _asks_lots(now):
        tests = {UUID(mapping.test_id) for mapping in catalogue.mappings.values() if mapping.test_id}
        return Used(lots, await qc.calibrated_at(connection, analyzer_id, tests))
    return Used(lots) if lots.lots else None


def _asks_lots(now: Autoverification) -> bool:
    shadows = (one.rule_set for one in now.shadows)
    return any(one.asks_lots for one in (*((now.active,) if now.active else ()), *shadows))


async def used_beside(
    connection: Connection, at: Surroundings, in_force: Iterable[Autoverification], more: Iterable[Waited] = ()
) -> Mapping[str, Used]:
    """When the analyzers were calibrated whose results are judged anew (those with what came, and `more`), where a rule
    asks for it."""
    waited = (*at.waited.values(), *more)
    if not waited or not any(map(_asks_lots, in_force)):
        return _NONE
    analyzers = {one.analyzer: one.analyzer_id for one in waited if one.analyzer_id is not None}
    tests = {UUID(one.test_id) for several in at.locked.results.values() for one in several if one.test_id}
    return {name: Used(InUse(()), await qc.calibrated_at(connection, id_, tests)) for name, id_ in analyzers.items()}


async def gate_beside(connection: Connection, at: Surroundings, gate: QcGate, asked: Collection[UUID]) -> QcGate:
    """The gate, and that of other analyzers whose results are judged anew with what came. `asked`: whose it is of."""
    others = {one.analyzer_id for one in at.waited.values() if one.analyzer_id is not None}.difference(asked)
    return joined([gate, await gate_of(connection, others)]) if others else gate
