"""What persons do with controls: enter, assign, exclude, restore, remark, dismiss; and what controls come to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar

import pytest

from interface.domain.permissions import Role
from interface.domain.qc import Stream
from interface.domain.qc_state import Meanwhile
from interface.domain.qc_views import ControlView
from interface.domain.views import Actor
from interface.errors import ApiError
from interface.flow import qc_gate, qc_people
from interface.flow.qc_people import Entry
from interface.store.db import Connection
from interface.store.qc import AnalysisFilter
from tests.flow.control_bench import ControlBench, control_bench, judged
from tests.flow.laboratory import laboratory
from tests.records import user

T = TypeVar("T")


async def does(
    at: ControlBench, step: Callable[[Connection, Actor], Awaitable[T]], role: Role = Role.TECHNOLOGIST
) -> T:
    lab = at.lab
    async with lab.database.transaction(lab.organization_id) as connection:
        return await step(connection, user(lab.organization_id, role, "tess"))


async def refused(
    at: ControlBench, step: Callable[[Connection, Actor], Awaitable[ControlView]], role: Role = Role.TECHNOLOGIST
) -> str:
    with pytest.raises(ApiError) as caught:
        await does(at, step, role)
    return f"{caught.value.status} {caught.value}"


def entry(value: str = "7.15", lot: str = "Norm/77/1", **said: object) -> Entry:
    return Entry("bench", "WBC", lot, value, **said)  # type: ignore[arg-type]


async def test_a_control_that_is_entered_goes_the_way_of_one_that_was_sent(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        made = await does(at, lambda c, a: qc_people.enter(c, a, entry(" 7.25 ", comment="read from the screen")))
        assert made.point is not None
        assert (made.origin, made.by, made.comment, made.value, made.raw_value) == (
            "manual", "", "read from the screen", "7.25", " 7.25 "
        )  # fmt: skip
        assert (made.point.z, made.point.verdict.value, made.point.lot) == (Decimal("2.5"), "accept", "77")
        second = await does(at, lambda c, a: qc_people.enter(c, a, entry("7250", unit="10*6/L")))
        assert second.point is not None
        assert (second.point.z, second.point.rules) == (Decimal("2.5"), ("2-2s",))
        limit = await does(at, lambda c, a: qc_people.enter(c, a, entry("<7.1")))
        assert limit.point is not None and (limit.value, limit.point.verdict.value) == ("<7.1", "unknown")
        assert await lab.owner.fetchval("select state from lab.qc_stream") == "fail"
        audited = await lab.owner.fetchval("select count(*) from lab.audit_event where entity_id = $1", made.id)
        assert audited == 1


async def test_what_may_not_be_entered(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        for wrong, said in (
            (entry(""), "422 a control needs a value"),
            (entry("banana"), "422 the test is measured in numbers, and 'banana' is none"),
            (entry("NaN"), "422 the test is measured in numbers, and 'NaN' is none"),
            (entry(lot="9"), "404 there is no lot '9'"),
            (Entry("other", "WBC", "77/1", "7"), "404 there is no analyzer 'other'"),
            (Entry("bench", "XYZ", "77/1", "7"), "404 there is no test 'XYZ'"),
            (entry(unit="mmol/L"), "422 mmol/L cannot be converted to 10*3/uL"),
            (entry(measured_at=at.now + timedelta(hours=1)), "422 a control is entered within 90 days"),
            (entry(measured_at=at.now - timedelta(days=100)), "422 a control is entered within 90 days"),
            (entry(module="a\0b"), "422 the module contains a character that cannot be printed"),
        ):
            assert (await refused(at, lambda c, a, one=wrong: qc_people.enter(c, a, one))).startswith(said)  # type: ignore[misc]
        denied = await refused(at, lambda c, a: qc_people.enter(c, a, entry()), Role.VIEWER)
        assert denied == "403 this needs the permission qc:write"
        denied = await refused(at, lambda c, a: qc_people.enter(c, a, entry()), Role.ADMINISTRATOR)
        assert denied == "403 this needs the permission qc:write"
        assert await at.found() == []


async def test_a_control_of_no_lot_is_assigned_and_judged_in_its_place(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", "7.25", 50)
        await at.send("LYPHO", "7.22", 100)
        waits = (await at.found(problems=True))[0]
        await lab.order("S1", "WBC")
        made = await does(at, lambda c, a: qc_people.assign(c, a, waits.id, "77/1", "labelled by hand"))
        assert made.point is not None and made.problem is not None
        assert (made.point.verdict.value, made.point.rules) == ("reject", ("2-2s",))
        assert made.point.steps[0].text == "Norm, lot 77/1, as tess says"
        assert (made.problem.ended_by, made.problem.end_reason) == ("tess", "labelled by hand")
        assert await at.found(problems=True) == []
        again = await refused(at, lambda c, a: qc_people.assign(c, a, waits.id, "77/1", "again"))
        assert again == "409 it is a point of lot 77 already"


async def test_what_is_never_assigned_and_what_needs_a_test(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await lab.order("S1", "WBC")
        await at.send("S1", "7.1", 3)
        await at.send("QC1", "7.1", 2, code="OTHER")
        patients, unmapped = await at.found()
        said = await refused(at, lambda c, a: qc_people.assign(c, a, patients.id, "77/1", "a control after all"))
        assert said == "409 its id is the barcode of a patient's specimen: it may be a patient's result"
        said = await refused(at, lambda c, a: qc_people.assign(c, a, unmapped.id, "77/1", "new code"))
        assert said == "422 no test is mapped to its code: say which it is"
        made = await does(at, lambda c, a: qc_people.assign(c, a, unmapped.id, "77/1", "new code", "WBC"))
        assert (made.test, judged([made])) == ("WBC", [("7.1", "accept", "")])
        gone = await does(at, lambda c, a: qc_people.dismiss(c, a, patients.id, "the rack was mixed up"))
        assert gone.problem is not None and gone.problem.ended_by == "tess"
        said = await refused(at, lambda c, a: qc_people.dismiss(c, a, patients.id, "again"))
        assert said == "409 nothing about it waits for anybody"


async def test_an_excluded_point_counts_nowhere_and_its_failure_stays(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", "7.25", 300)
        await at.send("QC1", "7.45", 200)
        bad = (await at.found())[1]
        said = await refused(at, lambda c, a: qc_people.exclude(c, a, bad.id, " "))
        assert said == "422 this needs a reason"
        out = await does(at, lambda c, a: qc_people.exclude(c, a, bad.id, "air bubble"))
        assert out.point is not None
        assert (out.point.excluded_by, out.point.exclude_reason, out.point.verdict.value) == (
            "tess", "air bubble", "reject"
        )  # fmt: skip
        assert await lab.owner.fetchval("select state from lab.qc_stream") == "fail"
        first = (await at.found())[0]
        await does(at, lambda c, a: qc_people.exclude(c, a, first.id, "warm"))
        await at.send("QC1", "7.22", 100)  # with either of them it would break 2-2s
        assert judged(await at.found())[2] == ("7.22", "accept", "")
        back = await does(at, lambda c, a: qc_people.restore(c, a, first.id, "it was not"))
        assert back.point is not None and back.point.excluded_at is None
        assert [(one.kind, one.text) for one in back.remarks] == [("exclude", "warm"), ("restore", "it was not")]
        twice = await refused(at, lambda c, a: qc_people.restore(c, a, first.id, "again"))
        assert twice == "409 it is not excluded"


async def test_a_remark_is_kept_beside_the_point(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", "7.05", 30)
        (one,) = await at.found()
        said = await does(at, lambda c, a: qc_people.comment(c, a, one.id, "new bottle"))
        assert [(each.kind, each.text, each.by) for each in said.remarks] == [("comment", "new bottle", "tess")]
        assert await refused(at, lambda c, a: qc_people.comment(c, a, one.id, "\n")) == "422 a comment needs words"


async def test_a_good_control_that_is_entered_and_an_action_make_it_good_again(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", "7.9", 60)
        assert await lab.owner.fetchval("select state from lab.qc_stream") == "fail"
        await does(at, lambda c, a: qc_people.enter(c, a, entry("7.01")))
        assert await lab.owner.fetchval("select state from lab.qc_stream") == "fail"
        stream = await lab.owner.fetchrow("select analyzer_id, test_id, module from lab.qc_stream")
        assert stream is not None
        of = Stream(stream["analyzer_id"], stream["test_id"], stream["module"])
        await does(at, lambda c, a: qc_gate.act(c, a, of, "corrective", "probe cleaned", meanwhile=Meanwhile.AGAIN))
        assert await lab.owner.fetchval("select state from lab.qc_stream") == "ok"


async def test_the_analysis_is_of_the_points_that_count_in_the_window(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        for minutes, value in ((40, "6.9"), (30, "7.0"), (20, "7.1"), (10, "9.9")):
            await at.send("QC1", value, minutes)
        bad = (await at.found())[3]
        await does(at, lambda c, a: qc_people.exclude(c, a, bad.id, "air bubble"))
        begin, end = qc_people.window(None, None)
        async with lab.database.organization(lab.organization_id) as connection:
            (one,) = await qc_people.analysis(connection, AnalysisFilter(begin, end, test="WBC"))
            assert await qc_people.analysis(connection, AnalysisFilter(begin, end, test="HGB")) == []
            assert await qc_people.analysis(connection, AnalysisFilter(begin, at.now - timedelta(hours=2))) == []
        assert (one.n, one.mean, one.sd, one.cv) == (3, Decimal("7.000"), Decimal("0.100"), Decimal("1.43"))
        assert (one.bias, one.sdi, one.total_error, one.sigma) == (
            Decimal("0.00"), Decimal("0.00"), Decimal("2.36"), None
        )  # fmt: skip
        assert (one.lot, one.level, one.target_mean, one.unit) == ("77", "1", Decimal(7), "10*3/uL")
