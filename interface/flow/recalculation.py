"""Calculated results of whom something else is known: calculated anew, by the functions that calculate them first.

An eGFR is made of sex and age. When these are put right, when a time of collection is told afterwards, or when records
are merged or taken apart, what was calculated with them is calculated anew in the same transaction: the next version of
what is not released, judged by the rules in force; beside what is released a change that waits for a person, as every
change does. What nothing has changed about stays as it is. Nothing is calculated where no rule set is in force: the
release is refused then (`flow.judged_for`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import structlog

from interface.domain.autoverify import Autoverification
from interface.domain.calculated import AGE, SEX
from interface.domain.catalogue import Catalogue
from interface.domain.decision_context import DecisionContext
from interface.domain.model import RELEASED, Origin, SpecimenFacts
from interface.domain.permissions import Permission
from interface.domain.review import Refusal, ReviewError, same_version
from interface.domain.rule_set import RuleSet
from interface.domain.runs import GONE
from interface.domain.views import Actor, Audience, ResultView
from interface.errors import StoreError, StoreUnavailable
from interface.flow.actors import may
from interface.flow.around import add_neighbours_of
from interface.flow.calculations import calculate_anew, left_over, made_of_the_same
from interface.flow.cases import Decided, Rules, siblings_of
from interface.flow.consequences import write_calculated
from interface.flow.outcome import Surroundings, beside_of, known_of, remember
from interface.flow.rules import DEFAULT, rule_sets
from interface.store import audit, lab, lab_changes
from interface.store import calculated as rows
from interface.store import surroundings as around
from interface.store.catalogues import read_catalogue
from interface.store.db import Connection, Database
from interface.store.people import persons
from interface.store.rules import drained, last_rules, rules_of_each
from interface.store.surroundings import KnownResult

log = structlog.get_logger(__name__)

SPECIMENS = 50  # in one transaction


async def lock(connection: Connection, patient_ids: Iterable[UUID]) -> list[UUID]:
    """Lock the specimens of these persons on which something is calculated, then the persons, as everybody locks; the
    specimens' ids. To be called before anything else locks a patient.

    Raises StoreUnavailable where something was calculated for them at the same moment: begin again.
    """
    records = {one for ids in (await persons(connection, patient_ids)).values() for one in ids}
    found = await rows.specimens_of(connection, records)
    await around.lock_only(connection, sorted(found), records)
    if await rows.specimens_of(connection, records) - found:
        raise StoreUnavailable("something was calculated for the patient at the same moment")
    return sorted(found)


async def lock_measured(connection: Connection, specimen_id: UUID) -> list[UUID]:
    """The specimen, locked as everybody locks, where it has results already: else nothing is calculated of it."""
    if not await rows.is_measured(connection, specimen_id):
        return []
    await around.lock_only(connection, [specimen_id])
    return [specimen_id]


async def of_specimens(
    connection: Connection, actor: Actor, specimen_ids: Collection[UUID], why: str, *, wanted: bool = False
) -> list[UUID]:
    """Calculate anew what these specimens (locked, as are their patients) have or wait for; the results that were
    written. `why`: for the audit; `wanted`: only what they wait for, for nothing else is known of the person."""
    if not specimen_ids:
        return []
    at = Surroundings(await around.lock(connection, (), sorted(specimen_ids)))
    catalogue = await read_catalogue(connection, actor.organization_id, "", None)
    return await _anew(connection, actor, at, sorted(specimen_ids), catalogue, {"because": why}, wanted=wanted)


async def put_in_force(database: Database, actor: Actor, name: str) -> None:
    """Calculate what was ordered, and measured, before the rule that calculates it was put in force: nothing comes that
    would. For who has committed that; of what fails here a fault of ours must not be said of it."""
    try:
        async with database.organization(actor.organization_id) as connection:
            await drained(connection, actor.organization_id)  # what is decided by the rules of before waits as well
            catalogue = await read_catalogue(connection, actor.organization_id, "", None)
            rule_set = Rules(await rule_sets().current(connection, catalogue.tests, name)).rule_set
            waiting = await rows.waiting_for(connection, {rule.target for rule in rule_set.calculations})
        for begin in range(0, len(waiting), SPECIMENS):
            async with database.transaction(actor.organization_id) as connection:
                at = Surroundings(await around.lock(connection, (), waiting[begin : begin + SPECIMENS]))
                catalogue = await read_catalogue(connection, actor.organization_id, "", None)
                why = {"because": f"{rule_set.version} was put in force"}
                await _anew(connection, actor, at, waiting[begin : begin + SPECIMENS], catalogue, why, ordered=True)
    except StoreError as error:
        log.warning("not calculated", action="rules.calculate", error=error.slug)
    except Exception as error:
        log.error("not calculated", action="rules.calculate", exc_info=error)


async def recalculate(connection: Connection, actor: Actor, result_id: UUID, version: int | None = None) -> ResultView:
    """Calculate one result anew for a person, who looked at `version`; where nothing is another than it was, it stays.

    Raises ReviewError.
    """
    if not may(actor, Permission.RESULT_RELEASE):
        text = f"only a user with the permission {Permission.RESULT_RELEASE} may decide about results"
        raise ReviewError(Refusal.FORBIDDEN, text)
    row = await lab_changes.lock_result(connection, result_id)
    if row is None:
        raise ReviewError(Refusal.NOT_FOUND, "there is no such result")
    same_version(row.version, version)
    specimens = [row.specimen_id] if row.specimen_id else []
    at = Surroundings(await around.lock(connection, (), specimens))
    one = _calculated(at, result_id)
    if one is None:
        raise ReviewError(Refusal.CONFLICT, "only a calculated result that is not taken back is calculated anew")
    catalogue = await read_catalogue(connection, actor.organization_id, "", None)
    by = {"because": f"{actor.name} asked for it"}
    if not await _anew(connection, actor, at, specimens, catalogue, by, only=one):
        await audit.record(connection, actor, "read", "result", result_id, {"by": "recalculate"})
    view = await lab.get_result(connection, result_id, Audience.STAFF)
    if view is None:
        raise ReviewError(Refusal.NOT_FOUND, "there is no such result")
    return view


async def helps(
    connection: Connection, organization_id: UUID, at: Surroundings, specimen_id: UUID, result_id: UUID
) -> bool:
    """Whether a calculated result (locked) would be another if a person had it calculated anew. What `at` knows of
    the specimen's results is not what there is after it."""
    one = _calculated(at, result_id)
    if one is None:
        return False
    catalogue = await read_catalogue(connection, organization_id, "", None)
    try:
        made = await _made(connection, at, [specimen_id], catalogue, one)
    except ReviewError:
        return False
    cases = (case for _, several in made.values() for decided in several for case in decided.cases)
    return any(case.result_id == result_id for case in cases)


def _calculated(at: Surroundings, result_id: UUID) -> KnownResult | None:
    """The result, if it is one that can be calculated anew."""
    one = next((one for known in at.locked.results.values() for one in known if one.id == result_id), None)
    return one if one is not None and one.origin is Origin.CALCULATION and one.status not in GONE else None


async def _anew(
    connection: Connection,
    actor: Actor,
    at: Surroundings,
    specimen_ids: Collection[UUID],
    catalogue: Catalogue,
    why: dict[str, str],
    only: KnownResult | None = None,
    wanted: bool = False,
    *,
    ordered: bool = False,
) -> list[UUID]:
    """All that is read is read before anything is calculated, and then all is written: a person may have hundreds of
    specimens, and a hospital that tells of one waits for the answer."""
    written: list[UUID] = []
    made = await _made(
        connection, at, specimen_ids, catalogue, only, of_person=not wanted and not ordered, ordered=ordered
    )
    for now, several in made.values():
        written += await write_calculated(connection, actor, several, catalogue, now, why, at.added)
    return written


async def _made(
    connection: Connection,
    at: Surroundings,
    specimen_ids: Collection[UUID],
    catalogue: Catalogue,
    only: KnownResult | None,
    *,
    of_person: bool = True,
    ordered: bool = False,
) -> dict[UUID | None, tuple[Autoverification, list[Decided]]]:
    """What is to be written, by the rule set that decided about it. `ordered`: of what has no result alone. Raises
    ReviewError where no rule calculates `only`."""
    specimens = [at.locked.by_id[str(id)] for id in specimen_ids]
    wanted: list[tuple[SpecimenFacts, Autoverification, frozenset[str]]] = []
    for now, of in (await _in_force(connection, at, specimens, catalogue)).values():
        rule_set = Rules(now).rule_set
        if only is not None and only.test not in {rule.target for rule in rule_set.calculations}:
            raise ReviewError(Refusal.CONFLICT, "no rule in force calculates it: correct it, or reject it")
        wanted_of = _ordered if ordered else partial(_wanted, of_person=of_person)
        tests = {one.id: frozenset({only.test} if only else wanted_of(one, at, rule_set, catalogue)) for one in of}
        await add_neighbours_of(
            connection, at, [(one, test) for one in of for test in sorted(tests[one.id])], catalogue, now
        )
        wanted += [(one, now, tests[one.id]) for one in of]
    made: dict[UUID | None, tuple[Autoverification, list[Decided]]] = {}
    for specimen, now, tests_of in wanted:
        beside = beside_of(specimen, at)
        context = DecisionContext(catalogue, received_at=datetime.now(UTC))
        siblings = siblings_of((), beside.known)
        cases = calculate_anew((), beside, Rules(now), context, siblings, waiting=tests_of)
        decided = Decided([case for case in cases if case.before is None or not made_of_the_same(case, case.before)])
        if only is None and of_person:
            decided.cases += left_over((SEX, AGE), beside, Rules(now), context, siblings)
        remember(decided, beside, at)
        made.setdefault(now.active_id, (now, []))[1].append(decided)
    return made


async def _in_force(
    connection: Connection, at: Surroundings, specimens: Sequence[SpecimenFacts], catalogue: Catalogue
) -> dict[str, tuple[Autoverification, list[SpecimenFacts]]]:
    """The specimens by the name of the rules that decided about them last, with what is in force of them."""
    known = {specimen.id: [one.id for one in known_of(specimen.family, at)] for specimen in specimens}
    last = await rules_of_each(connection, {id for ids in known.values() for id in ids})
    of: dict[str, list[SpecimenFacts]] = {}
    for specimen in specimens:
        name = last_rules(last[id] for id in known[specimen.id] if id in last) or DEFAULT
        of.setdefault(name, []).append(specimen)
    now = await rule_sets().by_name(connection, catalogue.tests, of)
    return {name: (now[name], several) for name, several in of.items()}


def _wanted(
    specimen: SpecimenFacts, at: Surroundings, rule_set: RuleSet, catalogue: Catalogue, of_person: bool
) -> set[str]:
    """Of what is released only what is made of the person itself: another formula since then is no reason to change
    it. What is not released may have other limits as well, and what has no result may have been ordered just now."""
    known = known_of(specimen.family, at)
    of_persons = {rule.target for rule in rule_set.calculations if of_person and rule.formula.of_persons}
    waits = {one.test for one in known if one.origin is Origin.CALCULATION and one.status not in RELEASED}
    return of_persons | waits | _ordered(specimen, at, rule_set, catalogue)


def _ordered(specimen: SpecimenFacts, at: Surroundings, rule_set: RuleSet, catalogue: Catalogue) -> set[str]:
    """What is ordered, can be calculated, and has no result."""
    missing = {one.test_id for one in specimen.items} - {one.test_id for one in known_of(specimen.family, at)}
    new = {test.code for test in map(catalogue.tests.get, missing) if test is not None}
    return new & {rule.target for rule in rule_set.calculations}
