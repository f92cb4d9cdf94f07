"""What an analyzer says anew, unasked, of what was critical or what a person has said something of: a person looks at
it, whatever looks at the result next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from interface.domain.autoverify import Scope, Switch
from interface.domain.model import FollowUpKind, HoldReason, ResultStatus
from interface.domain.qc_state import Meanwhile
from interface.domain.review import ReviewError
from interface.domain.views import Audience, ResultView
from interface.flow import follow_ups, review, worksheets
from interface.flow.correction import NewValue
from interface.flow.entry import Entry, enter
from interface.flow.replay import replay
from interface.flow.rules import switch_off, switch_on
from interface.flow.worksheets import PlaceEntry
from interface.store.db import Connection
from interface.store.review import Policy, QueueFilter, set_policy, waiting
from interface.store.worksheets import WorkFilter
from tests.flow.controls import REJECT, bench
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent
from tests.flow.test_judged_for_certain import intervals

FINAL, REGISTERED = ResultStatus.FINAL, ResultStatus.REGISTERED
ANEW = (HoldReason.SAID_ANEW,)
PERSON = HoldReason.PERSON
LINKED = RULES + '\n[[linked]]\nname = "renal"\ntests = ["K", "CREA"]\ncomplete = true\n'


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url) as made:
        yield made


async def one(lab: Laboratory, code: str = "K") -> ResultView:
    """The reported result of the test."""
    [found] = [view for view in await lab.results() if view.test_code == code and view.reportable]
    return found


async def send(lab: Laboratory, control: str, *, at: str = "20260102030405", comment: str = "", **values: str) -> None:
    lines = sent("S-1", values, control=control, at=at)
    await lab.send([*lines[:-1], f"C|1|I|{comment}|G", lines[-1]] if comment else lines)
    await lab.settle()


async def decide(lab: Laboratory, step: Callable[[Connection], Awaitable[object]]) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await step(connection)


async def critical_then_not(lab: Laboratory, rules: str = RULES, *tests: str) -> None:
    await put_in_force(lab, rules)
    await lab.order("S-1", "K", *tests)
    await send(lab, "C1", K="7.2")
    await send(lab, "C2", K="4.5")
    after = await one(lab)
    assert (after.value, after.status, after.held) == ("4.5", REGISTERED, ANEW)


async def test_the_result_of_a_linked_test_releases_nothing(lab: Laboratory) -> None:
    await critical_then_not(lab, LINKED, "CREA")
    await send(lab, "C3", CREA="1.0")
    assert (await one(lab)).held == ANEW


@pytest.mark.parametrize(("value", "comment"), [("4.6", ""), ("4.5", "checked")])
async def test_what_is_said_once_more_releases_nothing(lab: Laboratory, value: str, comment: str) -> None:
    await critical_then_not(lab)
    for control in ("C3", "C4"):
        await send(lab, control, comment=f"{comment} {control}" if comment else "", K=value)
        after = await one(lab)
        assert (after.value, after.status, after.held) == (value, REGISTERED, ANEW)


async def test_a_control_that_is_good_again_releases_nothing(lab: Laboratory) -> None:
    at = await bench(lab)
    await at.control(60, test="K")
    await lab.order("S-1", "K")
    await at.control(20, REJECT, test="K")
    for control, value in (("C1", "7.2"), ("C2", "4.5")):
        await send(lab, control, at=f"{at.ago(10):%Y%m%d%H%M%S}", K=value)
    await at.control(5, test="K")
    await at.act(Meanwhile.STANDS, test="K")
    after = await one(lab)
    assert (after.value, after.status, after.held) == ("4.5", REGISTERED, ANEW)


async def test_a_replay_releases_nothing(lab: Laboratory) -> None:
    await critical_then_not(lab)
    message_id = (await one(lab)).message_id
    assert message_id is not None
    await replay(lab.database, lab.director, message_id, lab.contexts.get, dry_run=False)
    assert (await one(lab)).held == ANEW


async def test_another_run_of_the_value_that_came_after_releases_nothing(lab: Laboratory) -> None:
    """A run before the critical one says what the analyzer says now: it is not reported in its place."""
    await put_in_force(lab, LINKED)
    await lab.order("S-1", "K", "CREA")
    await send(lab, "C1", K="4.5")
    later = "20260102040000"
    await send(lab, "C2", at=later, K="7.2")
    await send(lab, "C3", at=later, K="4.5")
    await send(lab, "C4", CREA="1.0")
    found = [view for view in await lab.results() if view.test_code == "K"]
    assert [(view.status is FINAL, view.reportable) for view in found] == [(False, False), (False, True)]
    assert found[1].held == ANEW


@pytest.mark.parametrize("step", ["comment", "rerun"])
async def test_what_a_person_has_said_is_remembered_whatever_comes(lab: Laboratory, step: str) -> None:
    await put_in_force(lab, LINKED)
    await lab.order("S-1", "K", "CREA")
    await send(lab, "C1", K="4.5")
    result, director = await one(lab), lab.director
    if step == "comment":
        await decide(lab, lambda connection: review.comment(connection, director, result.id, "is this the patient's?"))
    else:
        await decide(lab, lambda connection: review.rerun(connection, director, result.id, "to be sure"))
    held = ANEW if step == "comment" else (HoldReason.RERUN, *ANEW)
    for control in ("C2", "C3"):
        await send(lab, control, comment=control, K="4.5")
        assert (await one(lab)).held == held
    await send(lab, "C4", CREA="1.0")
    after = await one(lab)
    assert (after.status, after.held) == (REGISTERED, held)


async def test_what_may_be_the_result_before_a_rerun_is_released_by_nothing_that_comes(lab: Laboratory) -> None:
    await lab.order("S-1", "K", "CREA")
    await send(lab, "C1", at="", K="4.5")
    result = await one(lab)
    await put_in_force(lab, LINKED)
    await decide(lab, lambda at: follow_ups.request(at, lab.director, result.id, FollowUpKind.RERUN, reason="sure?"))
    await send(lab, "C2", at="", K="4.5")
    again = await one(lab)
    assert (again.id != result.id, again.held) == (True, ANEW)
    assert again.message_id is not None
    await send(lab, "C3", CREA="1.0")
    await replay(lab.database, lab.director, again.message_id, lab.contexts.get, dry_run=False)
    await send(lab, "C4", at="", comment="checked", K="4.5")
    after = await one(lab)
    assert (after.id, after.status, after.held) == (again.id, REGISTERED, ANEW)


async def test_a_person_accepts_or_rejects_it_as_what_else_is_held(lab: Laboratory) -> None:
    await critical_then_not(lab)
    found = await one(lab)
    assert await lab.results(Audience.EMR_PRELIMINARY) == []
    with pytest.raises(ReviewError, match=r"the result is held \(said_anew\); releasing it must accept this"):
        await lab.release(found.id)
    await decide(
        lab, lambda at: review.release(at, lab.director, found.id, "a new specimen agrees", accept_hold=True)
    )  # fmt: skip
    assert [(view.value, view.status) for view in await lab.results(Audience.EMR)] == [("4.5", FINAL)]


async def test_a_person_may_reject_it(lab: Laboratory) -> None:
    await critical_then_not(lab)
    found = await one(lab)
    await decide(lab, lambda at: review.reject(at, lab.director, found.id, "clotted"))
    assert [view.status for view in await lab.results()] == [ResultStatus.CANCELLED]
    await send(lab, "C3", K="4.5")
    assert (await one(lab)).held == (HoldReason.PERSON,)


@pytest.mark.parametrize("at", ["20260102030405", "20991231235900"], ids=["under its key", "as another run"])
async def test_the_value_of_a_rerun_that_a_person_asked_for_is_released(lab: Laboratory, at: str) -> None:
    await critical_then_not(lab)
    found = await one(lab)
    await decide(lab, lambda connection: review.rerun(connection, lab.director, found.id, "which is it?"))
    await send(lab, "C3", at=at, K="4.6")
    after = await one(lab)
    assert (after.value, after.status) == ("4.6", FINAL)


async def test_what_is_entered_anew_after_a_critical_value_waits_as_well(lab: Laboratory) -> None:
    await put_in_force(lab)
    item = (await lab.order("S-1", "K")).items[0].id
    for value, held in (("7.2", (HoldReason.RULE,)), ("4.5", ANEW), ("4.6", ANEW)):
        async with lab.database.transaction(lab.organization_id) as connection:
            [entered] = await enter(connection, lab.director, [Entry(item, value)])
        assert (entered.value, entered.held) == (value, held)


async def gap(lab: Laboratory, *tests: str) -> ResultView:
    """An anion gap that is critical, while the bicarbonate that it is made of waits for a person."""
    await intervals(lab, "AGAP", {"low": 8, "high": 16, "critical_high": 30})
    await put_in_force(lab, LINKED)
    await lab.order("S-1", "NA", "CL", "HCO3", "AGAP", *tests)
    off = Switch(Scope.TEST, "HCO3", "new reagent")
    await decide(lab, lambda connection: switch_off(connection, lab.director, off))
    await send(lab, "C1", NA="140", CL="100", HCO3="5")
    await decide(lab, lambda connection: switch_on(connection, lab.director, off))
    found = await one(lab, "AGAP")
    assert (found.value, found.flags, found.held) == ("35.0", ("HH",), (HoldReason.RULE,))
    return found


async def test_what_is_calculated_anew_after_a_critical_value_waits_until_a_person_decides(lab: Laboratory) -> None:
    await gap(lab, "K", "CREA")
    await send(lab, "C2", HCO3="24")
    found = await one(lab, "AGAP")
    assert (found.value, found.flags, found.status, found.held) == ("16.0", ("N",), REGISTERED, ANEW)
    assert (await one(lab, "HCO3")).status is FINAL  # it was not critical itself
    await send(lab, "C3", CREA="1.0", K="4.5")
    found = await one(lab, "AGAP")
    assert (found.value, found.status, found.held) == ("16.0", REGISTERED, ANEW)
    await decide(lab, lambda at: review.release(at, lab.director, found.id, "as measured", accept_hold=True))
    assert (await one(lab, "AGAP")).status is FINAL


async def test_of_a_rerun_that_was_asked_for_it_is_calculated_anew_as_of_any_other(lab: Laboratory) -> None:
    await gap(lab)
    bicarbonate = await one(lab, "HCO3")
    await decide(lab, lambda connection: review.rerun(connection, lab.director, bicarbonate.id, "is it so low?"))
    await send(lab, "C2", HCO3="24")
    found = await one(lab, "AGAP")
    assert (found.value, found.status, found.held) == ("16.0", FINAL, ())


SAID = "haemolysed"


@pytest.mark.parametrize("release", ["by a person", "judged anew first"])
async def test_what_staff_said_of_a_result_stays_with_it_whatever_the_analyzer_says_then(
    lab: Laboratory, release: str
) -> None:
    """It stood in the version of before alone: the report told the value without `haemolysed`."""
    await lab.order("S-1", "K", "CREA")
    await send(lab, "C1", K="4.5")
    result, director = await one(lab), lab.director
    await decide(lab, lambda at: review.comment(at, director, result.id, SAID))
    if release != "by a person":  # a rerun's value is held by nothing, and judged again with what comes beside it
        await put_in_force(lab, LINKED)
        await decide(lab, lambda at: review.rerun(at, director, result.id, "to be sure"))
    for control, value in (("C2", "4.6"), ("C3", "4.7")):
        await send(lab, control, K=value)
        assert (await one(lab)).note == SAID
    if release == "by a person":
        await decide(lab, lambda at: review.release(at, director, result.id, "seen", accept_hold=True))
    else:
        await send(lab, "C4", CREA="1.0")
    after = await one(lab)
    assert (after.status, after.value, after.note.split("\n")[0]) == (FINAL, "4.7", SAID)


async def test_it_is_gone_with_a_result_that_a_person_rejected(lab: Laboratory) -> None:
    await lab.order("S-1", "K")
    await send(lab, "C1", K="4.5")
    result, director = await one(lab), lab.director
    await decide(lab, lambda at: review.comment(at, director, result.id, SAID))
    await decide(lab, lambda at: review.reject(at, director, result.id, "clotted"))
    await send(lab, "C2", K="4.6")
    assert (await one(lab)).note == ""


async def test_it_stays_with_what_is_calculated_anew(lab: Laboratory) -> None:
    found = await gap(lab)
    await decide(lab, lambda at: review.comment(at, lab.director, found.id, SAID))
    await send(lab, "C2", HCO3="24")
    after = await one(lab, "AGAP")
    assert (after.value, after.note) == ("16.0", SAID)


async def of_two(lab: Laboratory, code: str, value: str) -> ResultView:
    """A released result, that a first person corrects: the correction waits for a second one."""
    found = await one(lab, code)
    await decide(lab, lambda at: set_policy(at, lab.organization_id, Policy(code, True, None)))
    await decide(lab, lambda at: review.correct(at, lab.director, found.id, NewValue(value), "misread"))
    return found


async def test_a_correction_that_waits_for_a_second_person_is_not_lost_when_the_analyzer_says_another_value(
    lab: Laboratory,
) -> None:
    """The analyzer's change took its place: whoever decided saw two values of the analyzer's, and never the third."""
    await lab.order("S-1", "K")
    await send(lab, "C1", K="4.5")
    await lab.release((await one(lab)).id)
    found = await of_two(lab, "K", "3.9")
    for control, value in (("C2", "4.7"), ("C3", "4.8")):
        await send(lab, control, K=value)
        async with lab.database.transaction(lab.organization_id) as connection:
            [waits] = await waiting(connection, QueueFilter())
        assert (waits.result.value, set(waits.result.held)) == (value, {HoldReason.CHANGED_AFTER_RELEASE, PERSON})
    with pytest.raises(ReviewError, match="releasing it must accept this"):
        await decide(lab, lambda at: review.accept_change(at, lab.director, found.id))


async def test_nor_when_what_it_is_calculated_from_is_another(lab: Laboratory) -> None:
    await put_in_force(lab)
    await lab.order("S-1", "NA", "CL", "HCO3", "AGAP")
    await send(lab, "C1", NA="140", CL="100", HCO3="24")
    found = await of_two(lab, "AGAP", "15.0")
    sodium = await one(lab, "NA")
    await decide(lab, lambda at: review.correct(at, lab.director, sodium.id, NewValue("141"), "misread"))
    async with lab.database.transaction(lab.organization_id) as connection:
        [waits] = [one for one in await waiting(connection, QueueFilter()) if one.result.id == found.id]
    assert (waits.result.value, PERSON in waits.result.held) == ("17.0", True)


async def test_what_is_entered_once_more_at_its_place_is_no_rerun(lab: Laboratory) -> None:
    """Who repeats what they entered, since its answer was lost or another place of the sheet was mistyped, has measured
    nothing again: the rerun that a rule had asked for meanwhile was taken for done."""
    await put_in_force(lab)
    await lab.order("S-1", "CREA", "K")

    async def entered(*places: PlaceEntry) -> None:
        await decide(lab, lambda at: worksheets.enter(at, lab.director, sheet.id, places))

    async with lab.database.transaction(lab.organization_id) as connection:
        sheet = await worksheets.build(connection, lab.director, WorkFilter(test_codes=("CREA", "K")))
    at = {item.test_code: item.place for item in sheet.items}
    for potassium in ("4.1", "4.2"):
        await entered(PlaceEntry(at["CREA"], "9.0"), PlaceEntry(at["K"], potassium))
        first = await one(lab, "CREA")
        assert (first.value, first.held, first.version) == ("9.0", (HoldReason.RERUN,), 1)
        assert await lab.owner.fetchval("select array_agg(state) from lab.follow_up") == ["requested"]
    await entered(PlaceEntry(at["CREA"], "7.2"))
    assert await lab.owner.fetchval("select array_agg(state) from lab.follow_up") == ["done"]
    assert (await one(lab, "CREA")).value == "7.2"
