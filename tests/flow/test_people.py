"""Patients over time: changed, merged, split again; and what an order and a reader make of that."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from interface.domain import merges
from interface.domain.model import HoldReason, ResultStatus, Sex
from interface.domain.permissions import Role
from interface.domain.views import Audience, IdentifierView, PatientView
from interface.errors import ApiError, StoreUnavailable
from interface.flow import people
from interface.flow.orders import NewOrder, NewPatient, NewSpecimen, create_order
from interface.flow.people import PatientChange
from interface.flow.problems import OrderError
from interface.store import lab, patients, surroundings
from interface.store import people as rows
from interface.store.db import Database
from interface.store.ids import uuid7
from interface.store.lab import OrderFilter, ResultFilter, SpecimenFilter
from interface.store.patients import PatientFilter
from tests.conftest import Organization
from tests.records import Laboratory, found, order, patient, user

WHY = "the same person, registered twice"


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


async def add(laboratory: Laboratory, new: NewPatient | None = None) -> PatientView:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        return await people.create_patient(connection, laboratory.technologist, new or patient())


async def merge(laboratory: Laboratory, prior: UUID, survivor: UUID, **options: Any) -> PatientView:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        return await people.merge(connection, laboratory.technologist, prior, survivor, WHY, **options)


async def unmerge(laboratory: Laboratory, prior: UUID) -> PatientView:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        return await people.unmerge(connection, laboratory.technologist, prior, "two people after all")


async def update(laboratory: Laboratory, of: PatientView, change: PatientChange) -> PatientView:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        return await people.update_patient(connection, laboratory.technologist, of.id, change, of.version)


async def get(laboratory: Laboratory, patient_id: UUID) -> PatientView:
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        view = await patients.get_patient(connection, patient_id)
    assert view is not None
    return view


async def search(laboratory: Laboratory, **filter: Any) -> list[UUID]:
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        return [view.id for view in await patients.find_patients(connection, PatientFilter(**filter))]


def said(view: PatientView) -> PatientView:
    """What is said of a patient, without when it was."""
    return replace(view, version=0, updated_at=datetime.min.replace(tzinfo=UTC))


# ---- changes ---------------------------------------------------------------------------------------------------------


async def test_a_change_keeps_what_was_in_the_audit_and_is_found_by_the_new_name(laboratory: Laboratory) -> None:
    eva = await add(laboratory, replace(patient("P1"), birth_date=date(1980, 2, 29)))
    changed = await update(laboratory, eva, PatientChange(family="Müller", sex=Sex.FEMALE))
    assert (changed.family, changed.given, changed.birth_date, changed.sex) == (
        "Müller", "Eva", date(1980, 2, 29), Sex.FEMALE,
    )  # fmt: skip
    assert changed.version == eva.version + 1
    assert await search(laboratory, name="eva mueller") == [eva.id]
    assert await search(laboratory, family="muster") == []
    assert await laboratory.count("audit_event", "action = 'update' and detail->>'family' = 'Muster → Müller'") == 1
    cleared = await update(laboratory, changed, PatientChange(cleared=frozenset({"birth_date"})))
    assert cleared.birth_date is None


async def test_a_change_from_another_version_is_refused_and_one_of_nothing_is_none(laboratory: Laboratory) -> None:
    eva = await add(laboratory)
    assert await update(laboratory, eva, PatientChange(given="Eva")) == eva
    await update(laboratory, eva, PatientChange(given="Ava"))
    with pytest.raises(ApiError, match="at version 2 now") as caught:
        await update(laboratory, eva, PatientChange(given="Eve"))
    assert caught.value.status == 409
    assert (await get(laboratory, eva.id)).given == "Ava"


async def test_the_hour_of_birth_gives_the_day_where_the_person_was_born(laboratory: Laboratory) -> None:
    now = datetime.now(UTC)
    bangkok = (now - timedelta(days=1)).astimezone(timezone(timedelta(hours=7))).replace(hour=2, minute=30)
    child = await add(laboratory, NewPatient(family="Muster", birth_at=bangkok))
    assert (child.birth_date, child.birth_at) == (bangkok.date(), bangkok)
    for wrong in (
        NewPatient(family="M", birth_at=bangkok, birth_date=bangkok.date() - timedelta(days=1)),
        NewPatient(family="M", birth_at=now + timedelta(hours=2)),
        NewPatient(family="M", birth_at=datetime(2026, 1, 1)),  # noqa: DTZ001
    ):
        with pytest.raises(OrderError):
            await add(laboratory, wrong)
    with pytest.raises(OrderError, match="not the day of the time of birth"):
        await update(laboratory, child, PatientChange(birth_date=date(2020, 1, 1)))
    changed = PatientChange(birth_date=date(2020, 1, 1), cleared=frozenset({"birth_at"}))
    assert (await update(laboratory, child, changed)).birth_at is None


async def test_nothing_is_ordered_for_who_is_not_active_any_more(laboratory: Laboratory) -> None:
    made = await laboratory.order(replace(order(), patient=patient("P1")))
    assert made.patient_id
    view = await get(laboratory, made.patient_id)
    inactive = await update(laboratory, view, PatientChange(active=False))
    with pytest.raises(OrderError, match="not active"):
        await laboratory.order(replace(order(), patient=patient("P1")))
    assert await search(laboratory, active=True) == []
    await update(laboratory, inactive, PatientChange(active=True))
    await laboratory.order(replace(order(), patient=patient("P1")))


async def test_an_identifier_is_never_moved_in_silence(laboratory: Laboratory) -> None:
    eva, adam = await add(laboratory, patient("P1")), await add(laboratory, patient("P2"))
    card = IdentifierView("urn:card", "C-1", "JHN")
    as_vera = laboratory.technologist
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        with_card = await people.add_identifier(connection, as_vera, eva.id, card)
        assert (await people.add_identifier(connection, as_vera, eva.id, card)).version == with_card.version
        with pytest.raises(OrderError, match="another patient's"):
            await people.add_identifier(connection, as_vera, adam.id, card)
        ended = await people.end_identifier(connection, as_vera, eva.id, card.authority, card.value, "the card is lost")
        assert card not in ended.identifiers
        assert await patients.find_patients(connection, PatientFilter(identifier="C-1")) == []
        [former] = await patients.former_identifiers(connection, eva.id)
        assert (former.authority, former.value) == ("urn:card", "C-1")
        with pytest.raises(ApiError) as caught:
            await people.end_identifier(connection, as_vera, eva.id, card.authority, card.value, "again")
        assert caught.value.status == 404
        await people.add_identifier(connection, as_vera, adam.id, card)
    assert await search(laboratory, identifier="C-1") == [adam.id]
    assert await laboratory.count("audit_event", "action like '%_identifier'") == 3


async def test_the_last_word_of_a_patient_without_a_name_stays(laboratory: Laboratory) -> None:
    nameless = await add(laboratory, NewPatient((IdentifierView("urn:hospital", "P1"),)))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        with pytest.raises(OrderError, match="an identifier or a family name"):
            await people.end_identifier(connection, laboratory.technologist, nameless.id, "urn:hospital", "P1", "wrong")


# ---- merges ----------------------------------------------------------------------------------------------------------


async def test_a_merge_forwards_and_answers_for_both_and_re_points_nothing(laboratory: Laboratory) -> None:
    of_prior = await laboratory.order(replace(order(), patient=patient("P1", "Mustr")))
    of_survivor = await laboratory.order(replace(order(), patient=patient("P2")))
    prior, survivor = of_prior.patient_id, of_survivor.patient_id
    assert prior and survivor
    results = [await laboratory.result(one) for one in (of_prior, of_survivor)]
    answer = await merge(laboratory, prior, survivor)
    assert (answer.id, answer.replaces) == (survivor, (prior,))
    assert (await get(laboratory, prior)).merged_into == survivor
    after = await laboratory.order(replace(order(), patient=patient("P1", "Mustr")))
    assert after.patient_id == survivor, "who names the prior's identifier means the survivor"
    by_id = await laboratory.order(NewOrder((NewSpecimen(("HGB",)),), patient_id=prior))
    assert by_id.patient_id == survivor
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        shown = await lab.find_results(connection, ResultFilter(patient_ids=(survivor,)), Audience.STAFF)
        assert {view.id for view in shown} == set(results)
        assert {view.patient_id for view in shown} == {prior, survivor}, "no row is re-pointed"
        own = await lab.find_results(connection, ResultFilter(patient_ids=(prior,)), Audience.STAFF)
        assert [view.id for view in own] == [results[0]]
        orders = await lab.find_orders(connection, OrderFilter(patient_ids=(survivor,)), Audience.STAFF)
        assert {view.id for view in orders} == {of_prior.id, of_survivor.id, after.id, by_id.id}
        specimens = await lab.find_specimens(connection, SpecimenFilter(patient_ids=(survivor,)), Audience.STAFF)
        assert len(specimens) == 4
        assert await rows.persons(connection, [prior, uuid7()]) == {prior: (survivor, prior)}
        carried = await rows.identifiers(connection, [prior])
        assert {identifier.value for identifier in carried[prior]} == {"P1", "P2"}
    assert await laboratory.count("audit_event", "action = 'merge' and detail->>'reason' = $1", WHY) == 2


async def test_an_emr_never_sees_a_held_result_of_either(laboratory: Laboratory) -> None:
    of_prior = await laboratory.order(replace(order(), patient=patient("P1")))
    of_survivor = await laboratory.order(replace(order(), patient=patient("P2")))
    prior, survivor = of_prior.patient_id, of_survivor.patient_id
    assert prior and survivor
    released = await laboratory.result(of_prior, status=ResultStatus.FINAL)
    for status, held in ((ResultStatus.REGISTERED, (HoldReason.DELTA,)), (ResultStatus.PRELIMINARY, ())):
        await laboratory.result(of_prior, status=status, held=held)
        await laboratory.result(of_survivor, status=status, held=held)
    await merge(laboratory, prior, survivor)
    for asked in (prior, survivor):
        async with laboratory.database.organization(laboratory.organization_id) as connection:
            seen = await lab.find_results(connection, ResultFilter(patient_ids=(asked,)), Audience.EMR)
            everything = await lab.find_results(connection, ResultFilter(patient_ids=(asked,)), Audience.STAFF)
        assert [view.id for view in seen] == [released]
        assert len(everything) == (5 if asked == survivor else 3)


async def test_an_unmerge_gives_back_exactly_what_was(laboratory: Laboratory) -> None:
    of_prior = await laboratory.order(replace(order(), patient=patient("P1")))
    of_survivor = await laboratory.order(replace(order(), patient=patient("P2")))
    prior, survivor = of_prior.patient_id, of_survivor.patient_id
    assert prior and survivor
    before = [said(await get(laboratory, one)) for one in (prior, survivor)]
    await merge(laboratory, prior, survivor)
    later = await laboratory.order(replace(order(), patient=patient("P1")))
    answer = await unmerge(laboratory, prior)
    assert answer.id == prior
    assert [said(await get(laboratory, one)) for one in (prior, survivor)] == before
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        for asked, orders in ((prior, {of_prior.id}), (survivor, {of_survivor.id, later.id})):
            shown = await lab.find_orders(connection, OrderFilter(patient_ids=(asked,)), Audience.STAFF)
            assert {view.id for view in shown} == orders, "what was made since stays with the survivor"
    assert (await laboratory.order(replace(order(), patient=patient("P1")))).patient_id == prior
    with pytest.raises(ApiError, match="has not been merged"):
        await unmerge(laboratory, prior)


async def test_a_chain_is_flat_and_its_links_are_taken_back_in_any_order(laboratory: Laboratory) -> None:
    a, b, c, d = [(await add(laboratory)).id for _ in range(4)]
    await merge(laboratory, a, b)
    await merge(laboratory, d, c)
    await merge(laboratory, b, c)
    assert [(await get(laboratory, one)).merged_into for one in (a, b, c, d)] == [c, c, None, c]
    assert set((await get(laboratory, c)).replaces) == {a, b, d}
    assert (await merge(laboratory, a, b)).id == c, "said again, it is answered with the survivor"
    for prior, survivor in ((c, a), (a, c), (d, b)):
        with pytest.raises(ApiError, match="has been merged into") as caught:
            await merge(laboratory, prior, survivor)
        assert caught.value.status == 409
    await unmerge(laboratory, b)
    assert [(await get(laboratory, one)).merged_into for one in (a, b, c, d)] == [b, None, None, c]
    await unmerge(laboratory, a)
    assert [(await get(laboratory, one)).merged_into for one in (a, b, c, d)] == [None, None, None, c]
    await merge(laboratory, b, a)
    await merge(laboratory, c, a)
    await unmerge(laboratory, d)
    assert [(await get(laboratory, one)).merged_into for one in (a, b, c, d)] == [None, a, a, None]


async def test_who_contradict_each_other_are_merged_only_by_who_says_so(laboratory: Laboratory) -> None:
    one = await add(laboratory, replace(patient(), birth_date=date(1980, 1, 2), sex=Sex.FEMALE))
    other = await add(laboratory, replace(patient(), birth_date=date(1980, 2, 1), sex=Sex.MALE))
    with pytest.raises(ApiError, match="differ in birth date and sex") as caught:
        await merge(laboratory, one.id, other.id)
    assert caught.value.status == 409
    assert (await merge(laboratory, one.id, other.id, accept_differences=True)).replaces == (one.id,)
    both = [
        replace(patient(), identifiers=one.identifiers, birth_date=born)
        for born in (date(1980, 1, 2), date(1980, 2, 1))
    ]
    for known in both:  # what either record says is known of the person
        assert (await laboratory.order(replace(order(), patient=known))).patient_id == other.id
    with pytest.raises(OrderError, match="another birth date"):
        await laboratory.order(replace(order(), patient=replace(both[0], birth_date=date(1990, 1, 1))))


async def test_an_order_that_is_sent_again_after_a_merge_is_the_same_order(laboratory: Laboratory) -> None:
    first = replace(order(placer_number="EMR-1"), patient=patient("P1"))
    made = await laboratory.order(first)
    survivor = await add(laboratory, patient("P2"))
    assert made.patient_id
    await merge(laboratory, made.patient_id, survivor.id)
    assert (await laboratory.order(first)).id == made.id
    both = replace(patient("P1"), identifiers=patient("P1").identifiers + patient("P2").identifiers)
    assert (await laboratory.order(replace(first, patient=both))).id == made.id
    with pytest.raises(OrderError, match="different patient"):
        await laboratory.order(replace(first, patient=patient("P3")))


@pytest.mark.parametrize(
    ("role", "status"),
    [(Role.PHLEBOTOMIST, 403), (Role.VIEWER, 403), (Role.TECHNOLOGIST, 404), (Role.ADMINISTRATOR, 404)],
)
async def test_who_may_merge(laboratory: Laboratory, role: Role, status: int) -> None:
    actor = user(laboratory.organization_id, role)
    for step in (people.merge(None, actor, uuid7(), uuid7(), WHY), people.unmerge(None, actor, uuid7(), WHY)):  # type: ignore[arg-type]
        if status == 403:
            with pytest.raises(ApiError) as caught:
                await step
            assert caught.value.status == 403
        else:
            step.close()
    if status == 404:
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            with pytest.raises(ApiError) as caught:
                await people.merge(connection, actor, uuid7(), uuid7(), WHY)
        assert caught.value.status == 404


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "a\x00b"])
async def test_a_merge_needs_a_reason_and_another_patient(laboratory: Laboratory, reason: str) -> None:
    one, other = await add(laboratory), await add(laboratory)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        with pytest.raises(ApiError) as caught:
            await people.merge(connection, laboratory.technologist, one.id, other.id, reason)
        assert caught.value.status == 422
        with pytest.raises(ApiError, match="into itself"):
            await people.merge(connection, laboratory.technologist, one.id, one.id, WHY)


async def test_another_laboratorys_patient_is_nobody(laboratory: Laboratory, other_organization: Organization) -> None:
    theirs = await found(laboratory.database, other_organization.id)
    stranger, mine = await add(theirs, patient("P1")), await add(laboratory, patient("P1"))
    for prior, survivor in ((stranger.id, mine.id), (mine.id, stranger.id)):
        with pytest.raises(ApiError) as caught:
            await merge(laboratory, prior, survivor)
        assert caught.value.status == 404
    with pytest.raises(ApiError):
        await unmerge(laboratory, stranger.id)
    with pytest.raises(ApiError):
        await update(laboratory, stranger, PatientChange(family="Mine"))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        assert await rows.persons(connection, [stranger.id]) == {}
        assert await rows.lock_persons(connection, [stranger.id, mine.id]) == {mine.id: (mine.id,)}
        assert await rows.identifiers(connection, [stranger.id]) == {}
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await rows.point(connection, {mine.id: stranger.id})
    assert said(await get(theirs, stranger.id)) == said(stranger)


# ---- at the same moment ----------------------------------------------------------------------------------------------


async def test_two_merges_that_cross_make_one(laboratory: Laboratory) -> None:
    for _ in range(3):
        one, other = (await add(laboratory)).id, (await add(laboratory)).id
        done = await asyncio.gather(
            merge(laboratory, one, other), merge(laboratory, other, one), return_exceptions=True
        )
        refused = [answer for answer in done if isinstance(answer, ApiError)]
        assert [answer.status for answer in refused] == [409]
        into = {(await get(laboratory, each)).merged_into for each in (one, other)}
        assert None in into
        assert len(into) == 2


async def test_an_order_made_during_a_merge_waits_and_goes_to_the_survivor(laboratory: Laboratory) -> None:
    prior, survivor = await add(laboratory, patient("P1")), await add(laboratory, patient("P2"))
    new = replace(order(), patient=patient("P1"))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await people.merge(connection, laboratory.technologist, prior.id, survivor.id, WHY)
        ordering = asyncio.create_task(laboratory.order(new))
        await _waits(laboratory)
        assert not ordering.done()
    assert (await ordering).patient_id == survivor.id


async def test_a_merge_waits_for_an_order_that_is_being_made(laboratory: Laboratory) -> None:
    prior, survivor = await add(laboratory, patient("P1")), await add(laboratory, patient("P2"))
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        made = await create_order(connection, laboratory.technologist, replace(order(), patient=patient("P1")))
        merging = asyncio.create_task(merge(laboratory, prior.id, survivor.id))
        await _waits(laboratory)
        assert not merging.done()
    assert made.patient_id == prior.id
    assert (await merging).replaces == (prior.id,)


async def test_a_merge_waits_for_who_decides_on_a_record_of_the_person(laboratory: Laboratory) -> None:
    a, b, c = [(await add(laboratory)).id for _ in range(3)]
    await merge(laboratory, a, b)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        assert await rows.lock_persons(connection, [a]) == {a: (b, a)}
        merging = asyncio.create_task(merge(laboratory, b, c))
        await _waits(laboratory)
        assert not merging.done()
        assert await rows.persons(connection, [a]) == {a: (b, a)}
    await merging


async def test_who_decides_knows_a_person_as_the_survivor_says_with_what_all_records_carry(
    laboratory: Laboratory,
) -> None:
    prior, survivor = await add(laboratory, patient("P1")), await add(laboratory, patient("P2"))
    other = await add(laboratory, patient("P3"))
    await merge(laboratory, prior.id, survivor.id)
    await update(laboratory, await get(laboratory, survivor.id), PatientChange(family="Weber"))
    async with laboratory.database.by_index(laboratory.organization_id) as connection:
        found = await surroundings._lock_patients(connection, {prior.id, survivor.id, other.id})
    both = tuple(sorted(map(str, (prior.id, survivor.id))))
    assert {of: (facts.id, facts.family, facts.identifiers, person) for of, (facts, person) in found.items()} == {
        prior.id: (str(prior.id), "Weber", ("P1", "P2"), both),
        survivor.id: (str(survivor.id), "Weber", ("P1", "P2"), both),
        other.id: (str(other.id), other.family, ("P3",), (str(other.id),)),
    }


@pytest.mark.parametrize("lock", [rows.lock_persons, surroundings._lock_patients])
async def test_who_waited_for_a_merge_begins_again(laboratory: Laboratory, lock: Any) -> None:
    """The records of the person are more than what was to be locked: nothing is decided on half of them."""
    prior, survivor = (await add(laboratory)).id, (await add(laboratory)).id

    async def decide() -> Any:
        async with laboratory.database.transaction(laboratory.organization_id) as connection:
            return await lock(connection, {survivor})

    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await people.merge(connection, laboratory.technologist, prior, survivor, WHY)
        deciding = asyncio.create_task(decide())
        await _waits(laboratory)
    with pytest.raises(StoreUnavailable):
        await deciding
    known = (await decide())[survivor]
    assert known == (survivor, prior) or known[1] == tuple(sorted(map(str, (survivor, prior))))


async def test_any_merges_and_splits_leave_what_the_model_says(laboratory: Laboratory) -> None:
    """Seeded steps, legal or not, beside the merges in force: refused or done as `domain.merges` has it."""
    chosen = random.Random(20261126)  # noqa: S311
    ids = [(await add(laboratory)).id for _ in range(6)]
    before = [said(await get(laboratory, id)) for id in ids]
    parents: dict[UUID, UUID] = {}
    done = {"merge": 0, "unmerge": 0, "refused": 0}
    for _ in range(50):
        prior, survivor = chosen.sample(ids, 2)
        step = chosen.choice(("merge", "unmerge"))
        if step == "unmerge" and chosen.random() < 0.7:
            prior = chosen.choice([id for id in ids if id in parents] or ids)
        try:
            if step == "merge":
                assert (await merge(laboratory, prior, survivor)).id == merges.root(parents, survivor)
                parents[prior] = survivor
            else:
                assert (await unmerge(laboratory, prior)).id == prior
                del parents[prior]
            done[step] += 1
        except ApiError as error:
            assert error.status == 409
            legal = prior not in parents and survivor not in parents if step == "merge" else prior in parents
            assert not legal
            done["refused"] += 1
        assert {id: (await get(laboratory, id)).merged_into for id in ids} == merges.survivors(parents, ids)
    assert min(done.values()) >= 5, done
    while parents:
        prior = chosen.choice(sorted(parents))
        await unmerge(laboratory, prior)
        del parents[prior]
    assert [said(await get(laboratory, id)) for id in ids] == before


async def _waits(laboratory: Laboratory) -> None:
    """Until somebody of this laboratory waits for a lock."""
    statement = """select exists (
        select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')"""
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        while not await connection.fetchval(statement):  # noqa: ASYNC110  a lock that is waited for tells nobody
            await asyncio.sleep(0)


# ---- who may be the same ---------------------------------------------------------------------------------------------


async def test_who_may_be_the_same_is_found_by_day_name_and_number(laboratory: Laboratory) -> None:
    eva = replace(patient("4711", "Müller"), birth_date=date(1980, 5, 12), sex=Sex.FEMALE)
    of = await add(laboratory, eva)
    swapped = await add(laboratory, replace(patient("P2", "Mueller"), birth_date=date(1980, 12, 5), sex=Sex.FEMALE))
    numbered = await add(laboratory, replace(patient("x", "Müller"), identifiers=(IdentifierView("urn:b", "4711"),)))
    married = await add(laboratory, replace(patient("P3", "Schmidt"), birth_date=date(1980, 5, 12), sex=Sex.FEMALE))
    twin = await add(laboratory, replace(patient("P4", "Müller"), given="Ida", birth_date=date(1980, 5, 12)))
    merged = await add(laboratory, replace(eva, identifiers=patient("P5").identifiers))
    await merge(laboratory, merged.id, of.id)
    for asked in (of.id, merged.id):
        async with laboratory.database.organization(laboratory.organization_id) as connection:
            alike = await people.duplicates_of(connection, asked)
        assert {one.patient.id for one in alike} == {swapped.id, numbered.id, married.id}
        assert [one.score for one in alike] == sorted((one.score for one in alike), reverse=True)
        assert {one.patient.id for one in alike if one.likely} == {numbered.id}
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        before = await people.duplicates(connection, people.demographics(eva))
        assert before[0].patient.id == of.id
        assert twin.id not in {one.patient.id for one in before}
        unborn = await people.duplicates(connection, people.demographics(replace(eva, birth_date=None)))
        assert unborn[0].patient.id == of.id, "the same number"
        assert await people.duplicates(connection, people.demographics(NewPatient(family="Nobody"))) == []
        with pytest.raises(ApiError):
            await people.duplicates_of(connection, uuid7())


# ---- finding ---------------------------------------------------------------------------------------------------------

MANY = 20_000
FILL = """
insert into lab.patient (id, organization_id, family, given, birth_date)
select ('00000000-0000-7000-8000-' || lpad(to_hex($2::int + n), 12, '0'))::uuid, $1, 'Family' || n % 4000,
       'Given' || n % 300,
       date '1930-01-01' + n % 36000 from generate_series(1, $3::int) as n
"""
WORDS = """
insert into lab.patient_word (organization_id, word, patient_id, part)
select p.organization_id, lower(w.word), p.id, w.part
from lab.patient p cross join lateral (values ('family', p.family), ('given', p.given)) as w (part, word)
where p.organization_id = $1 and not exists (select from lab.patient_word k where k.patient_id = p.id)
"""


async def test_a_name_is_found_by_an_index_among_many_under_row_level_security(founded_url: str) -> None:
    """`founded_url`: a database of its own, whose statistics are then of these patients."""
    from tests.cluster import owner_of
    from tests.conftest import make_organization

    owner = await asyncpg.connect(owner_of(founded_url))
    database = await Database.connect(founded_url)
    try:
        mine, theirs = await make_organization(owner), await make_organization(owner)
        for place, organization in enumerate((mine, theirs)):
            await owner.execute(FILL, organization.id, place * MANY, MANY)
            await owner.execute(WORDS, organization.id)
        laboratory = await found(database, mine.id)
        eva = await add(laboratory, NewPatient(family="Müller-Lüdenscheidt", given="Eva Maria"))
        await owner.execute("analyze lab.patient")
        await owner.execute("analyze lab.patient_word")
        assert await search(laboratory, name="maria luden") == [eva.id]
        for filter in (
            PatientFilter(name="maria luden"),
            PatientFilter(family="family399", given="given12"),
            PatientFilter(born_since=date(1980, 1, 1), born_until=date(1980, 1, 2)),
            PatientFilter(identifier="4711"),
        ):
            plan = await _plan(database, mine.id, filter)
            assert "Seq Scan" not in plan, plan
            if filter.name or filter.family:
                assert "patient_word_pkey" in plan
                assert "word >= " in plan.split("patient_word_pkey", 1)[1].split("Filter", 1)[0], plan
    finally:
        await database.close()
        await owner.close()


async def _plan(database: Database, organization_id: UUID, filter: PatientFilter) -> str:
    query = patients._query(filter)
    end = query.page(filter.page, "p.updated_at", "p.id")
    text = " ".join(("explain", patients._PATIENTS, query.conditions, end))
    async with database.organization(organization_id) as connection:
        return "\n".join([row[0] for row in await connection.fetch(text, *query.values)])


async def test_a_search_by_what_no_name_begins_with_finds_nobody(laboratory: Laboratory) -> None:
    await add(laboratory, patient(uuid4().hex, "Muster"))
    assert await search(laboratory, name="%") == []
    assert await search(laboratory, name="must") != []
