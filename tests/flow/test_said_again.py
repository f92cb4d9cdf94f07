"""A second measurement of a control with the same bytes is a second point, a resend of either never is (DESIGN §1.2).

The analyzer has no clock: nothing in its messages differs. Whether it took our reply to the first is all that tells.
"""

from __future__ import annotations

import pytest

from interface.store import notes
from tests.flow.laboratory import Laboratory, frames, laboratory, message
from tests.store.journals import until

CONTROL = message("P|1", "O|1|QC1||^^^GLU|R||||||Q", "R|1|^^^GLU|7.35|mmol/L||N||F")
TIMED = message("P|1", "O|1|QC1||^^^GLU|R||||||Q", "R|1|^^^GLU|7.35|mmol/L||N||F||||20260102030000")
PATIENT = message("P|1", "O|1|S1||^^^GLU|R", "R|1|^^^GLU|7.35|mmol/L||N||F")
NOBODY = message("P|1", "O|1|||^^^GLU|R", "R|1|^^^GLU|7.35|mmol/L||N||F")
MIXED = message(
    "P|1", "O|1|QC1||^^^GLU|R||||||Q", "R|1|^^^GLU|7.35|mmol/L||N||F", "P|2", "O|1|S1||^^^GLU|R",
    "R|1|^^^GLU|5.1|mmol/L||N||F", "O|2|||^^^GLU|R", "R|1|^^^GLU|6|mmol/L||N||F",
)  # fmt: skip


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "FLUSH_S", 0.001)


async def noted(lab: Laboratory) -> None:
    async def known() -> bool:
        return bool(await lab.owner.fetchval("select bool_and(taken) from lab.message_key"))

    await until(known)


async def counted(lab: Laboratory) -> tuple[int, int, list[str | None]]:
    """Controls, versions of patients' results, and what the messages came to."""
    await lab.settle()
    controls = await lab.owner.fetchval("select count(*) from lab.qc_result")
    versions = await lab.owner.fetchval("select count(*) from lab.result_version")
    return controls, versions, [settled for _, settled in await lab.messages()]


@pytest.mark.parametrize(
    ("records", "controls", "versions", "second"),
    [
        (CONTROL, 2, 0, "released"),
        (TIMED, 1, 0, "duplicate"),  # its own time says that it is the same measurement
        (PATIENT, 0, 1, "duplicate"),
        (NOBODY, 0, 1, "duplicate"),
        (MIXED, 2, 2, "released"),
    ],
    ids=["control", "timed", "patient", "nobody", "mixed"],
)
async def test_what_is_said_once_more_is_a_second_point_of_a_control_and_nothing_else(
    database_url: str, records: list[str], controls: int, versions: int, second: str
) -> None:
    async with laboratory(database_url) as lab:
        await lab.send(records)
        await noted(lab)
        await lab.send(records)
        found = await counted(lab)
        assert (found[0], found[1], found[2][1]) == (controls, versions, second)
        named = await lab.owner.fetchval("select duplicate_of from lab.message order by id desc limit 1")
        assert named == await lab.owner.fetchval("select id from lab.message order by id limit 1")


@pytest.mark.parametrize("end", ["aborted", "timeout", "lost", "enq", "stop"])
async def test_what_comes_again_where_the_reply_may_have_been_lost_is_a_resend(database_url: str, end: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.send(CONTROL, end=end)
        await lab.send(CONTROL)
        assert await counted(lab) == (1, 0, ["released", "duplicate"])


async def test_a_resend_of_the_second_is_no_third_and_a_third_is(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.send(CONTROL)
        await noted(lab)
        await lab.send(CONTROL, end="lost")  # measured again; the line was cut before the sender went on
        await lab.send(CONTROL)  # so it is sent again
        assert await counted(lab) == (2, 0, ["released", "released", "duplicate"])
        await noted(lab)
        await lab.send(CONTROL)
        assert (await counted(lab))[0] == 3


async def test_within_one_session_nothing_has_to_be_written_first(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "FLUSH_S", 60.0)
    async with laboratory(database_url) as lab:
        transmission = lab.intake.frames("127.0.0.1:1")
        for frame in [*frames(CONTROL), *frames(CONTROL)]:
            await transmission.frame(frame)
        await transmission.end("eot")
        assert await counted(lab) == (2, 0, ["released", "released"])


AT = "20260102030000"


def controls(*values: str, control: str = "C1", at: str = AT) -> list[str]:
    """A message with so many controls of one id, code and time."""
    records = [record for value in values
               for record in ("O|1|QC1||^^^GLU|R||||||Q", f"R|1|^^^GLU|{value}|mmol/L||N||F||||{at}")]  # fmt: skip
    return message("P|1", *records, control=control)


@pytest.mark.parametrize(
    ("messages", "values"),
    [
        ([controls("7.35", "7.41")], ["7.35", "7.41"]),
        ([controls("7.35", "7.35")], ["7.35", "7.35"]),
        ([controls("7.35", "7.35", at="")], ["7.35", "7.35"]),
        ([controls("7.35"), controls("7.41", control="C2")], ["7.35", "7.41"]),
        ([controls("7.35"), controls("7.35", control="C2")], ["7.35"]),
        ([controls("7.35", "7.41"), controls("7.41", control="C2")], ["7.35", "7.41"]),
        ([controls("7.35", "7.35"), controls("7.35", "7.35", control="C2")], ["7.35", "7.35"]),
        ([controls("7.35", "7.41"), controls("7.41", "7.35", "7.35", control="C2")], ["7.35", "7.35", "7.41"]),
        ([controls("7.35"), controls("7.350", control="C2")], ["7.35", "7.350"]),
    ],
    ids=["two at once", "twice the same at once", "without a time", "another value", "a resend", "of a part",
         "of two that are the same", "with one more, in another order", "with other digits"],
)  # fmt: skip
async def test_two_controls_of_one_second_are_two_and_a_resend_is_none(
    database_url: str, messages: list[list[str]], values: list[str]
) -> None:
    """Of an analyzer that measures in parallel, or says the minute only: the value tells one from the other."""
    async with laboratory(database_url) as lab:
        for records in messages:
            await lab.send(records)
        await lab.settle()
        found = await lab.owner.fetch("select value from lab.qc_result order by value")
        assert [row["value"] for row in found] == values
