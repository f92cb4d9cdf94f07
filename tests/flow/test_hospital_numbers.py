"""A hospital's numbers over time: orders that were cancelled or collected again, barcodes that come again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from interface.domain.model import HoldReason, ItemStatus
from interface.domain.routing import Missing, NoWork
from interface.domain.specimens import RejectReason
from interface.driver import registry
from interface.flow import order_changes, review, specimens
from interface.flow.context import register
from interface.flow.handlers import HANDLERS
from interface.flow.intake import LinkIntake
from interface.flow.requests import Requests
from interface.settings import LinkRole
from interface.store.ids import uuid7
from tests.flow.dispatching import ask, begin, codes, owed
from tests.flow.hospital_use import PEER, PID, Hospital, hospital, link_of, message, order, read
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import sent
from tests.flow.test_hospital import step


def _value(at: datetime) -> datetime:
    return at


@pytest.fixture
async def his(database_url: str) -> AsyncIterator[Hospital]:
    async with hospital(database_url) as made:
        yield made


async def test_a_number_whose_order_was_cancelled_orders_nothing(his: Hospital) -> None:
    """OK was the answer, and nobody measured anything: a hospital may use a number again for what was cancelled."""
    lines = [order(number, barcode=f"B-{number}") for number in ("1", "2")]
    block = message("OML^O21", PID, *lines[0], *lines[1])
    await his.send(block)
    await his.oml(*order("1", control="CA"))
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        await order_changes.cancel(connection, his.lab.director, (await his.orders())[0].id, "by mistake")
    before = await his.everything()
    for one in lines:
        said = await his.oml(*one)
        assert (said.code, said.controls, said.words) == ("AE", ["UA"], ["it is cancelled already"])
    again = await his.send(block)
    assert [one[::3] for one in again.orders] == [("OK", "CA"), ("OK", "CA")], "a resend is answered as before"
    assert await his.everything() == before


async def test_another_message_is_no_resend_because_its_id_and_length_came_before(his: Hospital) -> None:
    """Ids of messages that begin anew each day are used again: OK was the answer, and nobody waited for the tube."""
    await his.oml(*order("1", barcode="B-1"), control_id="7")
    await his.oml(*order("2", barcode="B-2"))
    await his.oml(*order("2", control="CA"))
    again = message("OML^O21^OML_O21", PID, *order("2", barcode="B-2"), control_id="7")
    for _ in range(2):  # nor is it one of itself, which was refused
        said = await his.send(again)
        assert (said.code, said.controls, said.words) == ("AE", ["UA"], ["it is cancelled already"])


async def test_nor_is_one_that_was_refused_before_another_message_placed_its_number(his: Hospital) -> None:
    """Nobody knew its code then; another message placed it once one did, and an engine says the first once more."""
    first = message("OML^O21^OML_O21", PID, *order("1", "GLUX", barcode="B-1"))
    assert (await his.send(first)).controls == ["UA"]
    await his.lab.owner.execute(
        "insert into lab.code_map (id, organization_id, driver, code, test_id, origin) values (gen_random_uuid(), $1,"
        " 'generic_hospital', 'GLUX', (select id from lab.test where code = 'GLU' and organization_id = $1), 'site')",
        his.lab.organization_id,
    )
    assert (await his.oml(*order("1", "GLUX", barcode="B-1"))).controls == ["OK"]
    assert (await his.oml(*order("1", control="CA"))).controls == ["CR"]
    said = await his.send(first)
    assert (said.code, said.controls, said.words) == ("AE", ["UA"], ["it is cancelled already"])


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Tokyo"])
async def test_the_very_message_again_is_the_same_whatever_its_times_are_taken_for(
    database_url: str, zone: str
) -> None:
    """It writes +0000 by rote, and its line was cut before the answer: said once more later, or after the link's zone
    was put right, the collection was another one, and the order that nobody had answered was refused."""
    at = datetime(2026, 1, 5, 7, 0, 30, tzinfo=UTC)
    async with hospital(database_url, timezone="Europe/Berlin") as his:
        collected = "SPM|1|{barcode}||SER|||||||||||||20260105074500"
        block = message("OML^O21^OML_O21", PID, *order("1", "K", barcode="B-1", spm=collected))
        block = block.replace(b"20260105080000+0100", b"20260105080000+0000")
        for link_zone, late in (("Europe/Berlin", 0), (zone, 9)):
            context, _ = link_of(his.lab, timezone=link_zone)
            requests = Requests(context, his.lab.database, HANDLERS, 20.0)
            came_at = at + timedelta(minutes=late)
            intake = LinkIntake(context, his.lab.journal, now=partial(_value, came_at), requests=requests)
            said = read(await intake.block(block, PEER))
            assert (said.code, said.controls, said.words) == ("AA", ["OK"], [])
        other = block.replace(b"20260105074500", b"20260105073000")
        assert (await his.send(other)).controls == ["UA"], "another one says something else"


async def test_a_number_of_nobodys_is_cancelled_by_another_link_only_with_its_patient(his: Hospital) -> None:
    """Two hospitals whose systems name no authority count from 1 both: the second one's order was refused as another
    patient's, and cancelling it, without PID, cancelled the first one's."""
    lab = his.lab
    async with lab.database.transaction(lab.organization_id) as connection:
        settings = replace(lab.context.settings, id="other", role=LinkRole.HOSPITAL)
        context = await register(connection, lab.organization_id, settings, lab.context.driver)
    other = Hospital(
        lab, context, LinkIntake(context, lab.journal, requests=Requests(context, lab.database, HANDLERS, 20.0))
    )
    await his.oml(*order("1", "K", barcode="B-1"), *order("2^HIS", "K", barcode="B-2"))
    assert (await other.oml(*order("1", "NA", barcode="C-1"), pid=PID.replace("P-1", "P-2"))).controls == ["UA"]
    for control, no in (("CA", "UC"), ("SS", "UA")):
        said = await other.oml(*order("1", control=control), pid="")
        assert (said.controls, said.orders[0][2:]) == ([no], ("", ""))
        assert "no authority" in said.words[0]
    assert {one[1] for each in await his.tests() for one in each} == {"requested"}
    assert (await other.oml(*order("2^HIS", control="CA"), pid="")).controls == ["CR"], "whose it is, is said"
    assert (await other.oml(*order("1", control="CA"))).controls == ["CR"], "as the patient shows"
    await his.oml(*order("3", "K", barcode="B-3"))
    assert (await his.oml(*order("3", control="CA"), pid="")).controls == ["CR"], "by the link that placed it"


async def test_two_numbers_that_name_two_orders_cancel_neither(his: Hospital) -> None:
    """ORC-2 named the potassium and ORC-3 the sodium: the potassium was cancelled."""
    made = [await his.oml(*order("1", "K", barcode="B-1")), await his.oml(*order("2", "NA", barcode="B-2"))]
    fillers = [one.orders[0][2] for one in made]
    said = await his.oml(f"ORC|CA|1|{fillers[1]}")
    assert (said.code, said.controls) == ("AE", ["UC"])
    assert "ORC-2 and ORC-3" in said.words[0]
    assert {one[1] for each in await his.tests() for one in each} == {"requested"}
    assert (await his.oml(f"ORC|CA|1|{fillers[0]}", "ORC|CA|2|OTHERS-9")).controls == ["CR", "CR"], "no number of ours"


async def test_nor_do_two_numbers_of_two_services_on_one_tube(his: Hospital) -> None:
    """The one that ORC-2 named was cancelled. The order's own number is that of the first, and of all of them."""
    made = [await his.oml(*order(number, code, barcode="B-1")) for number, code in (("1", "K"), ("2", "NA"))]
    fillers = [one.orders[0][2] for one in made]
    said = await his.oml(f"ORC|CA|1|{fillers[1]}")
    assert (said.code, said.controls) == ("AE", ["UC"])
    assert {one[1] for each in await his.tests() for one in each} == {"requested"}
    assert (await his.oml(f"ORC|CA|2|{fillers[0]}")).controls == ["CR"]


async def test_nor_does_one_whose_specimen_was_rejected(his: Hospital) -> None:
    """It was drawn again and ordered again, as it was: OK was the answer, and nobody waited for the tube."""
    lines = order("1", "K", spm="SPM|1|||SER")
    block = message("OML^O21", PID, *lines)
    await his.send(block)
    [made] = await his.orders()
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        specimen_id = made.items[0].specimen_id
        assert specimen_id is not None
        await specimens.receive(connection, his.lab.director, specimen_id)
        await specimens.reject(connection, his.lab.director, specimen_id, RejectReason.HAEMOLYSED)
    said = await his.oml(*lines)
    assert (said.code, said.controls, said.words) == ("AE", ["UA"], ["its specimen was rejected"])
    assert [one[::3] for one in (await his.send(block)).orders] == [("OK", "CA")], "a resend is answered as before"
    assert (await his.oml(*order("2", "K", spm="SPM|1|||SER"))).controls == ["OK"]


async def test_what_is_to_be_collected_again_is_still_the_numbers(his: Hospital) -> None:
    """It was told that the order is cancelled, and could not cancel what was expected, nor hear of its result."""
    tube = "SPM|1|{barcode}||SER|||||||||||||20260101080000+0000|"
    for number in ("1", "2"):
        await his.oml(*order(number, "BMP", barcode=f"B-{number}", spm=tube))
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        for made in await his.orders():
            [specimen_id] = {one.specimen_id for one in made.items}
            assert specimen_id is not None
            await specimens.reject(
                connection, his.lab.director, specimen_id, RejectReason.HAEMOLYSED, recollect=made.placer_number == "1"
            )
    asked = await his.oml(*order("1", control="SS"), *order("2", control="SS"))
    assert [one[3] for one in asked.orders] == ["SC", "CA"]
    said = await his.oml(*order("1", "K", control="XO", barcode="B-1", spm=tube))
    assert (said.code, said.controls) == ("AA", ["UX"]), "the tube that is expected is not the one that was rejected"
    assert (await his.oml(*order("1", "K", control="XO", spm=""))).controls == ["XR"]
    [again] = {one[2] for one in (await his.tests())[0] if one[1] == "requested"}
    assert again != "B-1"
    assert [one for one in (await his.tests())[0] if one[1] == "requested"] == [("K", "requested", again)]
    done = await his.oml(*order("1", control="CA"), *order("2", control="CA"))
    assert done.controls == ["CR", "UC"]
    assert "requested" not in {one[1] for each in await his.tests() for one in each}


async def test_what_somebody_has_ordered_without_a_number_is_not_cancelled_with_one(his: Hospital) -> None:
    """A doctor asked for it by telephone, entered it as well, and took that back: it was cancelled for both."""
    await his.oml(*order("1", "NA", barcode="B-1"))
    [made] = await his.orders()
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        tube = made.items[0].specimen_id
        await order_changes.add(connection, his.lab.director, made.id, ("K", "GLU"), specimen_id=tube)
    await his.oml(*order("2", "K", barcode="B-1"), *order("3", "K", barcode="B-1"))
    assert (await his.oml(*order("3", control="CA"), *order("2", control="CA"))).controls == ["CR", "CR"]
    assert (await his.oml(*order("1", "GLU", control="XO", spm=""))).controls == ["XR"]
    assert (await his.oml(*order("1", "CL", control="XO", spm=""))).controls == ["XR"]
    assert [each[:2] for each in (await his.tests())[0]] == [
        ("NA", "cancelled"), ("K", "requested"), ("GLU", "requested"), ("CL", "requested"),
    ]  # fmt: skip
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        await order_changes.cancel(connection, his.lab.director, made.id, "as they say")
    assert {each[1] for each in (await his.tests())[0]} == {"cancelled"}, "a member of staff says for all"


async def test_a_tube_that_was_drawn_for_an_order_that_was_cancelled_serves_the_next(his: Hospital) -> None:
    """Many a system changes an order by cancelling it and placing another: nothing could be added to the tube."""
    drawn = "SPM|1|{barcode}||SER|||||||||||||20260101080000+0000|"
    await his.oml(*order("1", "NA", barcode="B-1", spm=drawn))
    await his.oml(*order("1", control="CA"))
    assert (await his.orders())[0].cancelled
    assert (await his.oml(*order("2", "K", barcode="B-1", spm=drawn))).controls == ["OK"]
    [made] = await his.orders()
    assert (made.cancelled, made.cancel_reason) == (False, "")
    assert await his.tests() == [[("NA", "cancelled", "B-1"), ("K", "collected", "B-1")]]
    assert (await his.oml(*order("1", "NA", barcode="B-1", spm=drawn))).controls == ["UA"]
    assert (await his.oml(*order("2", control="CA"))).controls == ["CR"]
    assert (await his.orders())[0].cancelled


async def test_a_barcode_that_is_used_again_is_not_the_tube_of_before(his: Hospital) -> None:
    """Nobody had closed that one: its old result was the answer to what was ordered now, and nothing was measured."""

    def ordered(number: str, code: str, day: str) -> list[str]:
        spm = f"SPM|1|{{barcode}}||SER|||||||||||||202601{day}0800+0100"
        return order(number, code, barcode="B-1", spm=spm)

    await his.oml(*ordered("1", "K", "01"))
    await step(his, "K", ItemStatus.VERIFIED)
    again = await his.oml(*ordered("2", "K", "03"))
    assert (again.code, again.controls) == ("AE", ["UA"])
    assert "of another day" in again.words[0]
    assert (await his.oml(*ordered("3", "NA", "03"))).controls == ["OK"], "added to what is there"
    assert (await his.oml(*ordered("4", "K", "01"))).controls == ["OK"]
    await his.lab.owner.execute(
        "update lab.specimen set received_at = null, created_at = created_at - interval '61 days'"
    )
    late = await his.oml(*order("5", "GLU", barcode="B-1"))
    assert (late.controls, "61 days" in late.words[0] or "60 days" in late.words[0]) == (["UA"], True)


@pytest.mark.parametrize(("days", "ordered", "answer"), [(2, "", "UA"), (2, "20260101", "OK"), (0, "", "OK")])
async def test_nor_where_nobody_says_when_the_new_one_is_collected(
    his: Hospital, days: int, ordered: str, answer: str
) -> None:
    """Most order before it is: a patient's own number as the barcode led to the potassium of the visit before. What is
    told late, after an outage, was ordered when the tube was drawn (ORC-9)."""
    await his.oml(*order("1", "K", barcode="B-1", spm="SPM|1|{barcode}||SER||||||||||||||20260101080000+0100"))
    await step(his, "K", ItemStatus.VERIFIED)
    await his.lab.owner.execute(
        "update lab.specimen set created_at = created_at - make_interval(days => $1), received_at = null", days
    )
    orc, *lines = order("2", "K", barcode="B-1")
    said = await his.oml(f"{orc}|||||{ordered}" + ("0700" if ordered else ""), *lines)
    assert said.controls == [answer]
    assert (await his.oml(*order("3", "NA", barcode="B-1"))).controls == ["OK"], "what is not begun is added to it"


@pytest.mark.parametrize(("days", "answer"), [(0, "OK"), (365, "OK"), (30, "UA")])
async def test_tubes_are_added_to_for_as_long_as_the_link_says(database_url: str, days: int, answer: str) -> None:
    """A serum is kept for years where its number is nobody else's: nothing could be ordered on it after 60 days,
    whatever the laboratory had said of its barcodes."""
    async with hospital(database_url, specimen_window_days=days) as his:
        await his.oml(*order("1", "K", barcode="B-1"))
        await his.lab.owner.execute("update lab.specimen set created_at = created_at - interval '61 days'")
        said = await his.oml(*order("2", "NA", barcode="B-1"))
        assert said.controls == [answer]
        assert not said.words or f"more than {days} days" in said.words[0]


async def test_what_is_changed_of_an_order_is_not_ordered_again_on_each_part_of_its_tube(his: Hospital) -> None:
    """Whatever an XO said, each test was ordered on the tube and on the aliquot, and measured twice."""
    await his.oml(*order("1", "BMP", barcode="B-1"))
    [made] = await his.orders()
    tube = made.items[0].specimen_id
    assert tube is not None
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        await specimens.receive(connection, his.lab.director, tube)
        await specimens.aliquot(connection, his.lab.director, tube, barcode="B-1-1", tests=("K",))
    before = (await his.tests())[0]
    assert {one[2] for one in before if one[0] == "K"} == {"B-1-1"}
    tubes = {one[2] for one in before}
    assert (await his.oml(*order("1", "BMP", control="XO", priority="S", barcode="B-1"))).controls == ["XR"]
    assert (await his.oml(*order("2", "K", barcode="B-1"))).controls == ["OK"], "nor by another number"
    assert (await his.tests())[0] == before
    assert (await his.oml(*order("2", "MG", control="XO", spm=""))).controls == ["XR"], "on the tube"
    assert [one for one in (await his.tests())[0] if one not in before] == [("MG", "received", "B-1")]
    assert tubes == {"B-1", "B-1-1"}


async def test_what_is_ordered_by_the_barcode_of_an_aliquot_is_changed_on_it(his: Hospital) -> None:
    """A hospital that has the aliquot: the change was of its tube, and refused as of another barcode."""
    await his.oml(*order("1", "BMP", barcode="B-1"))
    [made] = await his.orders()
    tube = made.items[0].specimen_id
    assert tube is not None
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        await specimens.receive(connection, his.lab.director, tube)
        await specimens.aliquot(connection, his.lab.director, tube, barcode="B-9", tests=("K",))
    assert (await his.oml(*order("2", "MG", barcode="B-9"))).controls == ["OK"]
    before = (await his.tests())[0]
    said = await his.oml(*order("2", "PHOS", control="XO", barcode="B-9"))
    assert (said.controls, said.words) == (["XR"], [])
    after = (await his.tests())[0]
    assert [one for one in after if one not in before] == [("MG", "cancelled", "B-9"), ("PHOS", "received", "B-9")]
    assert (await his.oml(*order("1", "BMP", control="XO", priority="S", barcode="B-1"))).controls == ["XR"]
    assert (await his.tests())[0] == after


async def test_what_is_all_on_an_aliquot_is_changed_also_when_its_tube_is_gone(his: Hospital) -> None:
    await his.oml(*order("1", "K", barcode="B-1"))
    [made] = await his.orders()
    tube = made.items[0].specimen_id
    assert tube is not None
    async with his.lab.database.transaction(his.lab.organization_id) as connection:
        await specimens.receive(connection, his.lab.director, tube)
        await specimens.aliquot(connection, his.lab.director, tube, barcode="B-9", tests=("K",))
        await specimens.dispose(connection, his.lab.director, tube)
    assert (await his.oml(*order("1", "K", control="XO", priority="S", barcode="B-1"))).controls == ["XR"]
    assert (await his.oml(*order("1", "MG", control="XO", spm=""))).controls == ["XR"]
    assert await his.tests() == [[("K", "cancelled", "B-9"), ("MG", "received", "B-9")]]


@pytest.mark.parametrize(("number", "control"), [("1", "XO"), ("2", "NW")])
async def test_the_type_of_a_tube_may_be_told_later(his: Hospital, number: str, control: str) -> None:
    """OK was the answer, and no analyzer was ever given what it measures on urine alone."""
    lab = await at_an_analyzer(his.lab)
    await his.oml(*order("1", "NA", barcode="B-1", spm="SPM|1|{barcode}|||||||||||||||20260105074500|20260105080000"))
    [row] = await his.lab.owner.fetch("select id from lab.specimen")
    async with lab.database.transaction(lab.organization_id) as connection:
        await specimens.aliquot(connection, lab.director, row["id"])
    assert await owed(lab) == []
    assert (await ask(lab, "B-1", now=datetime.now(UTC))).missing == (Missing("B-1", NoWork.NOT_FOR_THIS_ANALYZER),)
    said = await his.oml(*order(number, "NA", control=control, barcode="B-1", spm="SPM|1|{barcode}||UR"))
    assert (said.code, said.controls) == ("AA", ["XR" if control == "XO" else "OK"])
    types = await his.lab.owner.fetch("select type, version from lab.specimen order by id")
    assert [row["type"] for row in types] == ["UR", "UR"]
    assert codes(await owed(lab, now=datetime.now(UTC))) == [("B-1", ("U-NA",))]
    other = await his.oml(*order("3", "K", barcode="B-1", spm="SPM|1|{barcode}||SER"))
    assert (other.controls, other.words) == (["UA"], ["the barcode is on a specimen of type UR"])


async def at_an_analyzer(lab: Laboratory) -> Laboratory:
    """One that is told of its work, and measures sodium on urine alone."""
    settings = replace(lab.context.settings, id="chem", role=LinkRole.ANALYZER, driver="generic_lis2", download=True)
    await lab.owner.execute("update lab.code_map set ended_at = now() where driver = 'generic_lis2'")
    async with lab.database.transaction(lab.organization_id) as connection:
        link = await register(connection, lab.organization_id, settings, registry.load("generic_lis2"))
        await connection.execute(
            """insert into lab.code_map (id, organization_id, driver, code, specimen_type, test_id, origin)
               select $1, $2, 'generic_lis2', 'U-NA', 'UR', id, 'site' from lab.test where code = 'NA'""",
            uuid7(),
            lab.organization_id,
        )
    await begin(lab, link)
    return replace(lab, context=link)


async def test_no_order_is_replaced_by_itself(his: Hospital) -> None:
    """The same under the same number was found to be there, and cancelled then: answered RO, it was done by nobody."""
    await his.oml(*order("1", "K", barcode="B-1"))
    before = await his.everything()
    said = await his.oml(
        *order("1", "K", control="RP", barcode="B-1"), *order("1", "K", control="RO", barcode="B-1"),
        *order("2", "NA", control="RO", barcode="B-1"),
    )  # fmt: skip
    assert (said.code, said.controls) == ("AE", ["UM", "UA", "UA"])
    assert "replaced by itself" in said.words[0]
    assert await his.everything() == before
    assert await his.tests() == [[("K", "requested", "B-1")]]


async def test_what_was_measured_and_waits_for_a_person_is_not_cancelled(database_url: str) -> None:
    """CR was the answer though it had been measured, and nobody could release it any more. To the hospital it is in
    progress, as everything that is not released."""
    pid = "PID|1||P-1^^^TEST||Muster^Maria||19800501|F"
    async with laboratory(database_url) as lab:
        his = Hospital(lab, *link_of(lab))
        await his.oml(*order("1", "K", barcode="S-1"), *order("2", "NA", barcode="S-1"), pid=pid)
        await lab.send([one.replace("|mmol/L|", "|furlong|") for one in sent("S-1", {"K": "7.9"})])
        await lab.settle()
        [held] = await lab.results()
        assert HoldReason.UNKNOWN_UNIT in held.held
        for lines, answer in (
            (order("1", control="CA"), ["UC"]), (order("1", control="DC"), ["UD"]),
            (order("1", "CL", control="XO", spm=""), ["UX"]),
            ([*order("1", control="RP"), *order("3", "CL", control="RO", barcode="S-1")], ["UM", "UA"]),
        ):  # fmt: skip
            said = await his.oml(*lines, pid=pid)
            assert (said.code, said.controls) == ("AA", answer)
            assert "in progress" in said.words[0]
        assert (await his.oml(*order("2", control="CA"), pid=pid)).controls == ["CR"]
        assert {test: status for test, status, _ in (await his.tests())[0]} == {"K": "requested", "NA": "cancelled"}
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.reject(connection, lab.director, held.id, "the module's setting is wrong")
        assert (await his.oml(*order("1", control="CA"), pid=pid)).controls == ["CR"]
