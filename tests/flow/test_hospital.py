"""A hospital's orders: new, changed, cancelled, replaced, asked for; each answered, none twice, nothing half."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from interface.domain.model import ItemStatus, Priority
from interface.domain.permissions import permissions
from interface.domain.views import Actor, ActorKind, OrderView
from interface.flow.context import register
from interface.flow.handlers import HANDLERS
from interface.flow.intake import LinkIntake
from interface.flow.orders import NewOrder, NewSpecimen, OrderError, create_order
from interface.flow.replay import ReplayError, replay
from interface.flow.requests import Requests
from interface.settings import LinkRole, OrderReply
from interface.store.ids import uuid7
from tests.flow.hospital_use import PEER, PID, Hospital, hospital, message, order, read


@pytest.fixture
async def his(database_url: str) -> AsyncIterator[Hospital]:
    async with hospital(database_url) as made:
        yield made


async def step(his: Hospital, test: str, status: ItemStatus) -> None:
    """What the laboratory has done meanwhile."""
    await his.lab.owner.execute(
        "update lab.order_item i set status = $2 from lab.test t where t.id = i.test_id and t.code = $1", test, status
    )


# ---- new orders ------------------------------------------------------------------------------------------------------


async def test_a_new_order_is_placed_and_answered_with_its_number(his: Hospital) -> None:
    said = await his.oml(*order("A-1^HIS", "K", barcode="B-1"), *order("A-2^HIS", "2951-2^Sodium^LN", barcode="B-1"))
    [made] = await his.orders()
    assert (said.kind, said.code, said.errors) == ("ORL^O22", "AA", [])
    assert said.orders == [("OK", "A-1", made.number, "SC"), ("OK", "A-2", f"{made.number}-2", "SC")]
    assert await his.tests() == [[("K", "requested", "B-1"), ("NA", "requested", "B-1")]]
    assert said.barcodes == ["B-1", "B-1"]
    assert await his.lab.messages() == [("complete", "released")]


async def test_the_same_order_again_is_answered_again_and_changes_nothing(his: Hospital) -> None:
    lines = order("A-1^HIS", "BMP", "DG1|1||E87.5^High potassium^I10", barcode="B-1", priority="S")
    first = await his.oml(*lines)
    before = await his.everything()
    again = [
        await his.oml(*lines),
        await his.oml(*[one.replace("ORC|NW|A-1^HIS|||", "ORC|NW|A-1^HIS|||||||20260105") for one in lines]),
    ]
    assert [one.orders for one in again] == [first.orders] * 2
    assert [one.code for one in again] == ["AA", "AA"]
    assert await his.everything() == before


async def test_another_order_under_a_known_number_is_refused(his: Hospital) -> None:
    await his.oml(*order("A-1^HIS", "K", barcode="B-1"))
    before = await his.everything()
    for lines, pid in (
        (order("A-1^HIS", "NA", barcode="B-1"), PID),
        (order("A-1^HIS", "K", barcode="B-2"), PID),
        (order("A-1^HIS", "K", barcode="B-1", priority="S"), PID),
        (order("A-1^HIS", "K", "NTE|1||look", barcode="B-1"), PID),
        (order("A-1^HIS", "K", barcode="B-1"), PID.replace("P-1", "P-2")),
    ):
        said = await his.oml(*lines, pid=pid)
        assert (said.code, said.controls, said.errors) == ("AE", ["UA"], [("ORC^1", "205", "E")])
        assert await his.everything() == before
        assert (await his.lab.messages())[-1] == ("complete", "rejected")


async def test_a_number_that_came_by_rest_is_the_same_order(his: Hospital) -> None:
    made = await his.lab.order("B-1", "K", patient_id="P-1")
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        tube = NewSpecimen(("NA",), "B-2")
        new = NewOrder((tube,), patient_id=made.patient_id, placer_number="A-1", placer_authority="HIS")
        placed = await create_order(connection, his.actor, new)
    pid = PID.replace("HOSP^MR", "TEST")
    before = await his.everything()
    same = await his.oml(*order("A-1^HIS", "NA", barcode="B-2"), pid=pid)
    assert same.orders == [("OK", "A-1", placed.number, "SC")]
    other = await his.oml(*order("A-1^HIS", "K", barcode="B-2"), pid=pid)
    assert (other.controls, other.errors) == (["UA"], [("ORC^1", "205", "E")])
    assert await his.everything() == before
    gone = await his.oml(*order("A-1^HIS", "NA", control="CA"), pid=pid)
    assert gone.controls == ["CR"]


async def test_a_number_of_another_authority_is_another_order(his: Hospital) -> None:
    for placer in ("A-1^HIS", "A-1^CLINIC", "A-1"):
        assert (await his.oml(*order(placer))).controls == ["OK"]
    assert [(one.placer_number, one.placer_authority) for one in await his.orders()] == [
        ("A-1", "HIS"), ("A-1", "CLINIC"), ("A-1", ""),
    ]  # fmt: skip


async def test_of_several_orders_one_that_cannot_be_placed_is_refused_alone(his: Hospital) -> None:
    said = await his.oml(
        *order("A-1^HIS", "K", barcode="B-1"),
        *order("A-2^HIS", "NONE", barcode="B-1"),
        *order("A-3^HIS", "NA", barcode="B-1"),
    )
    assert (said.code, said.controls) == ("AE", ["OK", "UA", "OK"])
    assert said.errors == [("OBR^2^4", "204", "E")]
    assert 'no test or panel for the code "NONE"' in said.words[0]
    assert await his.tests() == [[("K", "requested", "B-1"), ("NA", "requested", "B-1")]]


async def test_a_code_is_the_laboratorys_by_the_links_map_and_else_its_own(his: Hospital) -> None:
    owner, lab = his.lab.owner, his.lab
    for code, test, link in (("HIS-1", "K", None), ("NA", "CL", lab.context.link_id), ("CL", None, None)):
        await owner.execute(
            "insert into lab.code_map (id, organization_id, driver, link_id, code, test_id, origin) values"
            " (gen_random_uuid(), $1, 'generic_hospital', $2, $3, (select id from lab.test where code = $4 and"
            " organization_id = $1), 'site')",
            lab.organization_id, link, code, test,
        )  # fmt: skip
    said = await his.oml(*order("1", "HIS-1"), *order("2", "NA"), *order("3", "CL"), *order("4", "LIPID"))
    assert said.controls == ["OK", "OK", "UA", "OK"]
    tests = [test for one in await his.tests() for test, _, _ in one]
    assert tests[:2] == ["K", "CL"] and "CHOL" in tests


WRONG: list[tuple[list[str], str, str]] = [
    (order("A-1"), "PID^1", "101"),
    ([PID.replace("^^^HOSP", ""), *order("A-1")], "PID^1^3^1^4", "101"),
    ([PID.replace("P-1^^^HOSP^MR", ""), *order("A-1")], "PID^1^3", "101"),
    ([PID, *order("A-1"), PID.replace("P-1", "P-2"), *order("A-2")], "PID^2", "100"),
    ([PID], "ORC^1", "100"),
    ([PID, *order("A-1")[1:]], "OBR^1", "100"),
    ([PID, *order("")], "ORC^1", "207"),
    ([PID, *order("A-1", priority="X")], "TQ1^1^9", "103"),
    ([PID, *order("A-1", "")], "OBR^1^4", "204"),
    ([PID, *order("A-1", barcode="B" * 65)], "ORC^1", "207"),
    ([PID, *[line for at in range(10_000) for line in order(f"A-{at}", spm="")]], "ORC^1", "100"),
    ([PID, "ORC|NW|A-1|", "OBR"], "OBR^1^4", "204"),
    ([PID, "ORC"], "ORC^1", "207"),
    ([PID, "ORC|NW|A-1", "OBR|1|A-2||K"], "ORC^1^2", "102"),
]


async def test_what_is_wrong_is_refused_with_its_place_and_leaves_nothing(his: Hospital) -> None:
    before = await his.everything()
    for segments, place, code in WRONG:
        said = await his.send(message("OML^O21^OML_O21", *segments))
        assert said.code == "AE" and (place, code, "E") in said.errors, (said.errors, said.words)
        assert set(said.controls) <= {"UA"}
        assert await his.everything() == before
    assert await his.lab.messages() == [("complete", "rejected")] * len(WRONG)


async def test_every_cut_of_an_order_is_answered_and_never_a_fault_of_ours(his: Hospital) -> None:
    whole = message(
        "OML^O21^OML_O21", PID, "PV1|1|I|3B", *order("A-1^HIS", "K", "NTE|1||x", barcode="B-1", priority="S")
    )
    begin = whole.index(b"PID")
    for end in range(begin, len(whole), 7):
        said = await his.send(whole[:end])
        assert said.code in ("AA", "AE")
        assert "system" not in " ".join(said.words)


async def test_what_the_order_says_of_the_patient_and_of_who_asks_is_kept(his: Hospital) -> None:
    asked = order(
        "A-1^HIS", "K", "NTE|1||from the ward", "DG1|1||E87.5^High potassium^I10",
        "OBX|1|CWE|82810-3^Pregnancy status^LN||77386006^Pregnant^SCT||||||F",
        "OBX|2|NM|18185-9^Gestation^LN||31|wk|||||F",
        priority="S", obr="||||||||Weak",
    )  # fmt: skip
    asked[0] += "||||||||D17^HOUSE^GREG^^^^^^DOCS"
    said = await his.oml("PV1|1|I|3B^12^1", *asked)
    assert said.errors == []
    [made] = await his.orders()
    assert (made.priority, made.ward, made.pregnant, made.gestation_weeks) == (Priority.STAT, "3B", True, 31)
    assert made.clinical_history == "Weak\nE87.5 High potassium\nfrom the ward"
    assert made.requester is not None
    assert (made.requester.identifier, made.requester.family, made.requester.given) == ("D17", "HOUSE", "GREG")


# ---- specimens -------------------------------------------------------------------------------------------------------


async def test_tubes_without_a_barcode_are_numbered_one_for_each_kind(his: Hospital) -> None:
    said = await his.oml(
        *order("1", "K"),
        *order("2", "NA"),
        *order("3", "HGB", spm="SPM|1|||BLD"),
        *order("4", "GLU", spm="", obr="||||||||||SER"),
    )
    assert said.controls == ["OK"] * 4
    [made] = await his.tests()
    assert len({barcode for _, _, barcode in made}) == 2
    assert len({barcode for test, _, barcode in made if test != "HGB"}) == 1
    assert set(said.barcodes) == {barcode for _, _, barcode in made}


async def test_a_tube_that_is_there_gets_more_tests_and_is_measured_once(his: Hospital) -> None:
    await his.oml(*order("1", "K", barcode="B-1"))
    said = await his.oml(
        *order("2", "BMP", barcode="B-1", spm="SPM|1|{barcode}||SER|||||||||||||20260105074500|20260105075500")
    )
    assert said.controls == ["OK"]
    [made] = await his.tests()
    assert [test for test, _, _ in made].count("K") == 1 and len(made) > 5
    assert {status for _, status, _ in made} == {"received"}
    gone = await his.oml(*order("1", "K", control="CA", barcode="B-1"))
    assert gone.controls == ["CR"]
    assert {status for _, status, _ in (await his.tests())[0]} == {"received"}, "the panel still asks for it"


@pytest.mark.parametrize("barcode", ["", "B-1"])
@pytest.mark.parametrize("first", ["R", "S"])
async def test_what_is_placed_together_is_as_urgent_as_the_most_urgent(his: Hospital, barcode: str, first: str) -> None:
    other = "S" if first == "R" else "R"
    said = await his.oml(
        *order("1", "K", barcode=barcode, priority=first), *order("2", "NA", barcode=barcode, priority=other)
    )
    assert said.controls == ["OK", "OK"]
    [made] = await his.orders()
    assert (len(made.items), made.priority) == (2, Priority.STAT)


async def test_who_orders_on_a_tube_that_is_there_says_how_urgent_it_is_and_where_the_patient_is_now(
    his: Hospital,
) -> None:
    pregnant = "OBX|1|CWE|82810-3^Pregnancy status^LN||77386006^Pregnant^SCT||||||F"
    await his.oml("PV1|1|E|ER", *order("1", "K", "NTE|1||fell", barcode="B-1", priority="R"))
    said = await his.oml("PV1|1|I|ICU", *order("2", "NA", pregnant, "NTE|1||ventilated", barcode="B-1", priority="S"))
    assert said.controls == ["OK"]
    [made] = await his.orders()
    assert (made.priority, made.ward, made.pregnant) == (Priority.STAT, "ICU", True)
    assert made.clinical_history == "fell", "of what was said before nothing is lost"
    version = made.version
    assert (await his.oml("PV1|1|I|ICU", *order("3", "K", barcode="B-1", priority="R"))).controls == ["OK"]
    [made] = await his.orders()
    assert (made.priority, made.ward, made.version) == (Priority.STAT, "ICU", version + 1), "its potassium is 3 too"
    weeks = "OBX|2|NM|18185-9^Gestation^LN||31|wk|||||F"
    await his.oml("PV1|1|I|OBS", *order("4", "CREA", pregnant, weeks, barcode="B-1"))
    [made] = await his.orders()
    assert (made.priority, made.ward, made.gestation_weeks) == (Priority.STAT, "OBS", 31)
    not_so = pregnant.replace("77386006^Pregnant", "60001007^Not pregnant")
    assert (await his.oml(*order("5", "GLU", not_so, barcode="B-1"))).controls == ["OK"]
    [made] = await his.orders()
    assert (made.ward, made.pregnant, made.gestation_weeks) == ("OBS", False, None)


async def test_a_barcode_of_another_patient_or_of_another_type_is_refused(his: Hospital) -> None:
    await his.oml(*order("1", "K", barcode="B-1"))
    before = await his.everything()
    other = await his.oml(*order("2", "NA", barcode="B-1"), pid=PID.replace("P-1", "P-2"))
    kind = await his.oml(*order("3", "NA", barcode="B-1", spm="SPM|1|{barcode}||UR"))
    assert (other.controls, kind.controls, other.code, kind.code) == (["UA"], ["UA"], "AE", "AE")
    assert "another patient" in other.words[0] and "type SER" in kind.words[0]
    assert await his.everything() == before


async def test_a_service_on_a_tube_that_is_there_and_on_a_new_one_is_one_service(his: Hospital) -> None:
    """Its items are of two orders of the laboratory's: both are told, changed and cancelled under the one number."""
    await his.oml(*order("1", "K", barcode="B-1"))
    both = (*order("2", "NA", barcode="B-1"), "SPM|2|B-2||SER")
    said = await his.oml(*both)
    assert (said.controls, said.barcodes) == (["OK"], ["B-1", "B-2"])
    assert await his.tests() == [
        [("K", "requested", "B-1"), ("NA", "requested", "B-1")],
        [("NA", "requested", "B-2")],
    ]
    assert (await his.oml(*order("2", "CREA", control="XO", spm=""))).controls == ["XR"]
    left = [sorted(test for test, status, _ in one if status == "requested") for one in await his.tests()]
    assert left == [["CREA", "K"], ["CREA"]]
    gone = await his.oml(*order("2", "CREA", control="CA", spm=""))
    assert gone.orders[0][::3] == ("CR", "CA")
    left = [sorted(test for test, status, _ in one if status == "requested") for one in await his.tests()]
    assert left == [["K"], []]


async def test_a_rejected_specimen_is_told_and_its_tests_are_not_awaited(his: Hospital) -> None:
    said = await his.oml(*order("1", "K", barcode="B-1", spm="SPM|1|{barcode}||SER|||||||||||||||||RH^Haemolysed"))
    assert said.orders[0][0::3] == ("OK", "CA")
    assert await his.tests() == [[("K", "rejected", "B-1")]]


async def test_a_group_is_one_order_across_messages(his: Hospital) -> None:
    await his.oml(*order("1", "K", group="G-1^HIS"))
    said = await his.oml(*order("2", "HGB", group="G-1^HIS", spm="SPM|1|||BLD", priority="S"))
    [made] = await his.orders()
    assert (made.placer_number, made.priority) == ("G-1", Priority.STAT)
    assert said.orders[0][2] == f"{made.number}-2"


# ---- change, cancel, replace, ask ------------------------------------------------------------------------------------


async def test_an_order_is_changed_as_long_as_it_waits(his: Hospital) -> None:
    await his.oml(*order("1", "K", barcode="B-1", priority="S"))
    said = await his.oml(*order("1", "NA", "NTE|1||now sodium", control="XO", barcode="B-1"))
    assert (said.code, said.orders[0][0]) == ("AA", "XR")
    [made] = await his.orders()
    assert (made.clinical_history, made.priority) == ("now sodium", Priority.STAT), "a priority not said stays"
    assert await his.tests() == [[("K", "cancelled", "B-1"), ("NA", "requested", "B-1")]]
    before = (await his.everything(), made.version)
    again = await his.oml(*order("1", "NA", "NTE|1||now sodium", control="XO", barcode="B-1"))
    assert again.orders == said.orders
    assert (await his.everything(), (await his.orders())[0].version) == before
    repeated = await his.oml(*order("1", "K", barcode="B-1", priority="S"))
    assert repeated.controls == ["OK"], "the first message, late"
    assert await his.tests() == [[("K", "cancelled", "B-1"), ("NA", "requested", "B-1")]]


async def test_a_barcode_and_the_collection_may_be_told_later(his: Hospital) -> None:
    await his.oml(*order("1", "K"))
    said = await his.oml(
        *order("1", "K", control="XO", barcode="B-9", spm="SPM|1|{barcode}||SER|||||||||||||20260105074500")
    )
    assert (said.controls, said.barcodes) == (["XR"], ["B-9"])
    assert await his.tests() == [[("K", "collected", "B-9")]]
    late = await his.oml(*order("1", "K", control="XO", barcode="B-8"))
    assert (late.code, late.controls) == ("AA", ["UX"])


async def test_the_collection_may_be_told_of_a_tube_that_has_come(his: Hospital) -> None:
    """The ward notes it after the tube was scanned in."""
    made = await his.oml(*order("1", "K", barcode="B-9", spm="SPM|1|{barcode}||SER||||||||||||||20260105080000"))
    assert (made.controls, await his.tests()) == (["OK"], [[("K", "received", "B-9")]])
    for at in ("20260105074500", "20260105073000"):  # what is known is not changed by an order
        spm = f"SPM|1|{{barcode}}||SER|||||||||||||{at}"
        said = await his.oml(*order("1", "K", control="XO", barcode="B-9", spm=spm))
        assert said.controls == ["XR"]
    assert await his.tests() == [[("K", "received", "B-9")]]
    [row] = await his.lab.owner.fetch("select state, collected_at from lab.specimen")
    assert tuple(row) == ("received", datetime(2026, 1, 5, 6, 45, tzinfo=UTC))


async def test_a_collection_that_is_planned_is_none_yet(his: Hospital) -> None:
    planned = "SPM|1|{barcode}||SER|||||||||||||29990105074500"
    said = await his.oml(*order("1", "K", barcode="B-9", spm=planned))
    assert said.controls == ["OK"]
    assert await his.tests() == [[("K", "requested", "B-9")]]


@pytest.mark.parametrize("at", ["00010101000000", "00010101000000+0700", "18991231235959", "99991231235959-0700"])
async def test_a_time_that_nobody_can_mean_is_left_out_and_said_and_the_order_is_placed(his: Hospital, at: str) -> None:
    born = PID if at.startswith("9999") else PID.replace("19800501", at)
    said = await his.oml(*order("1", "K", barcode="B-9", spm=f"SPM|1|{{barcode}}||SER|||||||||||||{at}|{at}"), pid=born)
    assert (said.code, said.controls) == ("AA", ["OK"])
    assert said.errors == [("SPM^1^17", "102", "W"), ("SPM^1^18", "102", "W")]
    times = await his.lab.owner.fetch("select collected_at, received_at from lab.specimen")
    assert [tuple(row) for row in times] == [(None, None)]


async def test_what_is_begun_or_done_cannot_be_changed_or_cancelled(his: Hospital) -> None:
    await his.oml(*order("1", "K", barcode="B-1"))
    before = await his.everything()
    for status in (ItemStatus.IN_PROGRESS, ItemStatus.COMPLETED, ItemStatus.VERIFIED):
        await step(his, "K", status)
        for control, word in (("XO", "UX"), ("CA", "UC"), ("DC", "UD")):
            said = await his.oml(*order("1", "NA", control=control, barcode="B-1"))
            assert (said.code, said.controls, said.errors) == ("AA", [word], [("ORC^1", "207", "W")])
            assert status.value not in said.words[0].split(), "nothing is said of a result that is held"
        assert await his.everything() == before
        assert await his.tests() == [[("K", status.value, "B-1")]]


async def test_cancelling_is_answered_in_the_fields_words(his: Hospital) -> None:
    await his.oml(*order("1", "K", barcode="B-1"), *order("2", "NA", barcode="B-1"))
    block = message("OML^O21", PID, *order("1", "K", control="CA", barcode="B-1"))
    done = await his.send(block)
    assert (done.code, done.orders[0][0], done.orders[0][3]) == ("AA", "CR", "CA")
    assert await his.tests() == [[("K", "cancelled", "B-1"), ("NA", "requested", "B-1")]]
    before = await his.everything()
    assert (await his.send(block)).orders == done.orders, "a resend is answered as before"
    again = await his.oml(*order("1", "K", control="CA"))
    unknown = await his.oml(*order("77", "K", control="CA"))
    other = await his.oml(*order("2", "K", control="CA"), pid=PID.replace("P-1", "P-2"))
    assert [(one.code, one.controls) for one in (again, unknown, other)] == [
        ("AA", ["UC"]), ("AA", ["UC"]), ("AE", ["UC"]),
    ]  # fmt: skip
    assert "cancelled already" in again.words[0] and "no order of this number" in unknown.words[0]
    assert await his.everything() == before
    assert (await his.oml("ORC|CA|2", pid="")).controls == ["CR"], "the number alone says which"
    assert (await his.orders())[0].cancelled


async def test_an_order_is_replaced_whole_or_not_at_all(his: Hospital) -> None:
    await his.oml(*order("1", "K", barcode="B-1"), *order("2", "NA", barcode="B-1"))
    block = message(
        "OML^O21", PID, *order("1", "K", control="RP", spm=""), *order("3", "GLU", control="RO", barcode="B-1"),
        *order("4", "CREA", control="RO", barcode="B-1"),
    )  # fmt: skip
    done = await his.send(block)
    assert (done.code, done.controls) == ("AA", ["RQ", "RO", "RO"])
    assert [one for one in (await his.tests())[0] if one[1] != "cancelled"] == [
        ("NA", "requested", "B-1"), ("GLU", "requested", "B-1"), ("CREA", "requested", "B-1"),
    ]  # fmt: skip
    before = await his.everything()
    assert (await his.send(block)).orders == done.orders
    await his.oml(*order("90", "K", barcode="B-90"))
    only = await his.oml(*order("90", "K", control="RP", spm=""), *order("91", "NA", control="RO", barcode="B-90"))
    assert only.controls == ["RQ", "RO"], "the only one of its order and of its tube"
    assert (await his.tests())[1] == [("K", "cancelled", "B-90"), ("NA", "requested", "B-90")]
    before = await his.everything()
    await step(his, "NA", ItemStatus.IN_PROGRESS)
    begun = await his.oml(*order("2", "NA", control="RP", spm=""), *order("5", "UREA", control="RO", barcode="B-1"))
    wrong = await his.oml(*order("3", "GLU", control="RP", spm=""), *order("6", "NONE", control="RO", barcode="B-1"))
    alone = await his.oml(*order("3", "GLU", control="RP", spm=""))
    stray = await his.oml(*order("7", "UREA", control="RO", barcode="B-1"))
    assert [(one.code, one.controls) for one in (begun, wrong, alone, stray)] == [
        ("AA", ["UM", "UA"]), ("AE", ["UM", "UA"]), ("AE", ["UM"]), ("AE", ["UA"]),
    ]  # fmt: skip
    assert await his.everything() == before


async def test_a_replacement_that_is_said_again_by_another_message_is_answered_again(his: Hospital) -> None:
    """Its answer was lost, and the hospital's second message has a control id of its own: a no would have it order a
    third time."""
    await his.oml(*order("1", "K"))
    swap = (*order("1", "K", control="RP", spm=""), *order("2", "NA", control="RO"))
    first, before = await his.oml(*swap, control_id="A"), await his.everything()
    again = await his.oml(*swap, control_id="B")
    assert again.orders == first.orders and again.controls == ["RQ", "RO"]
    assert await his.everything() == before
    other = (*order("1", "K", control="RP", spm=""), *order("3", "NA", control="RO"))
    assert (await his.oml(*other)).controls == ["UM", "UA"], "it has been replaced by another"
    assert await his.everything() == before


async def test_the_number_and_the_status_may_be_asked_for(his: Hospital) -> None:
    first = await his.oml(*order("1", "K", barcode="B-1"), *order("2", "NA", barcode="B-1"))
    number = await his.oml("ORC|SN|1", pid="")
    assert number.orders == [("NA", "1", first.orders[0][2], "SC")]
    for status, word in (
        (ItemStatus.IN_PROGRESS, "SC"), (ItemStatus.COMPLETED, "SC"), (ItemStatus.CANCELLED, "CA"),
        (ItemStatus.REJECTED, "CA"),
    ):  # fmt: skip
        await step(his, "K", status)
        assert (await his.oml("ORC|SS|1", pid="")).orders == [("SR", "1", first.orders[0][2], word)]
    assert (await his.oml("ORC|SS||" + first.orders[1][2], pid="")).orders[0][0::2] == ("SR", first.orders[1][2])


async def test_what_the_laboratory_does_not_do_is_refused_in_one_word(his: Hospital) -> None:
    await his.oml(*order("1", "K"))
    before = await his.everything()
    for control, word, code in (
        ("HD", "UH", "AA"), ("RL", "UR", "AA"), ("RF", "UF", "AA"), ("SC", "UA", "AE"), ("XX", "UA", "AE"),
        ("", "UA", "AE"),
    ):  # fmt: skip
        said = await his.oml(*order("1", "K", control=control))
        assert (said.code, said.controls) == (code, [word])
    assert await his.everything() == before


# ---- the other messages, and how they are answered -------------------------------------------------------------------


async def test_orders_below_their_specimen_are_answered_below_it(his: Hospital) -> None:
    said = await his.send(
        message("OML^O33^OML_O33", PID, "SPM|1|B-1||SER", "SAC|||C-1", *order("1", "K", spm=""),
                *order("2", "NA", spm=""),
                "SPM|2|||UR", *order("3", "GLU", spm=""))
    )  # fmt: skip
    assert (said.kind, said.controls) == ("ORL^O34", ["OK", "OK", "OK"])
    [made] = await his.tests()
    assert [one[::2] for one in made[:2]] == [("K", "C-1"), ("NA", "C-1")] and made[2][2] not in ("", "B-1", "C-1")
    assert [one.id for one in said.reply.segments] == [
        "MSH", "MSA", "PID", "SPM", "SAC", "ORC", "OBR", "ORC", "OBR", "SPM", "SAC", "ORC", "OBR",
    ]  # fmt: skip


async def test_orders_of_version_2_3_are_answered_in_it(his: Hospital) -> None:
    obr = "||20260105074500||||||||SER"
    said = await his.send(
        message("ORM^O01", PID, "ORC|NW|1^HIS|||||^^^^^S", f"OBR|1|1^HIS||K^Potassium^L|{obr}", version="2.3.1")
    )
    [made] = await his.orders()
    assert (said.kind, said.code, said.reply.version, made.priority) == ("ORR^O02", "AA", "2.3.1", Priority.STAT)
    assert await his.tests() == [[("K", "collected", made.items[0].barcode)]]
    obr_back = said.reply.first("OBR")
    assert obr_back is not None and obr_back.value(20) == made.items[0].barcode
    refused = await his.send(message("ORM^O01", PID, *order("2", "NONE", spm=""), version="2.3.1"))
    assert refused.reply.first("ERR") is not None and refused.code == "AE"


WANTED = [  # MSH-15, MSH-16, what is said when all was done, and when something was refused (HL7 table 0155)
    ("", "", ["AA"], ["AE"]),
    ("NE", "AL", ["AA"], ["AE"]),
    ("AL", "AL", ["CA", "AA"], ["CA", "AE"]),
    ("AL", "NE", ["CA"], ["CE"]),
    ("AL", "ER", ["CA"], ["CA", "AE"]),
    ("ER", "AL", ["AA"], ["AE"]),
    ("NE", "ER", [], ["AE"]),
    ("SU", "SU", ["CA", "AA"], ["CA"]),
    ("NE", "NE", [], []),
]


async def test_the_sender_says_which_answers_it_wants(his: Hospital) -> None:
    for accept, application, good, bad in WANTED:
        for lines, expected in ((order("1", "K"), good), (order("2", "NONE"), bad)):
            block = message("OML^O21", PID, *lines, accept=accept, application=application)
            receipt = await his.intake.block(block, PEER)
            replies = [one for one in (receipt.reply, *receipt.then) if one is not None]
            assert [one.split(b"MSA|")[1][:2].decode() for one in replies] == expected, (accept, application)
            assert receipt.message_id is not None


async def test_a_sender_that_knows_no_order_reply_gets_an_acknowledgement(database_url: str) -> None:
    async with hospital(database_url, order_reply=OrderReply.ACK) as his:
        good, bad = await his.oml(*order("1", "K")), await his.oml(*order("2", "NONE"))
        assert [(one.kind, one.code, one.orders) for one in (good, bad)] == [
            ("ACK^O21", "AA", []),
            ("ACK^O21", "AE", []),
        ]
        assert bad.errors == [("OBR^1^4", "204", "E")]


async def test_numbers_without_an_authority_are_the_links(database_url: str) -> None:
    async with hospital(database_url, authority="HOSP", authorities=(("MRN", "urn:oid:1.2.3"),)) as his:
        await his.oml(*order("1", "K"), pid=PID.replace("^^^HOSP", ""))
        await his.oml(*order("2", "K"), pid=PID.replace("P-1^^^HOSP", "P-2^^^MRN"))
        rows = await his.lab.owner.fetch("select authority, value from lab.patient_identifier order by value")
        assert [tuple(row) for row in rows] == [("HOSP", "P-1"), ("urn:oid:1.2.3", "P-2")]
        assert [one.placer_authority for one in await his.orders()] == ["HOSP", "HOSP"]


async def test_two_links_with_one_number_at_the_same_moment_make_one_order(his: Hospital) -> None:
    lab = his.lab
    async with lab.database.transaction(lab.organization_id) as connection:
        settings = replace(lab.context.settings, id="other", role=LinkRole.HOSPITAL)
        other = await register(connection, lab.organization_id, settings, lab.context.driver)
    links = [his.intake, LinkIntake(other, lab.journal, requests=Requests(other, lab.database, HANDLERS, 20.0))]
    for at in range(10):
        block = message("OML^O21", PID, *order(f"A-{at}", "K", barcode=f"B-{at}"), control_id=f"X{at}")
        said = [read(one) for one in await asyncio.gather(*(link.block(block, PEER) for link in links))]
        assert [one.controls for one in said] == [["OK"], ["OK"]]
        assert said[0].orders == said[1].orders
    assert [len(one) for one in await his.tests()] == [1] * 10


async def test_an_order_never_waits_behind_results(his: Hospital) -> None:
    """No worker runs here, so that the result waits for ever."""
    result = message("ORU^R01", PID, "OBR|1|||K", "OBX|1|NM|2823-3^K^LN||4.1|mmol/L|||||F", "SPM|1|S-1||SER")
    analyzer = LinkIntake(his.lab.context, his.lab.journal)
    assert b"MSA|AA" in ((await analyzer.block(result, PEER)).reply or b"")
    assert (await his.oml(*order("1", "K", barcode="S-1"))).controls == ["OK"]
    assert await his.count("queue") == 1
    assert await his.lab.messages() == [("complete", None), ("complete", "released")]


async def test_an_answered_message_is_not_decided_anew(his: Hospital) -> None:
    """Whoever was answered no would not hear that it is yes now."""
    said = await his.oml(*order("1", "NONE"))
    roles = frozenset({"administrator", "laboratory_director"})
    person = Actor(ActorKind.USER, uuid7(), "anna", his.lab.organization_id, permissions(roles), roles)
    assert said.receipt.message_id is not None
    with pytest.raises(ReplayError, match="send it again"):
        await replay(his.lab.database, person, said.receipt.message_id, lambda _: his.context, dry_run=False)
    assert await his.lab.messages() == [("complete", "rejected")]


async def test_other_messages_are_refused_and_kept(his: Hospital) -> None:
    for kind, code in (("ORU^R01", "200"), ("OML^O35", "201"), ("ADT^A34", "201"), ("QBP^Q11", "200")):
        said = await his.send(message(kind, PID))
        assert (said.code, said.errors[0][1]) == ("AR", code)
    assert await his.lab.messages() == [("complete", "rejected")] * 4


async def test_what_a_hospital_has_placed_is_not_placed_again_by_rest(his: Hospital) -> None:
    await his.oml(*order("A-1^HIS", "K", barcode="B-1", group="G-1^HIS"))
    [made] = await his.orders()

    async def by_rest(number: str, *tests: str) -> OrderView:
        new = NewOrder(
            (NewSpecimen(tests, "B-1", "SER"),),
            patient_id=made.patient_id,
            placer_number=number,
            placer_authority="HIS",
        )
        async with his.lab.database.transaction(his.lab.organization_id) as connection:
            return await create_order(connection, his.actor, new)

    for number in ("A-1", "G-1"):
        assert (await by_rest(number, "K")).id == made.id
        with pytest.raises(OrderError, match="already an order with this placer number"):
            await by_rest(number, "NA")
    assert len(await his.orders()) == 1
