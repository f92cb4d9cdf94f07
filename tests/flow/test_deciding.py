"""A message's results under a rule set in force: released by the rules, checked, calculated, followed up, explained."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from interface.domain.model import FollowUpKind, HoldReason, ItemStatus, Origin, ResultStatus, Sex
from interface.domain.views import Audience, ResultView
from interface.flow.consequences import follow
from interface.flow.correction import NewValue
from interface.flow.entry import Entry, EntryError, enter
from interface.flow.follow_ups import request
from interface.flow.map_facts import Analyzers
from interface.flow.people import merge
from interface.flow.replay import Replayed, ReplayError, replay
from interface.flow.review import correct
from interface.flow.rules import import_rules
from interface.flow.trace import trace
from interface.flow.trial import Offered, prepare
from interface.settings import BarcodeRules
from interface.store.lab import explanations
from interface.store.review import QueueFilter, waiting
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import LOINC, RULES, put_in_force, sent

FINAL, PRELIMINARY, REGISTERED = ResultStatus.FINAL, ResultStatus.PRELIMINARY, ResultStatus.REGISTERED


async def by_code(lab: Laboratory, audience: Audience = Audience.STAFF) -> dict[str, ResultView]:
    """The reported result of each test."""
    return {view.test_code: view for view in await lab.results(audience) if view.reportable}


async def steps(lab: Laboratory, view: ResultView) -> list[tuple[str, str]]:
    found = await lab.owner.fetchval(
        "select lab.explained(steps)::json from lab.decision where result_version_id = $1", view.version_id
    )
    return [(step["step"], step["verdict"]) for step in found]


async def items(lab: Laboratory) -> dict[str, str]:
    rows = await lab.owner.fetch(
        "select t.code, i.status from lab.order_item i join lab.test t on t.id = i.test_id order by i.id"
    )
    return {row["code"]: row["status"] for row in rows}


async def test_what_passes_every_rule_is_released_by_the_rule_set_with_all_that_follows(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        revision = await put_in_force(lab)
        await lab.order("S1", "NA", "K")
        await lab.send(sent("S1", {"NA": "140", "K": "4.1"}))
        await lab.settle()
        found = await by_code(lab, Audience.EMR)
        assert {code: (view.status, view.value) for code, view in found.items()} == {
            "NA": (FINAL, "140"), "K": (FINAL, "4.1"),
        }  # fmt: skip
        assert await items(lab) == {"NA": ItemStatus.VERIFIED, "K": ItemStatus.VERIFIED}
        (owed,) = await lab.owner.fetch("select kind, entity_id, versions from lab.outbox where versions <> '{}'")
        assert (owed["kind"], owed["entity_id"]) == ("order", found["K"].order_id)
        assert set(owed["versions"]) == {view.version_id for view in found.values()}
        async with lab.database.organization(lab.organization_id) as connection:
            traced = await trace(connection, "S1")
        assert [[(one.version, one.sealed_at) for one in each.owed] for each in traced.results] == [[(1, None)]] * 2
        version = await lab.owner.fetchrow("select * from lab.result_version where id = $1", found["K"].version_id)
        assert version is not None
        assert (version["actor_kind"], version["actor_id"], version["version"]) == ("rule_set", revision.id, 1)
        assert found["K"].released_at is not None
        audit = await lab.owner.fetchrow("select * from lab.audit_event where action = 'autoverify'")
        assert audit is not None
        assert (audit["actor_kind"], audit["actor_name"]) == ("rule_set", "default 1")
        assert set(audit["detail"]["results"].split()) == {str(view.id) for view in found.values()}
        settled = await lab.owner.fetchval("select detail from lab.audit_event where action = 'message.settle'")
        assert "results" not in settled  # each stands once in what the trail says of the message
        assert ("autoverification", "ok") in await steps(lab, found["K"])
        assert await lab.owner.fetchval("select version from lab.lab_order") == 2


async def test_without_a_rule_set_everything_waits(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "NA")
        await lab.send(sent("S1", {"NA": "140"}))
        await lab.settle()
        assert (await by_code(lab))["NA"].status is PRELIMINARY


async def test_a_failing_check_holds_its_result_and_no_other(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "NA", "K")
        await lab.send(sent("S1", {"NA": "240", "K": "4.1"}))
        await lab.settle()
        found = await by_code(lab)
        assert (found["NA"].status, found["NA"].held) == (
            REGISTERED, (HoldReason.IMPLAUSIBLE, HoldReason.RULE),
        )  # fmt: skip
        assert found["K"].status is FINAL
        assert ("range", "hold") in await steps(lab, found["NA"])
        assert await lab.messages() == [("complete", "held")]


async def test_a_delta_is_against_the_persons_last_released_result_whatever_specimen_comes_first(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "CREA")
        await lab.order("S2", "CREA")
        await lab.order("S3", "CREA", patient_id="P-2")
        await lab.owner.execute("update lab.specimen set collected_at = '2026-01-03Z' where barcode = 'S2'")
        # The later specimen is measured first: the earlier one is compared with it when it comes.
        await lab.send(sent("S2", {"CREA": "2.0"}))
        await lab.send(sent("S1", {"CREA": "1.0"}, control="C2"))
        await lab.send(sent("S3", {"CREA": "1.0"}, control="C3", patient="P-2"))
        await lab.settle()
        decided = {view.barcode: (view.status, view.held, view.flags) for view in await lab.results()}
        # It is the later one that went up: a person who releases the earlier one does not report it as a change.
        assert decided == {
            "S2": (FINAL, (), ("H",)), "S1": (REGISTERED, (HoldReason.DELTA,), ("N",)), "S3": (FINAL, (), ("N",)),
        }  # fmt: skip


async def test_what_is_calculated_is_made_of_reported_results_and_made_anew_when_one_changes(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "NA", "CL", "HCO3", "AGAP")
        await lab.send(sent("S1", {"NA": "140", "CL": "102"}))
        await lab.settle()
        assert "AGAP" not in await by_code(lab)
        await lab.send(sent("S1", {"HCO3": "24"}, control="C2"))
        await lab.settle()
        gap = (await by_code(lab))["AGAP"]
        assert (gap.value, gap.status, gap.origin, gap.analyzer) == ("14.0", FINAL, Origin.CALCULATION, "")
        assert (await items(lab))["AGAP"] == ItemStatus.VERIFIED
        # Another value of an input that is released waits; nothing is calculated of it until a person decides.
        await lab.send(sent("S1", {"NA": "150"}, control="C3"))
        await lab.settle()
        found = await by_code(lab)
        assert (found["NA"].value, found["NA"].pending, found["AGAP"].pending) == ("140", True, False)
        async with lab.database.transaction(lab.organization_id) as connection:
            from interface.flow.review import accept_change

            await accept_change(connection, lab.director, found["NA"].id)
            assert await follow(connection, lab.director, [found["NA"].id]) == []
        found = await by_code(lab)
        assert (found["NA"].value, found["AGAP"].value, found["AGAP"].pending) == ("150", "14.0", True)
        waiting = await lab.owner.fetchval(
            "select value from lab.result_version where result_id = $1 and version = 2", gap.id
        )
        assert waiting == "24.0"


async def test_nothing_is_calculated_of_what_is_held_until_it_is_released(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "NA", "CL", "HCO3", "AGAP")
        await lab.send(sent("S1", {"NA": "240", "CL": "102", "HCO3": "24"}))
        await lab.settle()
        assert "AGAP" not in await by_code(lab)


async def test_a_reflex_adds_its_test_once_and_a_critical_result_makes_its_task(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "K")
        await lab.send(sent("S1", {"K": "2.0"}))
        await lab.send(sent("S1", {"K": "2.1"}, control="C2"))
        await lab.settle()
        assert (await items(lab))["MG"] == ItemStatus.RECEIVED
        assert await lab.owner.fetchval("select count(*) from lab.follow_up where kind = 'reflex'") == 1
        assert await lab.owner.fetchval("select count(*) from lab.order_item") == 2
        audit = await lab.owner.fetchrow("select * from lab.audit_event where action = 'follow_up'")
        assert audit is not None
        assert (audit["actor_kind"], audit["actor_name"], audit["detail"]["kind"]) == (
            "rule_set",
            "default 1",
            "reflex",
        )
        potassium = (await by_code(lab))["K"]
        assert (potassium.status, potassium.flags) == (REGISTERED, ("LL",))
        assert await lab.owner.fetchval("select count(*) from lab.critical_notification") == 1
        await lab.send(sent("S1", {"MG": "1.9"}, control="C3"))
        await lab.settle()
        assert (await by_code(lab))["MG"].status is FINAL
        assert await lab.owner.fetchval("select state from lab.follow_up") == "done"


async def test_a_rerun_is_asked_for_once_and_its_result_is_reported(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "CREA")
        await lab.send(sent("S1", {"CREA": "9.0"}))
        await lab.settle()
        first = (await by_code(lab))["CREA"]
        assert (first.status, first.held) == (REGISTERED, (HoldReason.RERUN,))
        await lab.send(sent("S1", {"CREA": "7.2"}, control="C2", at="20260102033000"))
        await lab.settle()
        runs = await lab.results()
        assert [(run.value, run.reportable, run.status) for run in runs] == [
            ("9.0", False, REGISTERED), ("7.2", True, FINAL),
        ]  # fmt: skip
        assert ("run", "ok") in await steps(lab, runs[1])
        assert await lab.owner.fetchval("select array_agg(state) from lab.follow_up") == ["done"]
        # A third run, of what is released already, changes nothing: a person decides.
        await lab.send(sent("S1", {"CREA": "5.0"}, control="C3", at="20260102040000"))
        await lab.settle()
        third = (await lab.results())[2]
        assert (third.reportable, third.held) == (False, (HoldReason.ALREADY_REPORTED,))
        assert [view.value for view in await lab.results(Audience.EMR)] == ["7.2"]
        assert (await items(lab))["CREA"] == ItemStatus.VERIFIED


async def test_a_rerun_that_would_be_measured_once_more_is_left_to_a_person(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "CREA")
        await lab.send(sent("S1", {"CREA": "9.0"}))
        await lab.settle()
        await lab.send(sent("S1", {"CREA": "9.2"}, control="C2", at="20260102033000"))
        await lab.settle()
        again = (await lab.results())[1]
        assert (again.reportable, again.status, again.held) == (True, REGISTERED, (HoldReason.RULE,))
        assert await lab.owner.fetchval("select array_agg(state) from lab.follow_up") == ["done"]


async def test_another_run_that_nobody_asked_for_and_that_differs_is_left_to_a_person(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "CREA")
        await lab.send(sent("S1", {"CREA": "1.0"}))
        await lab.settle()
        await put_in_force(lab)
        await lab.send(sent("S1", {"CREA": "1.4"}, control="C2", at="20260102033000"))
        await lab.settle()
        first, second = await lab.results()
        assert (first.reportable, second.reportable, second.status) == (False, True, PRELIMINARY)
        assert ("run", "ok") in await steps(lab, second)


async def test_what_a_person_enters_is_decided_like_an_analyzers(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        order = await lab.order("S1", "NA", "K")
        ids = {item.test_code: item.id for item in order.items}

        async def entered(code: str, value: str, unit: str = "") -> ResultView:
            async with lab.database.transaction(lab.organization_id) as connection:
                return (await enter(connection, lab.director, [Entry(ids[code], value, unit, "by hand")]))[0]

        sodium = await entered("NA", "140")
        assert (sodium.status, sodium.origin, sodium.value, sodium.unit) == (FINAL, Origin.MANUAL, "140", "mmol/L")
        assert (await entered("NA", "140")).version == 1
        changed = await entered("NA", "141")
        assert (changed.value, changed.pending) == ("140", True)
        absurd = await entered("K", "41", "furlong")
        assert absurd.held == (HoldReason.UNKNOWN_UNIT,)
        assert (await entered("K", "4.1")).status is FINAL
        assert await lab.owner.fetchval("select count(*) from lab.audit_event where action = 'enter'") == 4
        with pytest.raises(EntryError, match="no value"):
            await entered("K", "  ")


async def test_a_person_may_ask_for_a_rerun_and_the_rule_set_releases_its_result(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "CREA")
        await lab.send(sent("S1", {"CREA": "1.0"}))
        await lab.settle()
        await put_in_force(lab)
        first = (await by_code(lab))["CREA"]
        async with lab.database.transaction(lab.organization_id) as connection:
            await request(connection, lab.director, first.id, FollowUpKind.RERUN, reason="bubble")
        await lab.send(sent("S1", {"CREA": "1.1"}, control="C2", at="20260102033000"))
        await lab.settle()
        second = (await by_code(lab))["CREA"]
        assert (second.value, second.status) == ("1.1", FINAL)


async def test_a_links_rules_say_which_specimen_an_id_means_and_the_id_as_sent_is_kept(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        settings = replace(lab.context.settings, barcode=BarcodeRules(strip_prefix="]C1", pad=6), control_ids=("77.*",))
        lab.contexts[lab.context.link_id] = replace(lab.context, settings=settings)
        await lab.order("000042", "NA")
        await lab.order("77", "NA", patient_id="P-2")
        await lab.send(sent("]C142", {"NA": "140"}))
        await lab.send(sent("77", {"NA": "141"}, control="C2", patient="P-2"))
        await lab.settle()
        sodium, control = await lab.results()
        assert (sodium.barcode, sodium.held, sodium.order_id is None) == ("]C142", (), False)
        assert (control.held, control.patient_id) == ((HoldReason.CONTROL_LIKE_ID,), None)


async def test_a_barcode_that_was_used_long_ago_means_nobody(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "NA")
        await lab.owner.execute("update lab.specimen set created_at = received_at - interval '1 hour'")
        await lab.send(sent("S1", {"NA": "140"}))
        await lab.settle()
        (result,) = await lab.results()
        # Of nobody it is not known either which critical limits count, and the rule asks.
        assert (result.held, result.patient_id) == ((HoldReason.OUTSIDE_WINDOW, HoldReason.RULE), None)


async def test_a_replay_shows_what_another_rule_set_would_change_and_decides_by_what_is_in_force(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "NA", "K")
        await lab.send(sent("S1", {"NA": "140", "K": "2.0"}))
        await lab.settle()
        message_id = (await lab.results())[0].message_id
        assert message_id is not None

        async def replayed(dry_run: bool, rule_set: tuple[str, int] | None = None) -> Replayed:
            analyzers, links = Analyzers({"bench": lab.context.settings}, frozenset()), lab.contexts.values()
            trial = None if rule_set is None else await prepare(
                lab.database, lab.director, Offered(rule_set=rule_set), analyzers, links
            )  # fmt: skip
            return await replay(
                lab.database, lab.director, message_id, lab.contexts.get, dry_run=dry_run, trial=trial
            )  # fmt: skip

        async with lab.database.transaction(lab.organization_id) as connection:
            await import_rules(connection, lab.director, RULES, "here", "to try")
        tried = await replayed(True, ("default", 1))
        assert {change.code: (change.status, change.after.held) for change in tried.changes} == {
            LOINC["NA"]: (FINAL, ()), LOINC["K"]: (REGISTERED, ("rule",)),
        }  # fmt: skip
        assert tried.rule_set == "default 1"
        assert [view.status for view in await lab.results()] == [PRELIMINARY, PRELIMINARY]
        assert (await replayed(False)).changes == ()
        await put_in_force(lab, RULES + "\n")
        assert (await replayed(False)).rule_set == "default 2"
        found = await by_code(lab)
        assert (found["NA"].status, found["K"].held) == (FINAL, (HoldReason.RULE,))
        async with lab.database.organization(lab.organization_id) as connection:
            traced = await trace(connection, "S1")
        by_test = {one.current.test_code: one for one in traced.results}
        assert [version.made_by for version in by_test["NA"].versions] == ["link bench", "rule_set default@2"]
        assert [one.rule for one in by_test["K"].asked] == ["magnesium when potassium is low"]
        with pytest.raises(ReplayError, match="not in force"):
            await replayed(False, ("default", 1))


async def test_a_delta_is_against_every_record_of_the_person_and_either_id_is_the_patients(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        first, second = await lab.order("S1", "CREA"), await lab.order("S2", "CREA", patient_id="P-2")
        await lab.send(sent("S1", {"CREA": "1.0"}))
        await lab.settle()
        assert first.patient_id is not None
        assert second.patient_id is not None
        async with lab.database.transaction(lab.organization_id) as connection:
            await merge(connection, lab.director, second.patient_id, first.patient_id, "one person")
        await lab.send(sent("S2", {"CREA": "2.0"}, control="C2"))  # the analyzer knows the first record's id
        await lab.settle()
        assert {view.barcode: view.held for view in await lab.results()} == {"S1": (), "S2": (HoldReason.DELTA,)}


async def test_a_tube_and_what_was_parted_from_it_are_one_specimen(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "NA", "CL", "HCO3", "AGAP")
        await lab.owner.execute(
            "insert into lab.specimen (id, organization_id, barcode, order_id, patient_id, parent_id, collected_at)"
            " select gen_random_uuid(), organization_id, 'S1-2', order_id, patient_id, id, collected_at"
            " from lab.specimen"
        )
        await lab.send(sent("S1", {"NA": "140", "CL": "102"}))
        await lab.send(sent("S1-2", {"HCO3": "24"}, control="C2"))
        await lab.settle()
        found = await by_code(lab)
        assert (found["HCO3"].status, found["AGAP"].value) == (FINAL, "14.0")
        assert set((await items(lab)).values()) == {ItemStatus.VERIFIED}


async def test_a_correction_is_judged_by_what_the_surviving_record_of_the_patient_says(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        first = await lab.order("S1", "CREA", sex=Sex.UNKNOWN)
        second = await lab.order("S2", "CREA", patient_id="P-2")
        await lab.send(sent("S1", {"CREA": "1.0"}))
        await lab.settle()
        before = (await by_code(lab))["CREA"]
        assert first.patient_id is not None
        assert second.patient_id is not None
        async with lab.database.transaction(lab.organization_id) as connection:
            await merge(connection, lab.director, first.patient_id, second.patient_id, "one person")
            corrected = await correct(connection, lab.director, before.id, NewValue("1.1"), "typed wrong")
            why = (await explanations(connection, [corrected.version_id]))[corrected.version_id]
            (shown,) = await waiting(connection, QueueFilter(patient_ids=(second.patient_id,)))
        await lab.send(sent("S2", {"CREA": "1.0"}, control="C2", patient="P-2"))
        await lab.settle()
        of_women = (await by_code(lab))["CREA"].reference
        assert (before.reference == of_women, corrected.reference) == (False, of_women)
        assert (shown.result.id, shown.patient) == (before.id, "Muster, Maria")
        typed = {step.step: step.inputs.get("value") for step in why if step.step in ("decode", "enter")}
        assert (corrected.raw_value, typed) == ("1.1", {"decode": "1.0", "enter": "1.1"})


@pytest.mark.parametrize(("days", "released"), [(0, True), (300, False)])
async def test_a_clock_that_is_not_believed_tells_no_rule_how_old_a_specimen_is(
    database_url: str, days: int, released: bool
) -> None:
    asks = RULES.replace("require = [{ critical = false }]", 'require = [{ specimen_age_h = { max = "4" } }]')
    measured = datetime.now(UTC) - timedelta(days=days)  # by its clock
    async with laboratory(database_url) as lab:
        await put_in_force(lab, asks)
        await lab.order("S1", "K", at=measured - timedelta(hours=1))
        await lab.send(sent("S1", {"K": "4.1"}, at=f"{measured:%Y%m%d%H%M%S}"))
        await lab.settle()
        (found,) = await lab.results()
        assert (found.status is FINAL) is released


@pytest.mark.parametrize(("days", "believed"), [(0, True), (-2, False), (300, False)])
async def test_a_clock_that_is_not_believed_says_not_when_a_result_was_so(
    database_url: str, days: int, believed: bool
) -> None:
    """Of a specimen without a time of collection the measurement's counts, or that of the receipt."""
    measured = (datetime.now(UTC) - timedelta(days=days, seconds=1)).replace(microsecond=0)
    async with laboratory(database_url) as lab:
        await lab.order("S1", "K")
        await lab.owner.execute("update lab.specimen set collected_at = null, received_at = now()")
        await lab.send(sent("S1", {"K": "4.1"}, at=f"{measured:%Y%m%d%H%M%S}"))
        await lab.settle()
        row = await lab.owner.fetchrow("select r.effective_at, m.received_at from lab.result r, lab.message m")
        assert row is not None
        assert row["effective_at"] == (measured if believed else row["received_at"])
