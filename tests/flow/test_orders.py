from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from uuid import uuid4

import pytest

from interface.domain.model import ItemStatus, Priority, Sex
from interface.domain.permissions import Role
from interface.domain.specimens import own_number
from interface.domain.views import Audience, IdentifierView, OrderView
from interface.errors import ApiError
from interface.flow.orders import NewOrder, NewPatient, NewSpecimen, OrderError, create_order
from interface.flow.people import create_patient
from interface.store import lab, patients
from interface.store.db import Database
from interface.store.ids import uuid7
from tests.conftest import Organization
from tests.records import Laboratory, found, order, patient, user


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


async def refused(laboratory: Laboratory, new: NewOrder) -> OrderError:
    with pytest.raises(OrderError) as caught:
        await laboratory.order(new)
    return caught.value


async def test_an_order_gets_number_barcode_patient_and_audit_row(laboratory: Laboratory) -> None:
    made = await laboratory.order(order("HGB", "GLU"))
    year = datetime.now(UTC).year
    assert made.number == f"{year}-000001"
    assert [item.test_code for item in made.items] == ["HGB", "GLU"]
    assert {item.barcode for item in made.items} == {own_number(f"{year % 100}000001", 1)}
    assert await laboratory.count("audit_event", "entity_id = $1 and action = 'create'", made.id) == 1
    assert await laboratory.count("audit_event", "entity_id = $1 and action = 'create'", made.patient_id) == 1


async def test_numbers_count_up_within_an_organization_only(
    laboratory: Laboratory, other_organization: Organization
) -> None:
    other = await found(laboratory.database, other_organization.id)
    numbers = [(await laboratory.order()).number[-6:] for _ in range(2)]
    assert numbers == ["000001", "000002"]
    assert (await other.order()).number.endswith("-000001")


async def test_a_panel_is_ordered_as_its_tests_and_each_test_once(laboratory: Laboratory) -> None:
    made = await laboratory.order(order("WBC", "CBC"))
    assert [item.test_code for item in made.items] == ["WBC", "HGB"]


async def test_items_begin_where_their_specimen_is(laboratory: Laboratory) -> None:
    now = datetime.now(UTC)
    specimens = (
        NewSpecimen(("HGB",)),
        NewSpecimen(("HGB",), collected_at=now),
        NewSpecimen(("HGB",), received_at=now),
    )
    made = await laboratory.order(NewOrder(specimens, patient()))
    assert [item.status for item in made.items] == [ItemStatus.REQUESTED, ItemStatus.COLLECTED, ItemStatus.RECEIVED]


async def test_everything_wrong_is_said_at_once_and_nothing_is_stored(laboratory: Laboratory) -> None:
    specimens = (NewSpecimen((), " X"), NewSpecimen(("HGB",), "A\x00B"), NewSpecimen(("HGB",), "A\x00B"))
    bad = NewOrder(specimens, NewPatient(), ordered_at=datetime(2026, 1, 1))  # noqa: DTZ001
    problems = (await refused(laboratory, bad)).problems
    assert len(problems) == 7
    assert "specimen 1: no test is ordered on it" in problems
    assert "two specimens of the order carry the same barcode" in problems
    assert "a patient needs an identifier or a family name" in problems
    assert await laboratory.count("lab_order", "true") == 0


async def test_unknown_codes_are_all_named_and_leave_no_patient(laboratory: Laboratory) -> None:
    error = await refused(laboratory, order("NOPE", "HGB", "NADA"))
    assert error.problems == ('there is no test or panel "NOPE"', 'there is no test or panel "NADA"')
    assert await laboratory.count("patient", "true") == 0


@pytest.mark.parametrize(
    ("new", "text"),
    [
        (NewOrder((), patient()), "an order needs at least one specimen"),
        (NewOrder((NewSpecimen(("HGB",)),)), "an order names either a patient or a patient's id"),
        (NewOrder((NewSpecimen(("HGB",)),), patient(), uuid7()), "an order names either a patient or a patient's id"),
        (
            NewOrder((NewSpecimen(("HGB",), collected_at=datetime(2999, 1, 1, tzinfo=UTC)),), patient()),
            "specimen 1: collected_at is in the future",
        ),
        (NewOrder((NewSpecimen(("HGB",)),), patient_id=uuid7()), "there is no patient with this id"),
        (
            NewOrder((NewSpecimen(("HGB",)),), NewPatient(family="A", birth_date=date.max)),
            "the birth date is in the future",
        ),
    ],
)
async def test_what_makes_no_order_is_refused(laboratory: Laboratory, new: NewOrder, text: str) -> None:
    assert (await refused(laboratory, new)).problems == (text,)


async def test_a_child_may_be_born_on_a_day_that_has_not_begun_in_utc(laboratory: Laboratory) -> None:
    """In Jakarta it is tomorrow for seven hours of each day."""
    today = datetime.now(timezone(timedelta(hours=14))).date()
    born = NewPatient(family="Newborn", birth_date=today)
    assert (await laboratory.order(NewOrder((NewSpecimen(("HGB",)),), born))).patient_id


async def test_an_open_barcode_is_refused_and_a_closed_one_is_free_again(laboratory: Laboratory) -> None:
    barcode = uuid4().hex
    first = await laboratory.order(order(barcode=barcode))
    error = await refused(laboratory, order(barcode=barcode))
    assert error.conflict
    assert barcode in str(error)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await connection.execute(
            "update lab.specimen set state = 'exhausted', status = 'unavailable' where order_id = $1", first.id
        )
    assert (await laboratory.order(order(barcode=barcode))).items[0].barcode == barcode


async def test_a_generated_barcode_is_never_one_that_is_in_use(laboratory: Laboratory) -> None:
    stem = f"{datetime.now(UTC).year % 100}000002"
    await laboratory.order(order(barcode=own_number(stem, 1)))
    assert (await laboratory.order()).items[0].barcode == own_number(stem, 2)


async def test_the_patient_is_found_by_identifier_and_keeps_what_is_known(laboratory: Laboratory) -> None:
    first = await laboratory.order(replace(order(), patient=patient("P1", "Muster")))
    second = await laboratory.order(replace(order(), patient=patient("P1", "Married")))
    assert first.patient_id == second.patient_id
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        [known] = await patients.find_patients(connection, patients.PatientFilter(identifier="P1"))
    assert known.family == "Muster"


async def test_the_same_value_of_another_authority_is_another_patient(laboratory: Laboratory) -> None:
    other = NewPatient((IdentifierView("urn:other", "P1"),), "Muster")
    first = await laboratory.order(replace(order(), patient=patient("P1")))
    second = await laboratory.order(replace(order(), patient=other))
    assert first.patient_id != second.patient_id


async def test_an_identifier_with_another_birth_date_or_sex_is_another_person(laboratory: Laboratory) -> None:
    known = replace(patient("P1"), birth_date=date(1980, 1, 1), sex=Sex.FEMALE)
    await laboratory.order(replace(order(), patient=known))
    for other in (replace(known, birth_date=date(1980, 1, 2)), replace(known, sex=Sex.MALE)):
        error = await refused(laboratory, replace(order(), patient=other))
        assert error.conflict
        assert "P1" not in str(error)
        assert "1980" not in str(error)


async def test_a_number_that_twins_share_does_not_give_the_ones_order_to_the_other(laboratory: Laboratory) -> None:
    shared = IdentifierView("urn:insurance", "F-9")
    born = date(2020, 1, 1)
    ada = replace(patient("P1"), identifiers=(*patient("P1").identifiers, shared), birth_date=born, given="Ada")
    bea = replace(patient("P2"), identifiers=(*patient("P2").identifiers, shared), birth_date=born, given="Bea")
    first = await laboratory.order(replace(order(), patient=ada))
    assert "another number of the same authority" in str(await refused(laboratory, replace(order(), patient=bea)))
    moved = replace(ada, identifiers=(*patient("P1").identifiers, IdentifierView("urn:insurance", "F-10")))
    for same in (moved, replace(ada, identifiers=(*patient("P3").identifiers, shared))):
        assert (await laboratory.order(replace(order(), patient=same))).patient_id == first.patient_id


async def test_identifiers_of_two_patients_are_refused(laboratory: Laboratory) -> None:
    for identifier in ("P1", "P2"):
        await laboratory.order(replace(order(), patient=patient(identifier)))
    both = NewPatient(patient("P1").identifiers + patient("P2").identifiers)
    assert (await refused(laboratory, replace(order(), patient=both))).conflict


async def test_the_same_order_again_is_the_same_order(laboratory: Laboratory) -> None:
    new = order("CBC", placer_number="EMR-1")
    first, again = await laboratory.order(new), await laboratory.order(new)
    assert first == again
    assert await laboratory.count("lab_order", "true") == 1
    assert await laboratory.count("audit_event", "action = 'create' and entity_kind = 'order'") == 1


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"priority": Priority.STAT}, "priority"),
        ({"clinical_history": "other"}, "clinical history"),
        ({"patient": patient("somebody else")}, "patient"),
        ({"specimens": (NewSpecimen(("WBC",)),)}, "specimens and tests"),
        ({"specimens": (NewSpecimen(("HGB",)), NewSpecimen(("HGB",)))}, "specimens and tests"),
        ({"ordered_at": datetime.now(UTC) - timedelta(days=1)}, "time of the order"),
    ],
)
async def test_another_order_under_the_same_placer_number_is_refused(
    laboratory: Laboratory, change: dict[str, object], differs: str
) -> None:
    new = order("HGB", placer_number="EMR-1")
    await laboratory.order(new)
    error = await refused(laboratory, replace(new, **change))  # type: ignore[arg-type]
    assert error.conflict
    assert str(error).endswith(f"with a different {differs}")


async def test_the_same_order_from_two_sides_at_once_is_made_once(laboratory: Laboratory) -> None:
    new = order("HGB", placer_number="EMR-1")
    made: list[OrderView] = await asyncio.gather(*(laboratory.order(new) for _ in range(4)))
    assert len({one.id for one in made}) == 1


async def test_orders_for_one_new_patient_at_once_make_one_patient(laboratory: Laboratory) -> None:
    made = await asyncio.gather(*(laboratory.order(replace(order(), patient=patient("P1"))) for _ in range(4)))
    assert len({one.patient_id for one in made}) == 1
    assert len({one.number for one in made}) == 4


async def test_a_user_who_may_not_order_cannot(laboratory: Laboratory) -> None:
    viewer = user(laboratory.organization_id, Role.VIEWER)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        with pytest.raises(ApiError, match="order:write"):
            await create_order(connection, viewer, order())
        with pytest.raises(ApiError, match="patient:write"):
            await create_patient(connection, viewer, patient())


async def test_a_patient_is_created_once(laboratory: Laboratory) -> None:
    new = replace(patient("P1"), birth_date=date(1980, 1, 1), sex=Sex.FEMALE)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        made = await create_patient(connection, laboratory.technologist, new)
        assert (made.family, made.given, made.birth_date, made.sex) == ("Muster", "Eva", date(1980, 1, 1), Sex.FEMALE)
        assert made.identifiers == new.identifiers
        with pytest.raises(OrderError) as caught:
            await create_patient(connection, laboratory.technologist, new)
    assert caught.value.conflict
    assert await laboratory.count("audit_event", "entity_id = $1", made.id) == 1


async def test_one_laboratory_never_uses_anothers_patient_test_or_order(
    laboratory: Laboratory, other_organization: Organization
) -> None:
    other = await found(laboratory.database, other_organization.id)
    theirs = await other.order(replace(order(placer_number="EMR-1", barcode="B1"), patient=patient("P1")))
    ours = await laboratory.order(replace(order(placer_number="EMR-1", barcode="B1"), patient=patient("P1")))
    assert theirs.id != ours.id
    assert theirs.patient_id != ours.patient_id
    assert (await refused(laboratory, NewOrder((NewSpecimen(("HGB",)),), patient_id=theirs.patient_id))).problems
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        assert await lab.get_order(connection, theirs.id, Audience.STAFF) is None
