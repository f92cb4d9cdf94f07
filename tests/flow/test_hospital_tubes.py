"""A hospital's orders on tubes that are there already: what is said beside the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from interface.domain.model import Priority
from tests.flow.hospital_use import PID, Hospital, hospital, message, order


@pytest.fixture
async def his(database_url: str) -> AsyncIterator[Hospital]:
    async with hospital(database_url) as made:
        yield made


async def test_a_change_of_one_service_makes_what_waits_beside_it_no_less_urgent(his: Hospital) -> None:
    await his.oml(*order("1", "K", barcode="B-1", priority="R"), *order("2", "NA", barcode="B-1", priority="S"))
    said = await his.oml(*order("1", "K", "NTE|1||fell", control="XO", barcode="B-1", priority="R"))
    assert said.controls == ["XR"]
    [made] = await his.orders()
    assert (made.priority, made.clinical_history) == (Priority.STAT, "fell")
    assert (await his.oml(*order("2", "NA", control="CA"))).controls == ["CR"]
    said = await his.oml(*order("1", "K", "NTE|1||slipped", control="XO", barcode="B-1", priority="R"))
    assert said.controls == ["XR"]
    [made] = await his.orders()
    assert made.priority is Priority.ROUTINE, "nothing else waits"


async def test_a_change_of_one_service_takes_nothing_from_the_other_that_is_on_its_tube(his: Hospital) -> None:
    """What was said first stays: a change of the ward's that had added a sodium took the digoxin from the potassium,
    and who had asked for it from the report."""

    def asked(number: str, code: str, doctor: str, note: str, control: str = "NW") -> list[str]:
        orc, *others = order(number, code, f"NTE|1||{note}", control=control, barcode="B-1")
        return [f"{orc}||||||||{doctor}^{doctor}^^^^^^^DOCS", *others]

    await his.oml(*asked("1", "K", "HEART", "takes digoxin"))
    await his.oml(*asked("2", "NA", "KIDNEY", "vomits"))
    for _ in range(2):
        assert (await his.oml(*asked("2", "NA", "KIDNEY", "vomits since Monday", "XO"))).controls == ["XR"]
    [made] = await his.orders()
    assert made.requester is not None
    assert (made.requester.family, made.clinical_history) == ("HEART", "takes digoxin\nvomits since Monday")
    assert (await his.oml(*order("2", control="CA"))).controls == ["CR"]
    assert (await his.oml(*asked("1", "K", "LUNG", "takes nothing", "XO"))).controls == ["XR"]
    [made] = await his.orders()
    assert made.requester is not None
    assert (made.requester.family, made.clinical_history) == ("LUNG", "takes nothing"), "of one service alone"


async def test_a_collection_that_is_told_after_the_receipt_refuses_no_test(his: Hospital) -> None:
    """The ward's clock is ahead, or it noted when it wrote: it cannot know when the tube was scanned in."""
    received = "SPM|1|{barcode}||SER||||||||||||||20260105080000"
    assert (await his.oml(*order("1", "K", barcode="B-9", spm=received))).controls == ["OK"]
    later = "SPM|1|{barcode}||SER|||||||||||||20260105080200"
    for number, code, control, done in (("2", "NA", "NW", "OK"), ("1", "BMP", "XO", "XR")):
        said = await his.oml(*order(number, code, control=control, barcode="B-9", spm=later))
        assert (said.code, said.controls, said.errors) == ("AA", [done], [("ORC^1", "207", "W")])
        assert "the time of collection is after that of the receipt" in said.words[0]
    assert await his.lab.owner.fetchval("select collected_at from lab.specimen") is None
    earlier = later.replace("0802", "0745")
    said = await his.oml(*order("3", "CREA", barcode="B-9", spm=earlier))
    assert (said.controls, said.errors) == (["OK"], [])
    assert await his.lab.owner.fetchval("select collected_at from lab.specimen") is not None


@pytest.mark.parametrize("offset", ["", "+0000"])
async def test_a_time_that_an_offset_by_rote_puts_into_the_future_is_the_local_one(
    database_url: str, offset: str
) -> None:
    """+0000 beside the time of Jakarta, in what an engine kept for half an hour while the laboratory was away: the tube
    was taken for one that is yet to be drawn; also where it writes +0000 beside that time as well."""
    now = datetime.now(ZoneInfo("Asia/Jakarta")).replace(microsecond=0)
    made, drawn = (now - timedelta(minutes=minutes) for minutes in (30, 50))
    async with hospital(database_url, timezone="Asia/Jakarta") as his:
        spm = f"SPM|1|||SER|||||||||||||{drawn:%Y%m%d%H%M%S}{offset}"
        block = message("OML^O21^OML_O21", PID, *order("1", "K", spm=spm))
        said = await his.send(block.replace(b"20260105080000+0100", f"{made:%Y%m%d%H%M%S}+0000".encode()))
        assert (said.code, said.errors, said.words) == ("AA", [], [])
        assert await his.lab.owner.fetchval("select collected_at from lab.specimen") == drawn


async def test_who_says_another_time_of_collection_is_told_that_it_is_not_kept(his: Hospital) -> None:
    """A ward that puts it right was answered OK, and reports went on with the first."""
    drawn = "SPM|1|{{barcode}}||SER|||||||||||||2026010507{}00"
    await his.oml(*order("1", "K", barcode="B-9", spm=drawn.format("15")))
    same = await his.oml(*order("2", "NA", barcode="B-9", spm=drawn.format("15")))
    assert (same.code, same.controls, same.errors) == ("AA", ["OK"], [])
    for number, code, control, done in (("3", "MG", "NW", "OK"), ("1", "BMP", "XO", "XR")):
        said = await his.oml(*order(number, code, control=control, barcode="B-9", spm=drawn.format("45")))
        assert (said.code, said.controls, said.errors) == ("AA", [done], [("ORC^1", "207", "W")])
        assert "it is known already when the specimen was taken" in said.words[0]
    assert await his.lab.owner.fetchval("select collected_at from lab.specimen") == datetime(
        2026, 1, 5, 6, 15, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("by_rote", "offset", "hour"),
    [(False, "", 7), (True, "", 6), (False, "+0000", 7), (True, "+0000", 6), (True, "+0200", 5)],
)
async def test_where_the_offset_is_by_rote_what_comes_late_is_local_too(
    database_url: str, by_rote: bool, offset: str, hour: int
) -> None:
    """What a night without the line has kept: nothing in it shows that +0000 beside the local time is none, and each
    collection was hours off. Who writes it by rote writes it beside other times too; another offset is meant."""
    async with hospital(database_url, timezone="Europe/Berlin", offset_by_rote=by_rote) as his:
        collected = f"SPM|1|{{barcode}}||SER|||||||||||||20260105074500{offset}"
        block = message("OML^O21^OML_O21", PID, *order("1", "K", barcode="B-1", spm=collected))
        assert (await his.send(block.replace(b"080000+0100", b"080000+0000"))).controls == ["OK"]
        at = await his.lab.owner.fetchval("select collected_at from lab.specimen")
        assert at == datetime(2026, 1, 5, hour, 45, tzinfo=UTC)


@pytest.mark.parametrize("processing", ["T", "D^T"])
async def test_what_is_sent_for_training_orders_nothing_and_is_said_of_nobody(his: Hospital, processing: str) -> None:
    """A copy of the hospital's system has the same numbers: its exercises were drawn and measured, and its patients'
    names, sexes and merges were those of the living. HL7 table 0103; what analyzers send so is no patient's either."""
    await his.oml(*order("1", "K", barcode="B-1"))
    before = await his.everything()
    exercises = [
        message("OML^O21^OML_O21", PID, *order("2", "K", barcode="B-2")),
        message("OML^O21^OML_O21", *order("1", control="CA")),
        message("ADT^A08", PID.replace("MARIA", "EXERCISE").replace("|F", "|M")),
        message("ADT^A40^ADT_A39", PID, "MRG|P-2^^^HOSP^MR"),
    ]
    for block in exercises:
        said = await his.send(block.replace(b"|P|2.5.1", f"|{processing}|2.5.1".encode()))
        assert (said.code, said.errors) == ("AR", [("MSH^1^11", "202", "E")])
        assert (await his.lab.messages())[-1] == ("complete", "rejected")
    assert await his.everything() == before
    assert await his.tests() == [[("K", "requested", "B-1")]]
    assert await his.lab.owner.fetchval("select given from lab.patient") == "MARIA"


async def test_the_visit_of_a_prior_result_is_not_the_orders(his: Hospital) -> None:
    """HL7 v2.5.1 4.4.6: what is told of an earlier order has a PV1 of its own, of where she lay then and how."""
    then = "PV1|1|I|OLD||||||||||||B6"
    prior = ["PID|1||P-1^^^HOSP^MR", then, "ORC|PR|9", "OBR|1|9||K", "OBX|1|NM|K||5.1"]
    assert (await his.oml(*order("1", "K", barcode="B-1"), *prior)).controls == ["OK"]
    assert (await his.oml("PV1|1|I|3A", *order("2", "K", barcode="B-2"), *prior)).controls == ["OK"]
    by_tube = ["SPM|1|B-3||SER", *order("3", "K", spm="")]
    assert (await his.send(message("OML^O33^OML_O33", PID, *by_tube, *prior))).controls == ["OK"]
    assert [(one.ward, one.pregnant) for one in await his.orders()] == [("", None), ("3A", None), ("", None)]


async def test_two_specimens_of_one_type_are_two_tubes(his: Hospital) -> None:
    """Two blood cultures, one from each arm: what was ordered on the second was taken for the same on the first, and
    nobody measured it (HL7 v2.5.1 4.4.8: in OML^O33 each SPM is a specimen, with the orders that are of it)."""
    said = await his.send(
        message("OML^O33^OML_O33", PID, "SPM|1|||SER", *order("1", "K", spm=""), *order("2", "NA", spm=""),
                "SPM|2|||SER", *order("3", "K", spm=""))
    )  # fmt: skip
    assert said.controls == ["OK"] * 3
    [made] = await his.tests()
    tubes = [[test for test, _, barcode in made if barcode == each] for each in dict.fromkeys(one[2] for one in made)]
    assert tubes == [["K", "NA"], ["K"]]
    assert said.barcodes == list(dict.fromkeys(one[2] for one in made))


async def test_tubes_that_are_to_be_taken_at_different_times_are_not_one(his: Hospital) -> None:
    """A glucose each hour: all of it was ordered on one tube, measured once and answered under each number."""
    times = ("29990105070000", "29990105080000", "29990105090000")
    wanted = [order(str(at), "GLU", spm=f"SPM|1|||SER|||||||||||||{time}") for at, time in enumerate(times, 1)]
    beside = order("7", "K", spm=f"SPM|1|||SER|||||||||||||{times[0]}")
    said = await his.oml(*wanted[0], *beside, *wanted[1], *wanted[2])
    assert said.controls == ["OK"] * 4
    [made] = await his.tests()
    assert sorted(test for test, _, _ in made) == ["GLU", "GLU", "GLU", "K"]
    assert len({barcode for _, _, barcode in made}) == 3, "what is to be taken together is one tube"
    assert (await his.oml(*order("2", "NA", control="XO", spm=""))).controls == ["XR"]
    left = [sorted(t for t, s, b in (await his.tests())[0] if b == barcode and s != "cancelled")
            for barcode in dict.fromkeys(one[2] for one in made)]  # fmt: skip
    assert left == [["GLU", "K"], ["NA"], ["GLU"]]


@pytest.mark.parametrize(
    ("orc", "timings", "place"),
    [
        ("", ["TQ1|1||Q6H"], "TQ1^1^3"), ("", ["TQ1|1|3|ONCE"], "TQ1^1^3"), ("", ["TQ1|1", "TQ1|2"], "TQ1^1^3"),
        ("1^Q1D^D3^^^R", [], "ORC^1^7"), ("", ["TQ1|1|1|ONCE|||||S"], ""), ("1^^^^^S", [], ""),
        ("", ["TQ1|1||NOW"], ""), ("", ["TQ1|1|01|ONCE"], ""), ("", [f"TQ1|1|{'9' * 5000}|ONCE"], "TQ1^1^3"),
    ],
)  # fmt: skip
async def test_who_asks_for_something_each_six_hours_is_told_that_it_is_done_once(
    his: Hospital, orc: str, timings: list[str], place: str
) -> None:
    """It was answered OK without a word, and the second troponin waited for nobody."""
    first, *others = order("1", "K", barcode="B-1")
    said = await his.oml(f"{first}|||{orc}", *timings, *others)
    assert (said.code, said.controls) == ("AA", ["OK"])
    assert said.errors == ([(place, "207", "W")] if place else [])


async def test_an_order_is_of_each_container_of_its_specimen(his: Hospital) -> None:
    """HL7 v2.5.1 4.4.8, OML^O33: SPM [{SAC}] {ORC}. Of two tubes the first was nobody's, and what was measured on it
    was held as of no specimen."""
    spm, tubes = "SPM|1|||SER", ("SAC|||C-1", "SAC|||C-2")
    said = await his.send(message("OML^O33^OML_O33", PID, spm, *tubes, *order("1", "K", spm="")))
    assert (said.controls, said.barcodes) == (["OK"], ["C-1", "C-2"])
    each = await his.send(
        message("OML^O33^OML_O33", PID, spm, "SAC|||C-3", *order("2", "NA", spm=""), "SAC|||C-4",
                *order("3", "CL", spm=""))
    )  # fmt: skip
    assert each.controls == ["OK", "OK"]
    assert [[(test, barcode) for test, _, barcode in one] for one in await his.tests()] == [
        [("K", "C-1"), ("K", "C-2")], [("NA", "C-3"), ("CL", "C-4")],
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["OML^O21^OML_O21", "OML^O33^OML_O33"])
@pytest.mark.parametrize(("spm", "sac"), [("SPM|1|C-1||SER", "SAC|||"), ("SPM|1|||SER", "SAC|||C-1")])
async def test_containers_of_one_barcode_are_one_tube(his: Hospital, kind: str, spm: str, sac: str) -> None:
    """AE was the answer, as of a fault of the laboratory's system: nothing was ordered, however often it was said."""
    ordered = order("1", "K", spm="")
    lines = (spm, sac, sac, *ordered) if "O33" in kind else (*ordered, spm, sac, sac)
    said = await his.send(message(kind, PID, *lines))
    assert (said.controls, said.barcodes) == (["OK"], ["C-1"])
    assert [[(test, barcode) for test, _, barcode in one] for one in await his.tests()] == [[("K", "C-1")]]
