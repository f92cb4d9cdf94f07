"""Every step of reviewing from every state, over the real database, against a table typed for this test alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import pytest

from interface.domain.model import HoldReason, ItemStatus, ResultStatus
from interface.domain.permissions import Role
from interface.domain.review import Refusal, ReviewError, ReviewStep
from interface.domain.views import Actor, Audience, OrderView, ResultView
from interface.flow import review
from interface.flow.correction import NewValue
from interface.store import lab
from interface.store import review as rows
from interface.store.db import Connection, Database
from interface.store.review import Policy
from tests.conftest import Organization
from tests.records import Laboratory, found, user

# What each step makes of a result, or NO and a part of the sentence that says why not. One person is enough here.
TABLE = """
state       | verify    | release   | accept_change | reject_change | reject    | hold       | rerun      | comment     | correct     | retract
preliminary | final     | final     | NO waits      | NO waits      | cancelled | registered | registered | preliminary | preliminary | NO never
verified    | final     | final     | NO waits      | NO waits      | cancelled | registered | registered | preliminary | preliminary | NO never
held        | final     | final     | NO waits      | NO waits      | cancelled | registered | registered | registered  | preliminary | NO never
blocked     | NO nobody | NO nobody | NO waits      | NO waits      | cancelled | registered | registered | registered  | registered  | NO never
undecided   | NO regist | NO regist | NO waits      | NO waits      | cancelled | registered | registered | registered  | preliminary | NO never
released    | final     | final     | NO waits      | NO waits      | NO releas | NO releas  | final      | amended     | corrected   | entered-in-error
changed     | final     | final     | corrected     | final         | NO releas | NO releas  | final      | amended     | NO a change | entered-in-error
rejected    | NO reject | NO reject | NO waits      | NO waits      | cancelled | NO reject  | NO reject  | NO reject   | NO reject   | NO reject
retracted   | NO retrac | NO retrac | NO waits      | NO waits      | NO retrac | NO retrac  | NO retrac  | NO retrac   | NO retrac   | entered-in-error
"""  # noqa: E501
# Where two people verify, and this one has done nothing yet; `verified`, and the change of `seen`, by somebody else.
TWO = """
state       | verify      | release   | accept_change | correct
preliminary | preliminary | NO two    | NO waits      | preliminary
verified    | final       | final     | NO waits      | preliminary
held        | preliminary | NO two    | NO waits      | preliminary
blocked     | NO nobody   | NO nobody | NO waits      | registered
released    | final       | final     | NO waits      | final
changed     | final       | final     | final         | NO a change
seen        | final       | final     | corrected     | NO a change
"""
# The steps that leave everything as it is, where they are legal at all.
SAME = {("released", "verify"), ("released", "release"), ("changed", "verify"), ("changed", "release"),
        ("rejected", "reject"), ("retracted", "retract"), ("released", "rerun"), ("changed", "rerun"),
        ("changed", "reject_change")}  # fmt: skip


def read(table: str) -> dict[tuple[str, str], str]:
    head, *lines = [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]
    return {(line[0], step): cell for line in lines for step, cell in zip(head[1:], line[1:], strict=True)}


Take = Callable[[Connection, Actor, UUID], Awaitable[ResultView]]
STEPS: dict[str, Take] = {
    "verify": lambda at, who, id: review.verify(at, who, id, "seen", accept_hold=True),
    "release": lambda at, who, id: review.release(at, who, id, "seen", accept_hold=True),
    "accept_change": lambda at, who, id: review.accept_change(at, who, id, "seen", accept_hold=True),
    "reject_change": lambda at, who, id: review.reject_change(at, who, id, "seen"),
    "reject": lambda at, who, id: review.reject(at, who, id, "clotted"),
    "hold": lambda at, who, id: review.hold(at, who, id, "please look"),
    "rerun": lambda at, who, id: review.rerun(at, who, id, "doubtful"),
    "comment": lambda at, who, id: review.comment(at, who, id, "seen"),
    "correct": lambda at, who, id: review.correct(at, who, id, NewValue("9.1"), "typing error", accept_hold=True),
    "retract": lambda at, who, id: review.retract(at, who, id, "wrong tube"),
}


@dataclass(frozen=True, slots=True)
class Bench:
    """One laboratory; each case has a result of its own in it. `vera` takes the steps, `otto` came before her."""

    laboratory: Laboratory
    vera: Actor
    otto: Actor

    async def take(self, take: Take, result_id: UUID, who: Actor | None = None) -> ResultView:
        async with self.laboratory.database.transaction(self.laboratory.organization_id) as connection:
            return await take(connection, who or self.vera, result_id)

    async def policy(self, two_steps: bool, test: str = "") -> None:
        async with self.laboratory.database.transaction(self.laboratory.organization_id) as connection:
            await rows.set_policy(connection, self.laboratory.organization_id, Policy(test, two_steps, None))

    async def standing(self, state: str) -> tuple[OrderView, UUID]:
        """A result in this state; what it takes to get there is taken with two people."""
        held: dict[str, tuple[HoldReason, ...]] = {
            "held": (HoldReason.QUESTIONABLE, HoldReason.DELTA),
            "blocked": (HoldReason.QUESTIONABLE, HoldReason.PATIENT_MISMATCH),
        }
        registered = state in ("held", "blocked", "undecided")
        status = ResultStatus.REGISTERED if registered else ResultStatus.PRELIMINARY
        order = await self.laboratory.order()
        result_id = await self.laboratory.result(order, status=status, held=held.get(state, ()))
        if state in ("verified", "released", "changed", "seen", "retracted"):
            await self.policy(True)
            await self.take(STEPS["verify"], result_id, self.otto)
            if state != "verified":
                await self.take(STEPS["release"], result_id)
        await self.policy(False)
        if state in ("changed", "seen"):
            await self.laboratory.change(result_id, "9.1", version=4)
        if state == "seen":
            await self.policy(True)
            await self.take(STEPS["accept_change"], result_id, self.otto)
        if state == "rejected":
            await self.take(STEPS["reject"], result_id)
        if state == "retracted":
            await self.take(STEPS["retract"], result_id)
        return order, result_id

    async def history(self, result_id: UUID) -> list[tuple[int, str]]:
        """Every version's number, and every column of it and its explanation."""
        async with self.laboratory.database.organization(self.laboratory.organization_id) as connection:
            rows = await connection.fetch(
                "select v.version, to_jsonb(v)::text || to_jsonb(d)::text as kept from lab.result_version v"
                " join lab.decision d on d.result_version_id = v.id where v.result_id = $1 order by v.version",
                result_id,
            )
        return [(row["version"], row["kept"]) for row in rows]

    async def view(self, result_id: UUID, audience: Audience = Audience.STAFF) -> ResultView | None:
        async with self.laboratory.database.organization(self.laboratory.organization_id) as connection:
            return await lab.get_result(connection, result_id, audience)

    async def item(self, order: OrderView) -> ItemStatus:
        async with self.laboratory.database.organization(self.laboratory.organization_id) as connection:
            now = await lab.get_order(connection, order.id, Audience.STAFF)
        assert now is not None
        return now.items[0].status

    async def marks(self, result_id: UUID) -> tuple[int, int]:
        """How many audit rows of changes and how many owed versions there are."""
        changes = "entity_id = $1 and entity_kind = 'result' and action <> 'read'"
        audited = await self.laboratory.count("audit_event", changes, result_id)
        return audited, await self.laboratory.count("outbox", "entity_id = $1 and kind = 'result'", result_id)


@pytest.fixture
async def bench(database: Database, organization: Organization) -> Bench:
    people = [user(organization.id, Role.TECHNOLOGIST, name) for name in ("vera", "otto")]
    return Bench(await found(database, organization.id), *people)


def test_the_table_has_every_step_and_every_state() -> None:
    assert {step for _, step in read(TABLE)} == set(ReviewStep) == set(STEPS)
    assert len(read(TABLE)) == 9 * len(ReviewStep)


@pytest.mark.parametrize("state", sorted({state for state, _ in read(TABLE)}))
async def test_each_step_from_each_state(bench: Bench, state: str) -> None:
    for (place, step), expected in read(TABLE).items():
        if place == state:
            order, result_id = await bench.standing(state)
            await _check(bench, order, result_id, state, step, expected)


async def _check(bench: Bench, order: OrderView, result_id: UUID, state: str, step: str, expected: str) -> None:
    before, marks, case = await bench.history(result_id), await bench.marks(result_id), f"{step} of {state}"
    view_before = await bench.view(result_id)
    if expected.startswith("NO"):
        with pytest.raises(ReviewError, match=expected.removeprefix("NO ")) as caught:
            await bench.take(STEPS[step], result_id)
        assert caught.value.refusal is Refusal.CONFLICT, case
        assert len(str(caught.value).splitlines()) == 1, case
        assert (await bench.history(result_id), await bench.marks(result_id)) == (before, marks), case
        return
    view = await bench.take(STEPS[step], result_id)
    after, (audited, owed) = await bench.history(result_id), await bench.marks(result_id)
    assert view.status == expected, case
    assert after[: len(before)] == before, f"{case}: every version stays as it was"
    assert [number for number, _ in after] == list(range(1, len(after) + 1)), case
    if (state, step) in SAME:
        assert (view.version_id, view.status) == (view_before and view_before.version_id, expected), case
        if step not in ("rerun", "reject_change"):
            assert (len(after), audited, owed) == (len(before), *marks), case
    else:
        assert (audited, len(after) > len(before)) == (marks[0] + (2 if case == "retract of changed" else 1), True), (
            case
        )
        outside = state in ("released", "changed") or view.status in ("final", "corrected")
        assert owed - marks[1] == int(outside), f"{case}: an EMR is owed what it may see, and nothing else"
    await _check_what_is_seen(bench, view, case)
    if step in ("reject", "retract", "rerun") and state not in ("rejected", "retracted"):
        assert await bench.item(order) in (ItemStatus.REQUESTED, ItemStatus.IN_PROGRESS), case
    if view.status in ("final", "corrected") and step != "rerun":
        assert await bench.item(order) is ItemStatus.VERIFIED, case


async def _check_what_is_seen(bench: Bench, view: ResultView, case: str) -> None:
    """An EMR sees what is released, and that it was retracted; never what is held, cancelled or only preliminary."""
    seen = await bench.view(view.id, Audience.EMR)
    if view.status in ("final", "corrected", "amended"):
        assert seen is not None, case
        assert (seen.value, seen.status, seen.pending) == (view.value, view.status, False), case
    elif view.status == "entered-in-error":
        assert seen is not None, case
        assert (seen.value, seen.number, seen.flags) == ("", None, ()), case
    else:
        assert seen is None, case
    early = await bench.view(view.id, Audience.EMR_PRELIMINARY)
    if not view.held and view.status not in ("cancelled", "registered"):
        assert early is not None, case
    elif early is not None:  # it was seen while it was preliminary
        assert (early.value, early.number, early.flags, early.held, early.note) == ("", None, (), (), ""), case


@pytest.mark.parametrize("state", sorted({state for state, _ in read(TWO)}))
async def test_where_two_people_verify(bench: Bench, state: str) -> None:
    for (place, step), expected in read(TWO).items():
        if place != state:
            continue
        _, result_id = await bench.standing(state)
        await bench.policy(True)
        if expected.startswith("NO"):
            with pytest.raises(ReviewError, match=expected.removeprefix("NO ")):
                await bench.take(STEPS[step], result_id)
        else:
            view = await bench.take(STEPS[step], result_id)
            assert view.status == expected, f"{step} of {state}"
            await _check_what_is_seen(bench, view, f"{step} of {state}")


async def test_the_same_person_is_not_the_second(bench: Bench) -> None:
    await bench.policy(True)
    _, result_id = await bench.standing("preliminary")
    await bench.policy(True)
    await bench.take(STEPS["verify"], result_id)
    for step in ("verify", "release"):
        with pytest.raises(ReviewError, match="vera has verified it; another person must") as caught:
            await bench.take(STEPS[step], result_id)
        assert caught.value.refusal is Refusal.FORBIDDEN
    await bench.take(STEPS["comment"], result_id, bench.otto)  # a comment takes no verification away
    final = await bench.take(STEPS["release"], result_id, bench.otto)
    assert final.status is ResultStatus.FINAL


async def test_a_new_value_takes_the_first_verification_away(bench: Bench) -> None:
    _, result_id = await bench.standing("verified")
    await bench.policy(True)
    await bench.take(STEPS["correct"], result_id, bench.otto)
    with pytest.raises(ReviewError, match="two people"):
        await bench.take(STEPS["release"], result_id)


async def test_a_persons_correction_is_accepted_by_another_where_two_verify(bench: Bench) -> None:
    _, result_id = await bench.standing("released")
    await bench.policy(True)
    waits = await bench.take(STEPS["correct"], result_id)
    assert (waits.status, waits.value, waits.pending) == ("final", "13.5", True)
    with pytest.raises(ReviewError, match="vera has corrected it; another person must accept that"):
        await bench.take(STEPS["accept_change"], result_id)
    done = await bench.take(STEPS["accept_change"], result_id, bench.otto)
    assert (done.status, done.value, done.pending) == ("corrected", "9.1", False)


async def test_an_analyzers_change_is_accepted_by_two_people_where_two_verify(bench: Bench) -> None:
    _, result_id = await bench.standing("changed")
    await bench.policy(True)
    waits = await bench.take(STEPS["accept_change"], result_id)
    assert (waits.status, waits.value, waits.pending) == ("final", "13.5", True)
    with pytest.raises(ReviewError, match="vera has verified it; another person must accept the change") as caught:
        await bench.take(STEPS["accept_change"], result_id)
    assert caught.value.refusal is Refusal.FORBIDDEN
    seen = await bench.view(result_id, Audience.EMR)
    assert seen is not None
    assert (seen.status, seen.value, seen.pending) == ("final", "13.5", False)
    done = await bench.take(STEPS["accept_change"], result_id, bench.otto)
    assert (done.status, done.value, done.pending) == ("corrected", "9.1", False)
    kept = await bench.history(result_id)
    assert [number for number, _ in kept] == [1, 2, 3, 4, 5, 6]
    assert "vera" in kept[4][1] and "another person" in kept[4][1]
    assert await bench.laboratory.count("audit_event", "entity_id = $1 and action = 'verify_change'", result_id) == 1


async def test_another_change_takes_the_first_verification_away(bench: Bench) -> None:
    """What the second person would accept is not what the first has seen."""
    _, result_id = await bench.standing("seen")
    await bench.laboratory.change(result_id, "9.9", version=6)
    await bench.policy(True)
    waits = await bench.take(STEPS["accept_change"], result_id)
    assert (waits.status, waits.value, waits.pending) == ("final", "13.5", True)


async def test_a_tests_own_policy_goes_before_the_organizations(bench: Bench) -> None:
    await bench.policy(True, "HGB")
    _, result_id = await bench.standing("preliminary")  # the organization says: one person
    with pytest.raises(ReviewError, match="two people"):
        await bench.take(STEPS["release"], result_id)


async def test_a_dilution_has_a_factor(bench: Bench) -> None:
    _, result_id = await bench.standing("preliminary")
    with pytest.raises(ReviewError, match="above 1"):
        await bench.take(lambda at, who, id: review.rerun(at, who, id, dilution=Decimal(1)), result_id)
    view = await bench.take(lambda at, who, id: review.rerun(at, who, id, dilution=Decimal(10)), result_id)
    assert view.held == (HoldReason.RERUN,)


STALE: dict[str, Take] = {
    "verify": lambda at, who, id: review.verify(at, who, id, "seen", 7),
    "release": lambda at, who, id: review.release(at, who, id, "seen", 7),
    "reject": lambda at, who, id: review.reject(at, who, id, "seen", 7),
    "hold": lambda at, who, id: review.hold(at, who, id, "seen", 7),
    "rerun": lambda at, who, id: review.rerun(at, who, id, "seen", 7),
    "comment": lambda at, who, id: review.comment(at, who, id, "seen", 7),
    "correct": lambda at, who, id: review.correct(at, who, id, NewValue("9.1"), "seen", 7),
}
ON_RELEASED: dict[str, Take] = {
    "accept_change": lambda at, who, id: review.accept_change(at, who, id, "seen", 7),
    "reject_change": lambda at, who, id: review.reject_change(at, who, id, "seen", 7),
    "retract": lambda at, who, id: review.retract(at, who, id, "seen", 7),
}


async def test_nobody_decides_about_a_version_that_they_have_not_seen(bench: Bench) -> None:
    assert {*STALE, *ON_RELEASED} == set(ReviewStep)
    for state, steps in (("preliminary", STALE), ("changed", ON_RELEASED)):
        _, result_id = await bench.standing(state)
        before = await bench.history(result_id)
        for take in steps.values():
            with pytest.raises(ReviewError, match="version 7 was looked at") as caught:
                await bench.take(take, result_id)
            assert caught.value.refusal is Refusal.CONFLICT
        assert await bench.history(result_id) == before


async def test_nobody_decides_without_the_permission_or_elsewhere(
    bench: Bench, other_organization: Organization
) -> None:
    _, result_id = await bench.standing("changed")
    before = await bench.history(result_id)
    other = await found(bench.laboratory.database, other_organization.id)
    for take in STEPS.values():
        for role in (Role.ADMINISTRATOR, Role.VIEWER, Role.PHLEBOTOMIST, Role.AUDITOR):
            with pytest.raises(ReviewError) as caught:
                await bench.take(take, result_id, user(bench.laboratory.organization_id, role))
            assert caught.value.refusal is Refusal.FORBIDDEN
        async with other.database.transaction(other.organization_id) as connection:
            with pytest.raises(ReviewError, match="there is no such result"):
                await take(connection, other.technologist, result_id)
    assert await bench.history(result_id) == before


@pytest.mark.parametrize("step", ["reject", "hold", "correct", "retract", "comment"])
async def test_what_is_taken_back_or_changed_needs_words(bench: Bench, step: str) -> None:
    wordless: dict[str, Take] = {
        "reject": lambda at, who, id: review.reject(at, who, id, " "),
        "hold": lambda at, who, id: review.hold(at, who, id, " "),
        "correct": lambda at, who, id: review.correct(at, who, id, NewValue("9.1"), " "),
        "retract": lambda at, who, id: review.retract(at, who, id, " "),
        "comment": lambda at, who, id: review.comment(at, who, id, " "),
    }
    _, result_id = await bench.standing("released" if step == "retract" else "preliminary")
    with pytest.raises(ReviewError, match="needs") as caught:
        await bench.take(wordless[step], result_id)
    assert caught.value.refusal is Refusal.INVALID
