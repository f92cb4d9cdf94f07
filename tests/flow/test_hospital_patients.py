"""A hospital's patients: admitted, changed, merged and found again by every number they ever had; all of it audited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from interface.domain.model import Sex
from interface.domain.permissions import permissions
from interface.domain.views import Actor, ActorKind, IdentifierView, OrderView, PatientView
from interface.flow import criticals, people
from interface.flow.criticals import Told
from interface.flow.orders import NewOrder, NewSpecimen, create_order
from interface.flow.people import NewPatient
from interface.flow.problems import OrderError
from interface.store import patients
from interface.store.ids import uuid7
from interface.store.patients import PatientFilter
from tests.flow.hospital_use import PID, Hospital, Said, hospital, link_of, message, order
from tests.flow.laboratory import laboratory
from tests.flow.test_judged_for_certain import CRITICAL, intervals, measured
from tests.flow.test_two_links import waits_for_a_lock


@pytest.fixture
async def his(database_url: str) -> AsyncIterator[Hospital]:
    async with hospital(database_url) as made:
        yield made


async def known(his: Hospital) -> list[PatientView]:
    """All records, oldest first."""
    async with his.lab.database.organization(his.lab.organization_id) as connection:
        found = await patients.find_patients(connection, PatientFilter())
    return sorted(found, key=lambda one: one.id)


def pid(number: str = "P-1", name: str = "MUSTER^MARIA", born: str = "19800501", sex: str = "F") -> str:
    return f"PID|1||{number}^^^HOSP^MR||{name}||{born}|{sex}"


async def merge(his: Hospital, survivor: str, prior: str, name: str = "MUSTER^MARIA") -> Said:
    return await his.adt("A40^ADT_A39", pid(survivor, name), f"MRG|{prior}^^^HOSP^MR")


async def actions(his: Hospital, patient: PatientView) -> list[tuple[str, str]]:
    """What was done to the record, and by whom."""
    rows = await his.lab.owner.fetch(
        "select action, actor_kind from lab.audit_event where entity_id = $1 order by id", patient.id
    )
    return [(row["action"], row["actor_kind"]) for row in rows]


async def test_a_patient_is_added_and_changed_by_every_event_that_says_one(his: Hospital) -> None:
    for at, event in enumerate(("A01", "A04", "A08", "A28", "A31")):
        added = await his.adt(f"{event}^ADT_A01", pid(event), "PV1|1|I|3B")
        assert (added.kind, added.code, added.errors) == (f"ACK^{event}", "AA", [])
        changed = await his.adt(f"{event}^ADT_A01", pid(event, "MODEL^MARIA^ANNA", "19800502", "O"))
        one = (await known(his))[at]
        assert changed.code == "AA"
        assert (one.family, one.given, str(one.birth_date), one.sex) == ("MODEL", "MARIA ANNA", "1980-05-02", Sex.OTHER)
        assert [(each.authority, each.value, each.type) for each in one.identifiers] == [("HOSP", event, "MR")]
        assert await actions(his, one) == [("create", "link"), ("update", "link")]
        version = one.version
        await his.adt(f"{event}^ADT_A01", pid(event, "MODEL^MARIA^ANNA", "19800502", "O"))
        assert (await known(his))[at].version == version, "the same again changes nothing"


async def test_what_is_not_said_stays_and_what_is_taken_back_goes(his: Hospital) -> None:
    await his.adt("A01", pid(born="198005011230+0100"))
    [one] = await known(his)
    assert one.birth_at is not None and one.birth_at.isoformat() == "1980-05-01T11:30:00+00:00"
    await his.adt("A08", "PID|1||P-1^^^HOSP||||19800501")
    [same] = await known(his)
    assert (same.family, same.sex, same.birth_at, same.version) == (one.family, one.sex, one.birth_at, one.version)
    await his.adt("A08", 'PID|1||P-1^^^HOSP||||""|""')
    [gone] = await known(his)
    assert (gone.birth_date, gone.birth_at, gone.sex, gone.family) == (None, None, Sex.UNKNOWN, "MUSTER")


async def test_several_persons_of_a_message_are_locked_in_the_order_in_which_everybody_locks(his: Hospital) -> None:
    """Else whoever decides results of both at that moment and the message wait for each other."""
    for number in ("P-1", "P-2"):
        await his.adt("A01", pid(number))
    first, second = await known(his)
    async with his.lab.database.transaction(his.lab.organization_id) as deciding:
        await deciding.execute("select from lab.patient where id = $1 for update", first.id)
        telling = asyncio.create_task(his.adt("A08", pid("P-2", "MODEL^MARIA"), pid("P-1", "MODEL^MARIA")))
        await waits_for_a_lock(his.lab)
        await deciding.execute("select from lab.patient where id = $1 for update nowait", second.id)
    assert (await telling).code == "AA"
    assert [one.family for one in await known(his)] == ["MODEL", "MODEL"]


async def test_what_cannot_be_read_is_left_out_with_a_warning(his: Hospital) -> None:
    said = await his.adt("A08", pid(born="19801345", sex="X"))
    assert said.code == "AA"
    assert said.errors == [("PID^1^7", "102", "W"), ("PID^1^8", "103", "W")]
    [one] = await known(his)
    assert (one.family, one.birth_date, one.sex) == ("MUSTER", None, Sex.UNKNOWN)


async def test_a_second_number_is_added_and_one_of_another_patient_is_refused(his: Hospital) -> None:
    await his.adt("A01", pid())
    await his.adt("A01", pid("P-2", "OTHER^OLGA"))
    await his.adt("A08", pid().replace("HOSP^MR", "HOSP^MR~X-9^^^CARD^SS"))
    first, _ = await known(his)
    assert [each.value for each in first.identifiers] == ["P-1", "X-9"]
    clash = await his.adt("A08", pid().replace("HOSP^MR", "HOSP^MR~P-2^^^HOSP^MR"))
    assert (clash.code, clash.errors) == ("AE", [("PID^1", "207", "E")])
    assert "different patients" in clash.words[0]


async def test_a_number_that_a_family_shares_makes_no_two_of_them_one(his: Hospital) -> None:
    """The insurance's number led to the mother: her record became the child's, and the child's orders were hers."""
    shared = "~F-9^^^INS^MB"
    mother, child = pid("P-1"), pid("P-2", "MUSTER^KIND", "20260101", "M")
    mother, child = (one.replace("HOSP^MR", f"HOSP^MR{shared}") for one in (mother, child))
    await his.adt("A01", mother)
    said = await his.adt("A01", child)
    assert (said.code, "another number of the same authority" in said.words[0]) == ("AE", True)
    twin = child.replace("20260101", "19800501")
    assert (await his.oml(*order("1", "K"), pid=twin)).controls == ["UA"]
    [one] = await known(his)
    assert (one.given, [each.value for each in one.identifiers]) == ("MARIA", ["P-1", "F-9"])
    for visit in ("V-1", "V-2"):
        assert (await his.adt("A08", f"PID|1||P-1^^^HOSP^MR~{visit}^^^HOSP^VN~F-{visit}^^^INS^MB")).code == "AA", (
            "each visit has its number"
        )
    again = pid("P-7").replace("HOSP^MR", f"HOSP^MR{shared}")
    assert (await his.adt("A01", again)).code == "AA", "registered twice: of one name, born on one day"
    assert [each.value for each in (await known(his))[0].identifiers][-1] == "P-7"


async def test_a_number_of_the_state_that_is_put_right_is_no_other_person(his: Hospital) -> None:
    """A newborn gets a name and a number in place of the first one; a mistyped number has a birth date in it."""
    state = "HOSP^MR~{}^^^STATE^NI"
    child = pid("P-1", "MUSTER^KIND", "20260101", "M")
    await his.adt("A01", child.replace("HOSP^MR", state.format("TEMP-1")))
    named = pid("P-1", "MUSTER^EMIL", "20260101", "M").replace("HOSP^MR", state.format("010126-1"))
    assert (await his.adt("A08", named)).code == "AA"
    assert (await his.oml(*order("1", "K"), pid=named)).controls == ["OK"]
    right = named.replace("010126-1", "020126-1").replace("20260101", "20260102")
    assert (await his.adt("A08", right)).code == "AA"
    mother = pid("P-2")
    await his.adt("A01", mother.replace("HOSP^MR", state.format("010580-2")))
    said = await his.adt("A08", named.replace("P-1^", "P-2^").replace("010126-1", "030126-1"))
    assert said.code == "AE", "of another name and birth date it is another person, the mother's number or not"
    assert [one.given for one in await known(his)] == ["EMIL", "MARIA"]


async def test_a_message_without_its_patient_is_refused(his: Hospital) -> None:
    for event, segments, place in (
        ("A01", [], "PID^1"),
        ("A08", ["PID|1||P-1"], "PID^1^3^1^4"),
        ("A08", ["PID|1"], "PID^1^3"),
        ("A40", [pid()], "PID^1"),
        ("A40", [pid(), "MRG|"], "MRG^1^1"),
        ("A40", [pid(), "MRG|P-1^^^HOSP"], "PID^1"),
    ):
        said = await his.adt(event, *segments)
        assert said.code == "AE" and place in [where for where, _, _ in said.errors]
    assert await his.count("patient") == 0


async def test_events_that_say_nothing_of_whose_a_record_is_are_taken(his: Hospital) -> None:
    for event in ("A02", "A03", "A11", "A13", "A60"):
        assert (await his.adt(event, pid())).code == "AA"
    assert await his.count("patient") == 0
    assert (await his.adt("A30", pid(), "MRG|P-2^^^HOSP")).code == "AR", (
        "a merge that is not understood is never ignored"
    )


async def test_who_is_moved_to_another_ward_takes_what_is_still_to_be_told_along(his: Hospital) -> None:
    """A critical result was called to the ward that she had left. A12 says where she was before (HL7 v2.5.1 3.3.12)."""
    for number, patient in (("1", "P-1"), ("2", "P-1"), ("3", "P-1"), ("4", "P-2")):
        await his.oml("PV1|1|I|3A", *order(number, "K", barcode=f"B-{number}"), pid=pid(patient))
    assert (await his.oml(*order("2", control="CA"), pid="")).controls == ["CR"]
    for barcode, status in (("B-1", "completed"), ("B-3", "verified")):
        await his.lab.owner.execute(
            "update lab.order_item i set status = $2 from lab.specimen s where s.id = i.specimen_id and s.barcode = $1",
            barcode, status,
        )  # fmt: skip
    for event, ward, now in (
        ("A02", "ICU", "ICU"), ("A12", "3A", "3A"), ("A01", "ICU^1^2", "ICU"), ("A08", "X", "ICU"), ("A03", "X", "ICU"),
    ):  # fmt: skip
        said = await his.adt(event, pid(), f"PV1|1|I|{ward}")
        assert (said.code, said.errors) == ("AA", [])
        assert [one.ward for one in await his.orders()] == [now, "3A", "3A", "3A"], event
    for who in (pid("P-9"), pid("P-1", "ANDERS^ERIKA", "19700101"), "PID|1", "PID|1||P-1", pid().replace("PID", "ZID")):
        assert (await his.adt("A02", who, "PV1|1|I|OPS")).code == "AA"
    too_long = await his.adt("A02", pid(), f"PV1|1|I|{'W' * 2000}")
    assert (too_long.code, [severity for _, _, severity in too_long.errors]) == ("AA", ["W"])
    assert next(one.ward for one in await his.orders()) == "ICU", "nobody here, somebody else, or no ward"
    assert await his.count("patient") == 2
    changes = await his.lab.owner.fetch(
        "select detail ->> 'ward' as ward from lab.audit_event where action = 'update' and entity_kind = 'order'"
        " order by id"
    )
    assert [row["ward"] for row in changes] == ["3A → ICU", "ICU → 3A", "3A → ICU"]


async def test_a_transfer_that_is_told_late_moves_nobody_back(his: Hospital) -> None:
    """Of another queue that stood, or said once more: EVN-2 was before the ward of now was said. A critical result was
    called to the ward of the morning."""

    async def told(event: str, at: str, ward: str) -> str:
        block = message(f"ADT^{event}", f"EVN||{at}", pid(), f"PV1|1|I|{ward}")
        assert (await his.send(block)).code == "AA"
        [made] = await his.orders()
        return made.ward

    def asked(number: str, at: str, control: str = "NW") -> list[str]:
        orc, *others = order(number, "K" if number == "1" else "NA", control=control, barcode="B-1")
        return [f"{orc}{'|' * (9 - orc.count('|'))}{at}", *others]

    await his.oml("PV1|1|I|ICU", *asked("1", "20260105100000"))
    assert await told("A01", "20260105070000", "3A") == "ICU", "she was ordered for on the next ward since"
    assert await told("A02", "20260105110000", "OPS") == "OPS"
    assert await told("A02", "20260105103000", "3B") == "OPS"
    await his.oml("PV1|1|I|ICU", *asked("2", "20260105120000"))
    assert await told("A02", "20260105113000", "3B") == "ICU"
    await his.oml("PV1|1|I|4B", *asked("2", "20260105130000", "XO"))
    assert await told("A02", "20260105123000", "3B") == "4B"
    assert await told("A02", "20260105", "3B") == "3B", "when, is not said"


async def test_where_a_patient_is_said_to_be_still_is_when_it_was_said(his: Hospital) -> None:
    """Who is said to be on the ward that the order has stays there, whatever is told late of the time before: when her
    ward was said was that of the first time, and a critical result was called to the ward that she had left."""

    async def told(event: str, at: str, ward: str) -> str:
        block = message(f"ADT^{event}", f"EVN||{at}", pid(), f"PV1|1|I|{ward}")
        assert (await his.send(block)).code == "AA"
        [made] = await his.orders()
        return made.ward

    def asked(number: str, code: str, at: str, control: str = "NW", *more: str) -> list[str]:
        orc, *others = order(number, code, *more, control=control, barcode="B-1")
        return [f"{orc}{'|' * (9 - orc.count('|'))}{at}", *others]

    await his.oml("PV1|1|I|3A", *asked("1", "K", "20260105080000"))
    [before] = await his.orders()
    assert await told("A02", "20260105100000", "3A") == "3A", "back from the theatre"
    assert await told("A02", "20260105090000", "OPS") == "3A", "to which she had gone before"
    await his.oml("PV1|1|I|3A", *asked("2", "NA", "20260105120000"))
    assert await told("A02", "20260105110000", "OPS") == "3A"
    await his.oml("PV1|1|I|3A", *asked("2", "CL", "20260105140000", "XO"))
    assert await told("A02", "20260105130000", "OPS") == "3A"
    assert await told("A02", "20260105150000", "OPS") == "OPS"
    changes = await his.lab.owner.fetch(
        "select detail from lab.audit_event where action = 'update' and entity_id = $1", before.id
    )
    assert sum("ward" in str(row["detail"]) for row in changes) == 1


async def test_who_is_on_no_ward_that_is_known_is_moved_to_one_that_is_told_late(his: Hospital) -> None:
    """No ward was taken for the ward that the order has: a critical result was called to none."""

    def asked(number: str, code: str, at: str) -> list[str]:
        orc, *others = order(number, code, barcode="B-1")
        return [f"{orc}{'|' * (9 - orc.count('|'))}{at}", *others]

    await his.oml(*asked("1", "K", "20260105080000"))
    await his.oml(*asked("2", "NA", "20260105120000"))
    block = message("ADT^A02", "EVN||20260105110000", pid(), "PV1|1|I|3A")
    assert (await his.send(block)).code == "AA"
    [made] = await his.orders()
    assert made.ward == "3A"


async def test_an_order_of_a_clock_that_is_a_little_ahead_is_of_now(his: Hospital) -> None:
    """When its ward was said was not kept: an event that was told late moved its patient back."""
    now = datetime.now(UTC)
    orc, *others = order("1", "K", barcode="B-1")
    await his.oml(
        "PV1|1|I|ICU", f"{orc}{'|' * (9 - orc.count('|'))}{now + timedelta(minutes=1):%Y%m%d%H%M%S+0000}", *others
    )
    late = f"{now - timedelta(hours=1):%Y%m%d%H%M%S+0000}"
    await his.send(message("ADT^A02", f"EVN||{late}", pid(), "PV1|1|I|3A"))
    assert [one.ward for one in await his.orders()] == ["ICU"]


async def test_a_transfer_that_was_noted_in_a_time_to_come_keeps_nobody_where_they_are(his: Hospital) -> None:
    """A year that was mistyped, or a clock that was ahead: every later transfer was passed over until then."""

    async def told(at: datetime, ward: str) -> str:
        block = message("ADT^A02", f"EVN||{at:%Y%m%d%H%M%S+0000}", pid(), f"PV1|1|I|{ward}")
        assert (await his.send(block)).code == "AA"
        [made] = await his.orders()
        return made.ward

    await his.oml("PV1|1|I|3A", *order("1", "K", barcode="B-1"))
    now = datetime.now(UTC)
    assert await told(now + timedelta(days=400), "OPS") == "OPS"
    assert await told(now, "ICU") == "ICU"
    assert await told(now - timedelta(hours=1), "3B") == "ICU"
    assert await told(now + timedelta(minutes=1), "3B") == "3B", "whose clock is a little ahead"
    assert await told(now - timedelta(hours=1), "ICU") == "3B"


@pytest.mark.parametrize("ward", ["", "3A"])
async def test_an_order_that_is_said_again_is_the_same_where_the_patient_was_moved_since(
    his: Hospital, ward: str
) -> None:
    """Over REST or FHIR: its ward was another than what was said, and who repeated it since the answer was lost was
    told that its number is another order's."""
    patient = NewPatient((IdentifierView("HOSP", "P-1", "MR"),), "MUSTER", "MARIA", date(1980, 5, 1), Sex.FEMALE)
    new = NewOrder((NewSpecimen(("K",), "B-1"),), patient=patient, placer_number="R-1", ward=ward)

    async def place(one: NewOrder) -> OrderView:
        async with his.lab.database.transaction(his.lab.organization_id) as connection:
            return await create_order(connection, his.lab.director, one)

    made = await place(new)
    assert (await his.send(message("ADT^A02", "EVN", PID, "PV1|1|I|ICU"))).code == "AA"
    assert (await place(new)).id == made.id
    assert (await place(replace(new, ward="ICU"))).ward == "ICU"
    for other in {"", "3A", "4B"} - {ward}:
        with pytest.raises(OrderError, match="ward"):
            await place(replace(new, ward=other))


async def test_a_critical_result_that_nobody_was_told_of_goes_along(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await intervals(lab, "K", CRITICAL | {"low": 3.5, "high": 5.1})
        await lab.order("S-1", "K")
        found = await measured(lab, "K", "8.1")
        await lab.release(found.id)
        his = Hospital(lab, *link_of(lab))
        said = await his.adt("A02", "PID|1||P-1^^^TEST||Muster^Maria||19800501|F", "PV1|1|I|ICU")
        assert (said.code, said.errors) == ("AA", [])
        async with lab.database.organization(lab.organization_id) as connection:
            [task] = await criticals.waiting(connection)
        assert task.ward == "ICU"
        async with lab.database.transaction(lab.organization_id) as connection:
            await criticals.notify(connection, lab.director, task.id, Told("ICU", read_back=True))
        assert (await his.adt("A02", "PID|1||P-1^^^TEST||Muster^Maria||19800501|F", "PV1|1|I|OPS")).code == "AA"
        assert [one.ward for one in await his.orders()] == ["ICU"], (
            "it was told there, whether or not anybody closes it"
        )


async def test_a_merge_leads_every_later_message_to_the_survivor_and_can_be_taken_back(his: Hospital) -> None:
    await his.oml(*order("1", "K", barcode="B-1"), pid=pid("P-OLD"))
    await his.adt("A01", pid("P-NEW", "MUSTER-MODEL^MARIA"))
    merged = await merge(his, "P-NEW", "P-OLD", "MUSTER-MODEL^MARIA")
    assert (merged.code, merged.errors) == ("AA", [])
    old, new = await known(his)
    assert (old.merged_into, new.replaces) == (new.id, (old.id,))
    assert (await merge(his, "P-NEW", "P-OLD", "MUSTER-MODEL^MARIA")).code == "AA", "the same again"

    said = await his.oml(*order("2", "NA", barcode="B-1"), pid=pid("P-OLD", "STALE^NAME"))
    assert said.controls == ["OK"], "the same person's tube"
    assert said.errors == [("PID^1", "204", "W")] and "was merged" in said.words[0]
    fresh = await his.oml(*order("3", "GLU"), pid=pid("P-OLD"))
    assert fresh.controls == ["OK"]
    assert [one.patient_id for one in await his.orders()] == [old.id, new.id]
    assert [one.family for one in await known(his)] == ["MUSTER", "MUSTER-MODEL"], "nothing of a prior record is news"
    cancelled = await his.oml(*order("1", "K", control="CA"), pid=pid("P-NEW"))
    assert cancelled.controls == ["CR"]

    director = Actor(ActorKind.USER, uuid7(), "director", his.lab.organization_id, permissions({"laboratory_director"}))
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        await people.unmerge(connection, director, old.id, "two persons after all")
    apart = await his.oml(*order("4", "CL", barcode="B-1"), pid=pid("P-NEW"))
    assert (apart.code, apart.controls) == ("AE", ["UA"]), "the tube is another's again"


async def test_a_merge_that_was_taken_back_is_not_made_again_by_a_resend(his: Hospital) -> None:
    """A person had seen that they are two; an interface engine that says its day again made them one once more."""
    for number in ("P-1", "P-2"):
        await his.adt("A01", pid(number))
    block = message("ADT^A40^ADT_A39", "EVN||20260105080000", pid("P-1"), "MRG|P-2^^^HOSP^MR", control_id="M-1")
    assert (await his.send(block)).errors == []
    first, second = await known(his)
    director = Actor(ActorKind.USER, uuid7(), "director", his.lab.organization_id, permissions({"laboratory_director"}))
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        await people.unmerge(connection, director, second.id, "two persons after all")
    again = await his.send(block)
    assert (again.code, again.errors) == ("AA", [("MRG^1^1", "207", "W")])
    assert "taken back" in again.words[0]
    assert [one.merged_into for one in await known(his)] == [None, None]
    other = message("ADT^A40^ADT_A39", "EVN||20260106080000", pid("P-1"), "MRG|P-2^^^HOSP^MR", control_id="M-1")
    assert (await his.send(other)).errors == [], "the hospital says it anew, also by an id that it used before"
    assert [one.merged_into for one in await known(his)] == [None, first.id]


async def test_numbers_that_nobody_knows_are_merged_all_the_same(his: Hospital) -> None:
    said = await merge(his, "P-NEW", "P-NEVER")
    assert (said.code, said.errors) == ("AA", [("MRG^1^1", "204", "W")])
    prior_or_survivor = await known(his)
    assert len(prior_or_survivor) == 2
    await his.oml(*order("1", "K"), pid=pid("P-NEVER", "STALE^NAME"))
    [made] = await his.orders()
    survivor = next(one for one in await known(his) if one.merged_into is None)
    assert (made.patient_id, survivor.family) == (survivor.id, "MUSTER")


async def test_merges_in_a_row_lead_to_the_last(his: Hospital) -> None:
    for survivor, prior in (("P-2", "P-1"), ("P-3", "P-2")):
        assert (await merge(his, survivor, prior)).code == "AA"
    await his.oml(*order("1", "K"), pid=pid("P-1"))
    [made] = await his.orders()
    last = next(one for one in await known(his) if one.merged_into is None)
    assert made.patient_id == last.id and "P-3" in [each.value for each in last.identifiers]


async def test_several_merges_of_one_message_are_one_step(his: Hospital) -> None:
    said = await his.send(
        message("ADT^A40^ADT_A39", "EVN||20260105", pid("P-1"), "MRG|P-2^^^HOSP", pid("P-3"), "MRG|P-3^^^HOSP")
    )
    assert said.code == "AE"
    assert await his.count("patient") == 0, "the first is undone with the second"


async def test_an_order_says_the_truth_of_its_patient_but_not_of_somebody_else(his: Hospital) -> None:
    await his.oml(*order("1", "K"))
    await his.oml(*order("2", "K"), pid=pid(name="MODEL^MARIA"))
    await his.oml(*order("3", "K"), pid=pid(name="MODEL^MARIA", born="19800502"))
    [one] = await known(his)
    assert (one.family, str(one.birth_date)) == ("MODEL", "1980-05-02")
    assert (await actions(his, one)).count(("update", "link")) == 2
    other = await his.oml(*order("4", "K"), pid=pid(name="SCHMIDT^OTTO", born="19310101", sex="M"))
    assert (other.code, other.controls) == ("AE", ["UA"])
    assert "another name and birth date" in other.words[0]
    assert (await known(his))[0].family == "MODEL"


async def test_an_order_for_a_child_under_its_mothers_number_is_not_the_mothers(his: Hospital) -> None:
    """They have one family name: her record became the child's, with its birth date and its sex."""
    await his.oml(*order("1", "K"))
    child = await his.oml(*order("2", "K"), pid=pid(name="MUSTER^JUNGE", born="20260104", sex="M"))
    assert (child.code, child.controls) == ("AE", ["UA"])
    assert "another name and birth date" in child.words[0]
    await his.oml(*order("3", "K"), pid=pid(name="MUSTER^M", born="19800502"))
    [one] = await known(his)
    assert (one.given, str(one.birth_date), len(await his.orders())) == ("M", "1980-05-02", 2)


async def test_a_refused_order_leaves_its_patient_as_it_was(his: Hospital) -> None:
    await his.oml(*order("1", "K"))
    await his.oml(*order("2", "NONE"), pid=pid(name="MODEL^MARIA"))
    await his.oml(*order("3", "NONE"), pid=PID.replace("P-1", "P-9"))
    assert [one.family for one in await known(his)] == ["MUSTER"]


async def test_who_is_merged_may_be_named_by_the_priors_other_numbers_already(his: Hospital) -> None:
    """The card's number was on the prior's record, as where somebody came in without it and was registered twice: the
    hospital's merge was refused as of two patients, and so was each order of the survivor after it."""
    card = "HOSP^MR~X-9^^^CARD^SS"
    await his.adt("A01", pid("P-1"))
    await his.adt("A01", pid("P-2").replace("HOSP^MR", card))
    survivor = pid("P-1").replace("HOSP^MR", card)
    said = await his.adt("A40^ADT_A39", survivor, "MRG|P-2^^^HOSP^MR")
    assert (said.code, said.errors) == ("AA", [])
    first, second = await known(his)
    assert (first.merged_into, second.merged_into) == (None, first.id)
    assert (await his.adt("A40^ADT_A39", survivor, "MRG|P-2^^^HOSP^MR")).code == "AA", "the same again"
    assert (await his.oml(*order("1", "K"), pid=survivor)).controls == ["OK"]
    assert [one.patient_id for one in await his.orders()] == [first.id]


@pytest.mark.parametrize("carrier", ["P-1", "P-2"])
async def test_a_number_that_both_of_a_merge_are_told_with_is_neithers_alone(his: Hospital, carrier: str) -> None:
    for number in ("P-1", "P-2"):
        card = "HOSP^MR~X-9^^^CARD^SS" if number == carrier else "HOSP^MR"
        await his.adt("A01", pid(number).replace("HOSP^MR", card))
    survivor = pid("P-1").replace("HOSP^MR", "HOSP^MR~X-9^^^CARD^SS")
    said = await his.adt("A40^ADT_A39", survivor, "MRG|P-2^^^HOSP^MR~X-9^^^CARD^SS")
    assert (said.code, said.errors) == ("AA", [])
    first, second = await known(his)
    assert (first.merged_into, second.merged_into) == (None, first.id)


async def test_a_third_persons_number_is_still_a_reason_to_merge_nobody(his: Hospital) -> None:
    await his.adt("A01", pid("P-1"))
    await his.adt("A01", pid("P-2"))
    await his.adt("A01", pid("P-3").replace("HOSP^MR", "HOSP^MR~X-9^^^CARD^SS"))
    survivor = pid("P-1").replace("HOSP^MR", "HOSP^MR~X-9^^^CARD^SS")
    said = await his.adt("A40^ADT_A39", survivor, "MRG|P-2^^^HOSP^MR")
    assert said.code == "AE" and "different patients" in said.words[0]
    assert {one.merged_into for one in await known(his)} == {None}


async def test_the_record_that_the_hospital_goes_on_with_is_the_one_in_use(his: Hospital) -> None:
    """Somebody of the laboratory had merged the two the other way round: whatever the hospital said of its patient from
    then on was left out, as of a record that is used no more, another birth date and sex among it."""
    await his.adt("A01", pid("P-1", "MUSTER^M"))
    await his.adt("A01", pid("P-2", "MUSTER^MARIA"))
    await his.oml(*order("1", "K", barcode="B-1"), pid=pid("P-2"))
    one, other = await known(his)
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        await people.merge(connection, his.lab.director, other.id, one.id, "registered twice")
    block = message("ADT^A40^ADT_A39", "EVN||20260105", pid("P-2", "MUSTER^MARIA"), "MRG|P-1^^^HOSP^MR")
    said = await his.send(block)
    assert (said.code, said.errors) == ("AA", [])
    one, other = await known(his)
    assert (one.merged_into, other.merged_into) == (other.id, None)
    assert (await his.adt("A08", pid("P-2", "MODEL^MARIA", "19790501"))).errors == []
    one, other = await known(his)
    assert (one.family, other.family, str(other.birth_date)) == ("MUSTER", "MODEL", "1979-05-01")
    await his.oml(*order("2", "NA", barcode="B-1"), pid=pid("P-1", "STALE^NAME"))
    assert [len(each.items) for each in await his.orders()] == [2]
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        await people.unmerge(connection, his.lab.director, one.id, "two persons")
    assert (await his.send(block)).errors == [("MRG^1^1", "207", "W")]
    assert {each.merged_into for each in await known(his)} == {None}


async def test_what_was_ordered_before_the_merge_was_turned_round_is_named_as_well(his: Hospital) -> None:
    """It is on the record that was in use then, which is the prior's now: to be looked at once they are two again."""
    await his.adt("A01", pid("P-1", "MUSTER^M"))
    await his.adt("A01", pid("P-2", "MUSTER^MARIA"))
    one, other = await known(his)
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        await people.merge(connection, his.lab.director, other.id, one.id, "registered twice")
    await his.oml(*order("1", "K", barcode="B-1"), pid=pid("P-2"))
    assert (await merge(his, "P-2", "P-1")).errors == []
    await his.oml(*order("2", "NA", barcode="B-2"), pid=pid("P-1"))
    assert (await merge(his, "P-1", "P-2")).errors == [], "nobody has taken it back"
    assert (await merge(his, "P-2", "P-1")).errors == []
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        view = await people.unmerge(connection, his.lab.director, one.id, "two persons")
    assert [(row.placer_number, row.patient_id) for row in view.ordered_meanwhile] == [("1", one.id), ("2", other.id)]


async def test_nor_does_a_merge_of_before_that_is_told_once_more_turn_a_later_one_round(his: Hospital) -> None:
    for survivor, prior in (("P-2", "P-1"), ("P-3", "P-2"), ("P-2", "P-1")):
        assert (await merge(his, survivor, prior)).code == "AA"
    last = next(one for one in await known(his) if one.merged_into is None)
    assert "P-3" in [each.value for each in last.identifiers]
    first = message("ADT^A40^ADT_A39", "EVN||20260105", pid("P-8"), "MRG|P-9^^^HOSP^MR", control_id="M-1")
    await his.send(first)
    assert (await merge(his, "P-9", "P-8")).code == "AA"
    assert (await his.send(first)).code == "AA"
    assert (await his.adt("A08", pid("P-9", "MODEL^MARIA"))).errors == [], "a resend is not the hospital's last word"


async def test_a_number_that_is_the_patients_no_more_leads_nobody_to_them(his: Hospital) -> None:
    """CX-8 is the last day on which a number is valid (HL7 v2.5.1 2.A.14.8): whoever was given it since became the one
    who had it before, with another name, birth date and sex on all of their results."""
    both = pid("P-2").replace("HOSP^MR", "HOSP^MR~P-1^^^HOSP^MR^^20200101^20251231")
    said = await his.adt("A08", both)
    assert (said.code, said.errors) == ("AA", [("PID^1^3^2^8", "102", "W")])
    await his.oml(*order("1", "K", barcode="B-1"), pid=both)
    assert (await his.adt("A01", pid("P-1", "MODEL^OTTO", "19310101", "M"))).code == "AA"
    first, second = await known(his)
    assert [[each.value for each in one.identifiers] for one in (first, second)] == [["P-2"], ["P-1"]]
    assert (first.given, second.given) == ("MARIA", "OTTO")
    alone = pid("P-3").replace("HOSP^MR", "HOSP^MR^^20200101^20251231")
    assert (await his.adt("A01", alone)).code == "AA", "whoever has no other number is still known by this one"
    today = pid("P-4").replace("HOSP^MR", "HOSP^MR~P-5^^^HOSP^MR^^20200101^20260105")
    assert (await his.adt("A01", today)).errors == []
    assert [each.value for each in (await known(his))[-1].identifiers] == ["P-4", "P-5"]


async def test_a_last_day_that_is_no_day_ends_no_number(his: Hospital) -> None:
    """Zeros are how some systems write that there is none: she was known by the family's card alone."""
    numbers = "P-1^^^HOSP^MR^^^00000000~X-9^^^CARD^MB"
    said = await his.adt("A01", pid().replace("P-1^^^HOSP^MR", numbers))
    assert (said.code, said.errors) == ("AA", [])
    [one] = await known(his)
    assert {each.value for each in one.identifiers} == {"P-1", "X-9"}
