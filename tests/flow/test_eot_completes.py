"""What EOT completes is complete, whatever the database does at that moment, and its sender has taken our reply."""

from __future__ import annotations

import pytest

from interface.store import notes
from tests.flow.laboratory import frames, message
from tests.flow.test_hl7_frames import DRIVER as HL7_IN_FRAMES
from tests.flow.test_hl7_frames import oru, send, told
from tests.flow.test_intake import END, PEER, bench, give, sealed, whole
from tests.store.journals import until

NO_END = frozenset({"no_terminator_record"})
OPEN = whole(b"C1").removesuffix(END)


@pytest.mark.parametrize("fate", ["lost", "doubtful"])
async def test_a_whole_message_of_hl7_in_frames_stays_whole_where_the_database_is_away_at_eot(
    database_url: str, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    async with bench(database_url, monkeypatch, HL7_IN_FRAMES) as (lab, store):
        await lab.order("S-1", "GLU")
        store.fate = ["stored", fate]  # one frame, then EOT
        await send(lab, oru("C1", "S-1"), at=10_000)
        assert await sealed(lab, 1) == [("complete", "")]
        await send(lab, oru("C1", "S-1"), at=10_000)
        await lab.settle()
        (result,) = await lab.results()
        assert (result.raw_value, result.held) == ("5.10", ())
        assert [(state, settled) for _, state, settled, _, _ in await told(lab)] == [
            ("complete", "released"), ("complete", "duplicate"),
        ]  # fmt: skip


CONTROL = message("P|1", "O|1|QC1||^^^GLU|R||||||Q", "R|1|^^^GLU|7.35|mmol/L||N||F")[:-1]
PATIENT = message("P|1", "O|1|S1||^^^GLU|R", "R|1|^^^GLU|7.35|mmol/L||N||F")[:-1]


@pytest.mark.parametrize(
    ("records", "points", "second"),
    [(CONTROL, 2, "released"), (PATIENT, 0, "duplicate")],
    ids=["control", "patient"],
)
async def test_who_ends_a_message_by_eot_has_taken_our_reply(
    database_url: str, monkeypatch: pytest.MonkeyPatch, records: list[str], points: int, second: str
) -> None:
    """Without a clock the second measurement of a control is the same bytes (DESIGN §1.2)."""
    async with bench(database_url, monkeypatch, leniencies=NO_END) as (lab, _):
        transmission = lab.intake.frames(PEER)
        for _ in range(2):
            for one in frames(records):
                await transmission.frame(one)
            await transmission.end("eot")
        await lab.settle()
        assert await lab.owner.fetchval("select count(*) from lab.qc_result") == points
        assert (await lab.messages())[1] == ("complete", second)


async def test_that_it_has_is_noted_for_its_next_connection(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(database_url, monkeypatch, leniencies=NO_END) as (lab, _):
        monkeypatch.setattr(notes, "FLUSH_S", 0.001)
        await give(lab, frames(CONTROL))

        async def noted() -> bool:
            return bool(await lab.owner.fetchval("select bool_and(taken) from lab.message_key"))

        await until(noted)
        await give(lab, frames(CONTROL))
        await lab.settle()
        assert await lab.owner.fetchval("select count(*) from lab.qc_result") == 2
