"""The factor by which a run was diluted: from the follow-up that asked for it to what the checks make of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from interface.domain.model import FollowUpKind, FollowUpState, HoldReason, ResultStatus, Step
from interface.domain.routing import DispatchKind, DispatchState
from interface.domain.views import ResultView
from interface.driver.law import LawDialect
from interface.flow import follow_ups
from interface.flow.dilutions import STEP, dilution_of
from interface.flow.replay import replay
from interface.store import dispatch
from interface.store import follow_ups as store
from interface.store.dispatch import NewDispatch
from interface.store.ids import uuid7
from interface.store.surroundings import Led
from tests.flow.dispatching import ask, tell
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent

RANGE = """
[[range]]
name = "measuring"
test = "CREA"
kind = "measuring"
low = "1.0"
high = "7"
unit = "mg/dL"
"""
ONE_IN_TEN = """
[[reflex]]
name = "one in ten"
test = "CREA"
kind = "dilution"
factor = "10"
holds = ["measuring_range"]
reason = "above the range"
"""
DILUTED = RULES + RANGE + ONE_IN_TEN


async def reported(lab: Laboratory, value: str, *, control: str = "C1", at: str = "20260102030000") -> ResultView:
    """Send a creatinine of S1 and have it decided: what there is of it then."""
    await lab.send(sent("S1", {"CREA": value}, control=control, at=at))
    await lab.settle()
    (found,) = [one for one in await lab.results() if one.value == value]
    return found


def by_law(lab: Laboratory) -> None:
    """Its analyzer is told what to measure by IHE LAW, which names the factor."""
    lab.context = replace(lab.context, driver=replace(lab.context.driver, law=LawDialect()))
    lab.contexts[lab.context.link_id] = lab.context


async def told(lab: Laboratory) -> None:
    book = await ask(lab, "S1")
    assert [(step.kind, step.dilution) for step in book.works[0].steps] == [(DispatchKind.DILUTION, Decimal(10))]
    await tell(lab, book)


async def said(lab: Laboratory, version_id: UUID, step: str) -> list[tuple[str, str]]:
    found = await lab.owner.fetchval(
        "select lab.explained(steps)::json from lab.decision where result_version_id = $1", version_id
    )
    return [(one["verdict"], one["text"]) for one in found if one["step"] == step]


@pytest.mark.parametrize(
    ("value", "held"), [("3.0", True), ("9.9", True), ("10", False), ("65", False), ("70.1", True)]
)
async def test_a_run_that_a_rule_had_diluted_is_judged_by_what_was_measured_in_the_dilution(
    database_url: str, value: str, held: bool
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, DILUTED.replace('above = "8"', 'above = "800"'))
        await lab.order("S1", "CREA")
        by_law(lab)
        first = await reported(lab, "7.5")
        assert HoldReason.MEASURING_RANGE in first.held
        await told(lab)
        diluted = await reported(lab, value, control="C2", at="20260102033000")
        assert (HoldReason.MEASURING_RANGE in diluted.held) is held
        assert (diluted.status is ResultStatus.FINAL) is not held
        assert await said(lab, diluted.version_id, "dilution") == [("ok", "diluted 1:10, as it was asked for")]
        ((_, text),) = await said(lab, diluted.version_id, "range")
        assert text.endswith(
            "side the measuring range, diluted 1:10" if held else "in the measuring range, diluted 1:10"
        )


@pytest.mark.parametrize("law", [False, True])
async def test_nobody_dilutes_for_a_rule_where_the_analyzer_is_not_told_the_factor(
    database_url: str, law: bool
) -> None:
    """LIS02-A2 has no place for it: what it measured is far above its range, and no tenth of it was in the range."""
    async with laboratory(database_url) as lab:
        await put_in_force(lab, DILUTED.replace('above = "8"', 'above = "800"'))
        await lab.order("S1", "CREA")
        if law:  # and has not been told yet
            by_law(lab)
        await reported(lab, "7.5")
        if not law:
            await told(lab)
        again = await reported(lab, "65", control="C2", at="20260102033000")
        assert again.status is ResultStatus.REGISTERED and HoldReason.MEASURING_RANGE in again.held
        why = "a rule asked for a dilution, and the analyzer was not told the factor"
        lines = await said(lab, again.version_id, "dilution")
        assert lines == [("unknown", f"the factor of dilution is not known: {why}")]


async def test_a_run_that_a_person_had_diluted_is_judged_by_its_factor(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + RANGE)
        await lab.order("S1", "CREA")
        first = await reported(lab, "7.5")
        async with lab.database.transaction(lab.organization_id) as connection:
            await follow_ups.request(
                connection, lab.director, first.id, FollowUpKind.DILUTION, dilution=Decimal(5), reason="too high"
            )
        diluted = await reported(lab, "4.9", control="C2", at="20260102033000")
        assert HoldReason.MEASURING_RANGE in diluted.held
        assert await said(lab, diluted.version_id, "dilution") == [("ok", "diluted 1:5, as it was asked for")]


async def test_another_run_after_a_diluted_one_may_be_diluted_or_not(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, DILUTED)
        await lab.order("S1", "CREA")
        by_law(lab)
        await reported(lab, "7.5")
        await told(lab)
        await reported(lab, "3.0", control="C2", at="20260102033000")
        third = await reported(lab, "3.1", control="C3", at="20260102040000")
        assert HoldReason.MEASURING_RANGE in third.held
        ((verdict, text),) = await said(lab, third.version_id, "dilution")
        assert (verdict, text.startswith("the factor of dilution is not known")) == ("unknown", True)


async def test_a_rule_may_ask_for_the_factor(database_url: str) -> None:
    asks = DILUTED.replace("require = [{ critical = false }]", 'require = [{ dilution = { max = "1" } }]')
    async with laboratory(database_url) as lab:
        await put_in_force(lab, asks.replace('above = "8"', 'above = "800"'))
        await lab.order("S1", "CREA", "K")
        await lab.send(sent("S1", {"K": "4.1"}, control="C0"))
        await lab.settle()
        (potassium,) = await lab.results()
        assert potassium.status is ResultStatus.FINAL
        by_law(lab)
        await reported(lab, "7.5")
        await told(lab)
        diluted = await reported(lab, "30", control="C2", at="20260102033000")
        assert diluted.status is not ResultStatus.FINAL


def led(kind: FollowUpKind, dilution: str | None = None) -> Led:
    factor = None if dilution is None else Decimal(dilution)
    at = datetime(2026, 1, 2, tzinfo=UTC)
    return Led(uuid7(), "1", uuid7(), 1, FollowUpState.SENT, at, at, kind, factor)


RERUN, TEN, FIVE = led(FollowUpKind.RERUN), led(FollowUpKind.DILUTION, "10"), led(FollowUpKind.DILUTION, "5")
LEFT = led(FollowUpKind.DILUTION)
BEFORE = (Step(STEP, "ok", "diluted 1:20, as it was asked for", inputs={"factor": "20"}),)


@pytest.mark.parametrize(
    ("by_analyzer", "answers", "others", "before", "factor"),
    [
        (None, (), (), (), "1"), (None, (RERUN,), (), (), "1"), (None, (TEN,), (), (), "10"),
        (None, (TEN, FIVE), (), (), None), (None, (TEN, RERUN), (), (), None), (None, (LEFT,), (), (), None),
        (None, (RERUN,), (TEN,), (), None), (None, (), (TEN,), (), None), (None, (FIVE,), (TEN,), (), "5"),
        ("4", (), (), (), "4"), ("4", (TEN,), (), (), "4"), ("4", (LEFT,), (), (), "4"), ("0", (), (), (), None),
        ("1", (), (), (), "1"), ("1", (TEN,), (), (), None), (None, (), (TEN,), BEFORE, "20"),
    ],
)  # fmt: skip
def test_the_factor_is_what_the_analyzer_says_else_what_was_asked_else_not_known(
    by_analyzer: str | None, answers: tuple[Led, ...], others: tuple[Led, ...], before: tuple[Step, ...],
    factor: str | None,
) -> None:  # fmt: skip
    said_ = None if by_analyzer is None else Decimal(by_analyzer)
    found, step = dilution_of(said_, answers, (*answers, *others), before, named=True)
    assert found == (None if factor is None else Decimal(factor))
    assert (step is None) is (found == 1)


async def test_a_replay_knows_the_factor_that_was_known_when_the_message_came(database_url: str) -> None:
    """The dilution that the run answered is done since then, and nothing awaits it."""
    async with laboratory(database_url) as lab:
        await put_in_force(lab, DILUTED.replace('above = "8"', 'above = "800"'))
        await lab.order("S1", "CREA")
        by_law(lab)
        await reported(lab, "7.5")
        await told(lab)
        diluted = await reported(lab, "3.0", control="C2", at="20260102033000")
        assert HoldReason.MEASURING_RANGE in diluted.held
        assert diluted.message_id is not None
        await put_in_force(lab, DILUTED.replace('above = "8"', 'above = "800"').replace('low = "1.0"', 'low = "0.1"'))
        await replay(lab.database, lab.director, diluted.message_id, lab.contexts.get, dry_run=False)
        (again,) = [one for one in await lab.results() if one.value == "3.0"]
        assert (again.version, again.status, again.held) == (2, ResultStatus.PRELIMINARY, ())  # and two runs differ
        assert await said(lab, again.version_id, "dilution") == [("ok", "diluted 1:10, as it was asked for")]


@pytest.mark.parametrize("told", [False, True])
async def test_a_dilution_that_was_cancelled_once_the_analyzer_was_told_may_have_been_made(
    database_url: str, told: bool
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, DILUTED.replace('above = "8"', 'above = "800"'))
        order = await lab.order("S1", "CREA")
        await reported(lab, "7.5")
        asked = await lab.owner.fetchval("select id from lab.follow_up")
        specimen_id = await lab.owner.fetchval("select id from lab.specimen")
        item_id, factor = order.items[0].id, Decimal(10)
        work = NewDispatch(item_id, specimen_id, DispatchKind.DILUTION, "CREA", "S1", asked, factor)
        async with lab.database.transaction(lab.organization_id) as connection:
            (made,) = await dispatch.add(connection, lab.organization_id, lab.context.analyzer_id, [work])
            if told:
                sent_at = datetime.now(UTC)
                await dispatch.set_state(connection, lab.director, [made.id], DispatchState.SENT, sent_at)
                await connection.execute("update lab.dispatch set sent_at = now()")
            await store.set_state(connection, asked, FollowUpState.CANCELLED)
        run = await reported(lab, "3.0", control="C2", at="20260102033000")
        lines = await said(lab, run.version_id, "dilution")
        unknown = "the factor of dilution is not known: a dilution was asked for, and nothing says that this is its run"
        assert lines == ([("unknown", unknown)] if told else [])
        assert (HoldReason.MEASURING_RANGE in run.held) is told
