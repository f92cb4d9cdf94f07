"""From the journal to decided results: held or preliminary, once, in order, explained (DESIGN §1.2 to §1.5, §1.7)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from interface import telemetry
from interface.domain.model import HoldReason, ItemStatus, ResultStatus, Sex
from interface.domain.views import Audience
from interface.driver import registry
from interface.driver.rules import Classification, RecordKind
from interface.flow import results as flow
from interface.settings import Unsolicited
from interface.store import changes
from interface.store.results import Outcome, commit
from interface.store.stored_messages import StoredMessage
from tests.flow.laboratory import Laboratory, laboratory, message

WBC = "R|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000"
HGB = "R|2|^^^HGB|9.1|g/dL||L||F||||20260102030000"
P1 = "P|1||P-1||Muster^Maria||19800501|F"


def specimen(barcode: str) -> str:
    return f"O|1|{barcode}||^^^CBC|R"


async def statuses(lab: Laboratory) -> list[tuple[str, ResultStatus, tuple[HoldReason, ...]]]:
    return [(view.code, view.status, view.held) for view in await lab.results()]


async def test_an_ordered_result_is_preliminary_with_its_flag_and_no_emr_sees_it(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        order = await lab.order("S1", "WBC", "HGB")
        await lab.send(message(P1, specimen("S1"), WBC, HGB))
        await lab.settle()
        wbc, hgb = await lab.results()
        assert (wbc.value, wbc.unit, wbc.status, wbc.held) == ("7.35", "10*3/uL", ResultStatus.PRELIMINARY, ())
        assert wbc.flags == ("N",)
        assert (hgb.value, hgb.flags[0]) == ("9.1", "L")
        assert wbc.order_id == order.id
        assert await lab.results(Audience.EMR) == []
        assert await lab.messages() == [("complete", "released")]
        assert await lab.owner.fetchval("select count(*) from lab.queue") == 0
        items = await lab.owner.fetch("select status from lab.order_item")
        assert {row["status"] for row in items} == {ItemStatus.COMPLETED}


async def test_every_result_has_its_explanation_and_the_message_its_audit(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC")
        await lab.send(message(P1, specimen("S1"), WBC))
        await lab.settle()
        steps = await lab.owner.fetchval("select lab.explained(steps)::json from lab.decision")
        assert [step["step"] for step in steps][:4] == ["receive", "decode", "map", "match"]
        assert all(step["text"] for step in steps)
        audit = await lab.owner.fetchrow("select * from lab.audit_event where action = 'message.settle'")
        assert audit is not None
        result_id = (await lab.results())[0].id
        assert (audit["actor_kind"], audit["actor_id"]) == ("link", lab.context.link_id)
        assert audit["detail"]["results"] == str(result_id)


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ((P1, specimen("S1"), "R|1|^^^NEWTEST|7.35|10*3/uL||N||F"), HoldReason.UNMAPPED_CODE),
        ((P1, specimen("S1"), "R|1|^^^WBC|7.35|furlong||N||F"), HoldReason.UNKNOWN_UNIT),
        ((P1, specimen("S9"), WBC), HoldReason.NO_SUCH_SPECIMEN),
        ((P1, "O|1|||^^^CBC|R", WBC), HoldReason.NO_SUCH_SPECIMEN),
        ((P1, specimen("S1"), HGB), HoldReason.NOT_ORDERED),
        ((P1, specimen("S1"), "R|1|^^^WBC|-----|10*3/uL||A||F"), HoldReason.RUN_FAILED),
        ((P1, specimen("S1"), "R|1|^^^WBC||10*3/uL||N||F"), HoldReason.NO_VALUE),
        ((P1, specimen("S1"), "R|1|^^^WBC|7.35|10*3/uL||N||W"), HoldReason.QUESTIONABLE),
        (("P|1||P-2||Muster^Maria||19800501|F", specimen("S1"), WBC), HoldReason.PATIENT_MISMATCH),
        (("P|1||P-1||Muster^Maria||19790501|F", specimen("S1"), WBC), HoldReason.PATIENT_MISMATCH),
        (("P|1||P-1||Muster^Maria||19800501|M", specimen("S1"), WBC), HoldReason.PATIENT_MISMATCH),
    ],
)
async def test_what_is_not_certain_is_held_with_its_reason(
    database_url: str, records: tuple[str, ...], reason: HoldReason
) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC")
        await lab.send(message(*records))
        await lab.settle()
        (result,) = await lab.results()
        assert reason in result.held
        assert result.status is ResultStatus.REGISTERED
        assert await lab.results(Audience.EMR_PRELIMINARY) == []
        assert await lab.messages() == [("complete", "held")]


async def test_the_analyzers_demographics_never_change_the_orders(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC", birth_date=None, sex=Sex.UNKNOWN)
        await lab.send(message(P1, specimen("S1"), WBC))
        await lab.settle()
        patient = await lab.owner.fetchrow("select family, birth_date, sex from lab.patient")
        assert patient is not None
        assert tuple(patient) == ("Muster", None, "unknown")


async def test_a_result_without_an_order_is_registered_where_the_link_says_so_and_gets_no_patient(
    database_url: str,
) -> None:
    async with laboratory(database_url, unsolicited=Unsolicited.REGISTER) as lab:
        await lab.order("S1", "WBC")
        await lab.send(message(P1, specimen("S9"), WBC))
        await lab.settle()
        (result,) = await lab.results()
        assert (result.held, result.status) == ((), ResultStatus.PRELIMINARY)
        assert (result.patient_id, result.order_id) == (None, None)


async def test_what_a_message_has_of_results_without_an_order_is_one_row_of_the_feed(database_url: str) -> None:
    async with laboratory(database_url, unsolicited=Unsolicited.REGISTER) as lab:
        for barcode in ("S8", "S9"):
            await lab.send(message(P1, specimen(barcode), WBC, HGB, control=barcode))
        await lab.settle()
        views = await lab.results()
        rows = await lab.owner.fetch("select kind, versions from lab.outbox order by place")
        assert [(row["kind"], len(row["versions"])) for row in rows] == [("preliminary", 2)] * (len(views) // 2)
        async with lab.database.transaction(lab.organization_id) as connection:
            assert await changes.seal(connection, lab.organization_id) == len(rows)
            told = await changes.resources(connection, "Observation", 0, len(rows))
            assert not await changes.resources(connection, "DiagnosticReport", 0, len(rows))
        assert sorted(one.id for one in told) == sorted(view.id for view in views)


async def test_the_same_message_again_is_answered_and_not_applied_again(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC")
        for _ in range(3):
            assert (await lab.send(message(P1, specimen("S1"), WBC))).message_id is not None
        await lab.settle()
        assert await lab.messages() == [("complete", "released"), ("complete", "duplicate"), ("complete", "duplicate")]
        assert [view.version for view in await lab.results()] == [1]


async def test_the_same_result_in_another_message_is_no_new_version(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC")
        await lab.send(message(P1, specimen("S1"), WBC, control="C1"))
        await lab.send(message(P1, specimen("S1"), WBC, control="C2"))
        await lab.settle()
        assert await lab.messages() == [("complete", "released"), ("complete", "released")]
        assert [view.version for view in await lab.results()] == [1]


async def test_another_value_under_the_same_key_is_a_new_version_and_the_old_one_is_kept(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC")
        await lab.send(message(P1, specimen("S1"), WBC))
        await lab.send(message(P1, specimen("S1"), WBC.replace("7.35", "7.40"), control="C2"))
        await lab.settle()
        (result,) = await lab.results()
        assert (result.version, result.value) == (2, "7.40")
        versions = await lab.owner.fetch("select version, value from lab.result_version order by version")
        assert [tuple(row) for row in versions] == [(1, "7.35"), (2, "7.40")]


async def test_a_change_to_a_released_result_waits_and_the_released_version_stays(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC")
        await lab.send(message(P1, specimen("S1"), WBC))
        await lab.settle()
        await lab.release((await lab.results())[0].id)
        await lab.send(message(P1, specimen("S1"), WBC.replace("7.35", "7.40"), control="C2"))
        await lab.settle()
        (result,) = await lab.results()
        assert (result.version, result.value, result.pending) == (2, "7.35", True)
        (seen,) = await lab.results(Audience.EMR)
        assert (seen.value, seen.status) == ("7.35", ResultStatus.FINAL)
        waiting = await lab.owner.fetchrow("select held, status, value from lab.result_version where version = 3")
        assert waiting is not None
        assert HoldReason.CHANGED_AFTER_RELEASE in waiting["held"]
        await lab.send(message(P1, specimen("S1"), WBC.replace("7.35", "7.40"), control="C3"))
        await lab.settle()
        assert await lab.owner.fetchval("select count(*) from lab.result_version") == 3, "the change waits already"


async def test_a_cut_transmission_holds_its_whole_records_and_its_resend_supersedes_them(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC", "HGB")
        whole = message(P1, specimen("S1"), WBC, HGB)
        await lab.send(whole[:4], end="lost")
        await lab.settle()
        assert await lab.messages() == [("incomplete", "held")]
        assert await statuses(lab) == [
            ("WBC", ResultStatus.REGISTERED, (HoldReason.INCOMPLETE_TRANSMISSION,)),
        ]
        await lab.send(whole)
        await lab.settle()
        assert await statuses(lab) == [("WBC", ResultStatus.PRELIMINARY, ()), ("HGB", ResultStatus.PRELIMINARY, ())]
        assert (await lab.results())[0].version == 2


async def test_what_comes_cut_after_it_came_whole_changes_nothing(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC", "HGB")
        whole = message(P1, specimen("S1"), WBC, HGB)
        await lab.send(whole)
        await lab.send(whole[:4], end="timeout")
        await lab.settle()
        assert await statuses(lab) == [("WBC", ResultStatus.PRELIMINARY, ()), ("HGB", ResultStatus.PRELIMINARY, ())]


async def test_a_control_never_becomes_a_patients_result(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("QC1", "WBC")
        await lab.send(message("P|1", "O|1|QC1||^^^CBC|R||||||Q", WBC))
        await lab.settle()
        assert await lab.results() == []
        control = await lab.owner.fetchrow("select role, specimen_as_sent, number from lab.qc_result")
        assert control is not None
        assert (control["role"], control["specimen_as_sent"], str(control["number"])) == ("qc", "QC1", "7.35")


async def test_results_without_a_specimen_id_never_join_each_other(database_url: str) -> None:
    """Two messages without an id are two results, even when everything else is the same."""
    async with laboratory(database_url) as lab:
        await lab.send(message(P1, "O|1|||^^^CBC|R", WBC, control="C1"))
        await lab.send(message(P1, "O|1|||^^^CBC|R", WBC, control="C2"))
        await lab.settle()
        assert len(await lab.results()) == 2


async def test_a_message_that_crashes_its_decoding_is_parked_at_the_third_attempt_and_the_rest_moves_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = flow.decode
    tried = []

    def stumble(message: StoredMessage, link: object) -> object:
        if message.control_id == "POISON":
            tried.append(message.id)
            raise RuntimeError("a fault of the driver's")
        return real(message, link)  # type: ignore[arg-type]

    monkeypatch.setattr(flow, "decode", stumble)
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC", "HGB")
        await lab.send(message(P1, specimen("S1"), HGB, control="POISON"))
        await lab.send(message(P1, specimen("S1"), WBC))
        await lab.settle()
        assert await lab.messages() == [("complete", "parked"), ("complete", "released")]
        assert len(tried) == 3
        reason = await lab.owner.fetchval("select reason from lab.message where settled = 'parked'")
        assert "RuntimeError" in reason
        assert "fault of the driver" not in reason, "what an exception quotes may be a patient's"
        assert await statuses(lab) == [("WBC", ResultStatus.PRELIMINARY, ())]


async def test_a_message_that_ended_the_process_at_every_attempt_is_parked_before_it_is_tried_again(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        await lab.send(message(P1, specimen("S1"), WBC))
        await lab.owner.execute("update lab.queue set attempts = 3")
        await lab.settle()
        assert await lab.messages() == [("complete", "parked")]


async def test_messages_of_one_specimen_are_decided_in_the_order_they_came(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC")
        for number in range(20):
            await lab.send(message(P1, specimen("S1"), WBC.replace("7.35", f"7.{number:02d}"), control=f"C{number}"))
        await lab.settle()
        rows = await lab.owner.fetch("select value from lab.result_version order by version")
        assert [row["value"] for row in rows] == [f"7.{number:02d}" for number in range(20)]


async def test_several_patients_in_one_message_are_kept_apart(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        first = await lab.order("S1", "WBC", patient_id="P-1")
        second = await lab.order("S2", "WBC", patient_id="P-2", birth_date=date(1950, 1, 1), sex=Sex.MALE)
        await lab.send(message(P1, specimen("S1"), WBC, "P|2||P-2||||19500101|M", specimen("S2"), WBC))
        await lab.settle()
        one, two = await lab.results()
        assert (one.order_id, two.order_id) == (first.id, second.id)
        assert one.held == two.held == ()


async def test_a_nul_character_in_a_field_loses_nothing(database_url: str) -> None:
    async with laboratory(database_url, driver="generic_hl7") as lab:
        block = (
            b"MSH|^~\\&|T|L|||20260102||ORU^R01|7|P|2.5.1\rPID|1||P-1\rOBR|1||S1|CBC\r"
            b"OBX|1|ST|6690-2^WBC^LN||a\\X00\\b\x00c|||N|||F\r"
        )
        receipt = await lab.intake.block(block, "127.0.0.1:1")
        assert receipt.reply is not None and b"MSA|AA|7" in receipt.reply
        await lab.settle()
        (result,) = await lab.results()
        assert "\N{REPLACEMENT CHARACTER}" in result.raw_value
        async with lab.database.organization(lab.organization_id) as connection:
            raw = await connection.fetchval("select bytes from lab.frame")
        assert raw == block


@pytest.mark.parametrize(
    ("before", "sent", "by_rote", "also", "measured"),
    [
        ("", "+0100", False, "", 2), ("\ufeff", "+0100", False, "", 2), ("\r\n", "+0100", False, "", 2),
        ("", "", False, "", 3), ("", "+0000", False, "", 3), ("", "+0100", True, "", 3),
        ("", "+0100", False, "+0100", 2), ("", "+0100", True, "+0100", 3),
        ("", "+0100", True, "+0200", 1), ("", "", True, "+0200", 1),
    ],
)  # fmt: skip
async def test_times_without_an_offset_are_in_the_zone_that_the_sender_says(
    database_url: str, before: str, sent: str, by_rote: bool, also: str, measured: int
) -> None:
    """HL7 v2.5.1 2.14.9.7: the offset of MSH-7 is that of the whole message; the link's zone was left at UTC. One that
    is by rote there says nothing beside the result's time (`also`) either."""
    async with laboratory(database_url, driver="generic_hl7") as lab:
        settings = replace(lab.context.settings, offset_by_rote=by_rote)
        lab.contexts[lab.context.link_id] = replace(lab.context, settings=settings)
        block = (
            f"{before}MSH|^~\\&|T|L|||20260102030500{sent}||ORU^R01|7|P|2.5.1\rPID|1||P-1\rOBR|1||S1|CBC\r"
            f"OBX|1|NM|6690-2^WBC^LN||7.1|10*3/uL|||||F|||20260102030405{also}\r"
        )
        await lab.intake.block(block.encode(), "127.0.0.1:1")
        await lab.settle()
        (result,) = await lab.results()
        assert result.instrument_at == datetime(2026, 1, 2, measured, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("by_rote", [True, False])
async def test_the_clock_of_who_writes_an_offset_by_rote_is_right(database_url: str, by_rote: bool) -> None:
    """It stood as seven hours ahead, however well it was set; also where nobody had to say that it is by rote."""
    now = datetime.now(ZoneInfo("Asia/Jakarta"))
    async with laboratory(database_url, driver="generic_hl7") as lab:
        settings = replace(lab.context.settings, offset_by_rote=by_rote, timezone="Asia/Jakarta")
        lab.contexts[lab.context.link_id] = replace(lab.context, settings=settings)
        block = f"MSH|^~\\&|T|L|||{now:%Y%m%d%H%M%S}+0000||ORU^R01|7|P|2.5.1\rPID|1||P-1\rOBR|1||S1|CBC\r"
        await lab.intake.block(f"{block}OBX|1|NM|6690-2^WBC^LN||7.1|10*3/uL|||||F\r".encode(), "127.0.0.1:1")
        await lab.settle()
        page = telemetry.metrics_page()[0].decode()
        told = re.search(rf'labora_link_clock_seconds{{link="{lab.context.name}"}} (\S+)', page)
        assert told is not None
        assert abs(float(told[1])) < 60


async def test_a_query_is_settled_as_not_answered_and_asked_twice_it_is_no_resend(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.send(message("Q|1|^S1||ALL"))
        await lab.send(message("Q|1|^S1||ALL"))
        await lab.settle()
        assert await lab.messages() == [("complete", "rejected"), ("complete", "rejected")]


async def test_a_message_of_another_analyzer_than_the_driver_is_written_for_is_held(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        driver = replace(lab.context.driver, generic=False, match=registry.load("sysmex_xn").match)
        lab.contexts[lab.context.link_id] = replace(lab.context, driver=driver)
        await lab.order("S1", "WBC")
        await lab.send(message(P1, specimen("S1"), WBC))
        await lab.settle()
        (result,) = await lab.results()
        assert HoldReason.DRIVER_MISMATCH in result.held


async def test_a_detail_is_a_result_only_where_a_map_names_it(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        rules = (Classification(RecordKind.DETAIL, frozenset({"RAW", "HGB"})),)
        driver = replace(lab.context.driver, classifications=rules)
        lab.contexts[lab.context.link_id] = replace(lab.context, driver=driver)
        await lab.order("S1", "WBC", "HGB")
        await lab.send(message(P1, specimen("S1"), WBC, HGB, "R|3|^^^RAW|9245|RLU||||F", "R|4|^^^NEW|1|||||F"))
        await lab.settle()
        assert [(view.code, view.held) for view in await lab.results()] == [
            ("WBC", ()),
            ("HGB", ()),
            ("NEW", (HoldReason.UNMAPPED_CODE,)),
        ]


async def test_a_detail_that_is_mapped_on_one_specimen_type_is_never_dropped(database_url: str) -> None:
    """Though the analyzer sends no type: the order may know it, and if not, the result waits."""
    async with laboratory(database_url) as lab:
        rules = (Classification(RecordKind.DETAIL, frozenset({"HGB"})),)
        lab.contexts[lab.context.link_id] = replace(
            lab.context, driver=replace(lab.context.driver, classifications=rules)
        )
        await lab.owner.execute("update lab.code_map set specimen_type = 'SER' where code = 'HGB'")
        await lab.order("S1", "WBC", "HGB")
        await lab.send(message(P1, specimen("S1"), WBC, HGB))
        await lab.settle()
        assert [view.code for view in await lab.results()] == ["WBC", "HGB"]


TIMELESS = WBC.removesuffix("|||20260102030000")  # many analyzers send no time with a result


async def close(lab: Laboratory, barcode: str) -> None:
    await lab.owner.execute(
        "update lab.specimen set state = 'exhausted', status = 'unavailable' where barcode = $1", barcode
    )


@pytest.mark.parametrize("released", [False, True])
async def test_a_recycled_barcode_never_gives_one_patient_the_result_of_another(
    database_url: str, released: bool
) -> None:
    async with laboratory(database_url) as lab:
        first = await lab.order("S1", "WBC", patient_id="P-1")
        await lab.send(message(specimen("S1"), TIMELESS))
        await lab.settle()
        if released:
            await lab.release((await lab.results())[0].id)
        await close(lab, "S1")
        second = await lab.order("S1", "WBC", patient_id="P-2", birth_date=date(1950, 1, 1), sex=Sex.MALE)
        for control in ("C2", "C3"):
            await lab.send(message(specimen("S1"), TIMELESS.replace("7.35", "2.10"), control=control))
        await lab.settle()
        one, two = await lab.results()
        assert (one.value, one.order_id, one.patient_id, one.pending) == ("7.35", first.id, first.patient_id, False)
        assert (two.value, two.order_id, two.patient_id) == ("2.10", second.id, second.patient_id)
        assert (two.status, two.held, two.version) == (ResultStatus.PRELIMINARY, (), 1)


@pytest.mark.parametrize("policy", Unsolicited)
async def test_what_comes_late_for_a_closed_specimen_leaves_the_patients_result_alone(
    database_url: str, policy: Unsolicited
) -> None:
    async with laboratory(database_url, unsolicited=policy) as lab:
        order = await lab.order("S1", "WBC")
        await lab.send(message(specimen("S1"), TIMELESS))
        await lab.settle()
        await close(lab, "S1")
        await lab.send(message(specimen("S1"), TIMELESS.replace("7.35", "2.10"), control="C2"))
        await lab.settle()
        one, two = await lab.results()
        assert (one.value, one.order_id, one.held) == ("7.35", order.id, ())
        assert (two.value, two.order_id, two.patient_id) == ("2.10", None, None)


async def test_a_specimen_that_is_known_but_closed_is_never_taken_for_an_unknown_one(database_url: str) -> None:
    """`register` is for what nobody ordered, not for a tube that was rejected."""
    async with laboratory(database_url, unsolicited=Unsolicited.REGISTER) as lab:
        await lab.order("S1", "WBC")
        await close(lab, "S1")
        await lab.send(message(specimen("S1"), WBC))
        await lab.settle()
        assert await statuses(lab) == [("WBC", ResultStatus.REGISTERED, (HoldReason.NO_SUCH_SPECIMEN,))]


@pytest.mark.parametrize("released", [False, True])
async def test_an_unsolicited_result_that_is_sent_again_after_its_order_answers_the_order(
    database_url: str, released: bool
) -> None:
    async with laboratory(database_url, unsolicited=Unsolicited.REGISTER) as lab:
        await lab.send(message(specimen("S1"), WBC))
        await lab.settle()
        if released:
            await lab.release((await lab.results())[0].id)
        order = await lab.order("S1", "WBC")
        for control in ("C2", "C3"):
            await lab.send(message(specimen("S1"), WBC, control=control))
        await lab.settle()
        results = await lab.results()
        assert [(one.order_id, one.status) for one in results] == (
            [(None, ResultStatus.FINAL), (order.id, ResultStatus.PRELIMINARY)]
            if released
            else [(order.id, ResultStatus.PRELIMINARY)]
        )
        assert [one.pending for one in results] == [False] * len(results)


async def test_a_new_remark_of_the_analyzer_on_a_released_result_waits_like_any_change(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC")
        await lab.send(message(specimen("S1"), WBC))
        await lab.settle()
        await lab.release((await lab.results())[0].id)
        for control in ("C2", "C3"):
            await lab.send(message(specimen("S1"), WBC, "C|1|I|clot in the sample", control=control))
        await lab.settle()
        (result,) = await lab.results()
        assert (result.pending, result.comments, result.status) == (True, (), ResultStatus.FINAL)
        assert await lab.owner.fetchval("select count(*) from lab.result_version") == 3


async def test_an_explanation_names_the_version_that_is_released(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC")
        await lab.send(message(specimen("S1"), WBC))
        await lab.settle()
        await lab.release((await lab.results())[0].id)
        for number in (1, 2):  # the second finds a version that was never current
            await lab.send(message(specimen("S1"), WBC.replace("7.35", f"8.{number}"), control=f"D{number}"))
        await lab.settle()
        steps = await lab.owner.fetch(
            "select lab.explained(d.steps)::json as steps from lab.decision d"
            " join lab.result_version v on v.id = d.result_version_id"
            " where v.version > 2 order by v.version"
        )
        texts = [step["text"] for row in steps for step in row["steps"] if step["step"] == "version"]
        assert texts == ["version 2 is released and stays current until a person decides"] * 2


async def test_a_large_message_is_decoded_and_decided_while_the_links_are_served(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    for name in ("decode", "outcome_of"):
        real = getattr(flow, name)

        def noted(*args: object, real: Callable[..., object] = real) -> object:
            threads.append(threading.current_thread())
            return real(*args)

        monkeypatch.setattr(flow, name, noted)
    async with laboratory(database_url) as lab:
        await lab.order("S1", "WBC")
        await lab.send(message(P1, specimen("S1"), WBC, *(f"C|{n}|I|{'x' * 200}|G" for n in range(400, 800))))
        await lab.settle()
        assert await lab.messages() == [("complete", "released")]
    assert len(threads) == 2
    assert threading.main_thread() not in threads


async def test_what_is_said_of_a_message_is_kept_word_for_word_but_for_nuls(database_url: str) -> None:
    """Its problems, the reason and what the audit says of it: text of PostgreSQL holds no NUL."""
    async with laboratory(database_url) as lab:
        for barcode in ("S1", "S2"):
            await lab.send(message(P1, specimen(barcode), WBC))
        said = [("R-1: \"a\", 'b' {c} \\", "R-2: \0 µg"), ()]
        waiting = await lab.owner.fetch("select message_id, lane from lab.queue order by 1")
        outcomes = [
            Outcome(id, "held", link_id, "link", problems=problems, reason="why\0", detail={"n": "ü\0"})
            for (id, link_id), problems in zip(waiting, said, strict=True)
        ]
        async with lab.database.by_index(lab.organization_id) as connection:
            await commit(connection, lab.organization_id, outcomes)
        rows = await lab.owner.fetch("select problems, reason from lab.message order by id")
        shown = tuple(one.replace("\0", "\N{REPLACEMENT CHARACTER}") for one in said[0])
        assert [(tuple(row["problems"]), row["reason"]) for row in rows] == [(shown, "why\ufffd"), ((), "why\ufffd")]
        told = await lab.owner.fetch("select detail ->> 'n' as n from lab.audit_event where action like '%settle'")
        assert [row["n"] for row in told] == ["ü\ufffd", "ü\ufffd"]
