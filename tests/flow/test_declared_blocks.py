"""Declared framings, from block to decided result: bytes as sent, a resend answered and not doubled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import pytest

from interface.domain.model import HoldReason
from interface.errors import StoreAmbiguous, StoreUnavailable
from interface.flow.message import frame_text, message_text
from interface.link.declared import DeclaredSession
from interface.link.intake import Receipt, ReceivedBlock
from interface.link.session import Counters
from interface.link.stream import null_modem
from interface.store.journal import Append
from interface.store.stored_messages import read_messages
from interface.wire.declared import Decoder
from tests.flow.laboratory import Laboratory, laboratory
from tests.link.bench import ACK, ENQ, EOT, NAK, Analyzer, FakeClock

TEXT = (
    b"\x1emtrsl|\x1epi|\x1epn|\x1esi|\x1eciS-1|\x1ertTSH|\x1ernTSH|\x1ett12:10|\x1etd01/05/26|\x1eql|\x1eqn2.45 mIU/L|"
)


def block(text: bytes = TEXT) -> bytes:
    covered = text + b"\x1d"
    return b"\x02" + covered + b"%02x" % (sum(covered) & 0xFF) + b"\x03"


def received(text: bytes = TEXT) -> ReceivedBlock:
    return ReceivedBlock(block(text), 1, 1 + len(text))


def site(tmp_path: Path, of: str, **changes: str) -> Path:
    """A site's copy of a driver, changed."""
    from interface.driver.registry import packaged_path

    folder = tmp_path / of
    folder.mkdir()
    text = (packaged_path() / of / "driver.toml").read_text(encoding="utf-8")
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "driver.toml").write_text(text, encoding="utf-8")
    return tmp_path


async def stored(lab: Laboratory) -> list[tuple[str, str, str | None, bytes, bytes]]:
    """(protocol, state, settled, bytes, text) of every message."""
    ids = [row["id"] for row in await lab.owner.fetch("select id from lab.message order by id")]
    async with lab.database.organization(lab.organization_id) as connection:
        found = await read_messages(connection, ids)
    return [(m.protocol, m.state, m.settled, m.frames[0].bytes, message_text(m)) for m in map(found.__getitem__, ids)]


async def test_a_block_is_journaled_as_sent_and_decoded_from_its_text(database_url: str) -> None:
    async with laboratory(database_url, "biomerieux_mini_vidas") as lab:
        receipt = await lab.intake.declared("127.0.0.1:1").block(received())
        assert receipt.message_id is not None
        assert await stored(lab) == [("declared", "complete", None, block(), TEXT)]
        await lab.settle()
        (result,) = await lab.results()
        assert (result.code, result.raw_value, result.raw_unit) == ("TSH", "2.45 mIU/L", "mIU/L")
        assert HoldReason.UNMAPPED_CODE in result.held  # no map is shipped for it: nothing is guessed
        assert HoldReason.DRIVER_MISMATCH not in result.held


async def test_a_resend_is_a_duplicate(database_url: str) -> None:
    """The ACK was lost, or the daemon was killed between commit and ACK: the device sends the block again."""
    async with laboratory(database_url, "biomerieux_mini_vidas") as lab:
        first = await lab.intake.declared("127.0.0.1:1").block(received())
        await lab.settle()
        second = await lab.intake.declared("127.0.0.1:2").block(received())
        await lab.settle()
        assert second.message_id != first.message_id
        assert [state for _, state, *_ in await stored(lab)] == ["complete", "complete"]
        assert [settled for _, settled in await lab.messages()] == ["held", "duplicate"]
        assert len(await lab.results()) == 1


async def test_killed_between_commit_and_ack_the_resend_is_answered_and_not_doubled(database_url: str) -> None:
    async with laboratory(database_url, "biomerieux_mini_vidas") as lab:
        grammar = lab.context.driver.blocks
        assert grammar is not None

        class Dying:
            """The intake, on a line that breaks the moment the commit is made."""

            ready = True

            def declared(self, peer: str) -> Dying:
                return self

            def outgoing(self, peer: str, due: object) -> None:
                return None

            async def block(self, block: ReceivedBlock) -> Receipt:
                await lab.intake.declared("127.0.0.1:1").block(block)
                raise asyncio.CancelledError

            def rejected(self, reason: str, data: bytes, peer: str) -> None:
                lab.intake.rejected(reason, data, peer)

        for intake, answered in ((Dying(), False), (lab.intake, True)):
            ours, theirs = null_modem()
            session = DeclaredSession("l", theirs, intake, Counters(), FakeClock(), Decoder(grammar))  # type: ignore[arg-type]
            task = asyncio.create_task(session.run())
            analyzer = Analyzer(ours)
            await analyzer.talk((ENQ, ACK))
            await analyzer.send(block())
            if answered:
                await analyzer.expect(ACK)
                await analyzer.send(EOT)
                await ours.close()
            else:
                await analyzer.expect_end()  # no ACK was written
            await asyncio.gather(task, return_exceptions=True)
        await lab.settle()
        assert [settled for _, settled in await lab.messages()] == ["held", "duplicate"]
        assert len(await lab.results()) == 1


async def test_without_the_database_the_answer_is_no(database_url: str) -> None:
    async with laboratory(database_url, "biomerieux_mini_vidas") as lab:
        await lab.journal.stop()
        with pytest.raises(StoreUnavailable):
            await lab.intake.declared("127.0.0.1:1").block(received())
        ours, theirs = null_modem()
        grammar = lab.context.driver.blocks
        assert grammar is not None
        session = DeclaredSession("l", theirs, lab.intake, Counters(), FakeClock(), Decoder(grammar))
        task = asyncio.create_task(session.run())
        await Analyzer(ours).talk((block(), NAK))
        await ours.close()
        await task


async def test_a_block_whose_commit_nobody_knows_of_is_stored_once(database_url: str) -> None:
    async with laboratory(database_url, "biomerieux_mini_vidas") as lab:
        journal, real = lab.intake.declared("127.0.0.1:1"), lab.journal.append

        async def committed_and_lost(append: Append) -> frozenset[UUID]:
            await real(append)
            raise StoreAmbiguous("the commit is late")

        lab.journal.append = committed_and_lost  # type: ignore[method-assign]
        with pytest.raises(StoreAmbiguous):
            await journal.block(received())
        lab.journal.append = real  # type: ignore[method-assign]
        await journal.block(received())
        assert len(await stored(lab)) == 1
        await journal.block(received())
        assert len(await stored(lab)) == 2


async def test_to_a_device_that_hears_nothing_the_same_bytes_are_no_resend(database_url: str, tmp_path: Path) -> None:
    """It does not repeat itself: the block of sample 7 may say tomorrow what it said today, of another specimen."""
    one_way = {'good = "<ACK>"\nbad = "<NAK>"\n': "", "[framing.session]": "[framing.session]\n#"}
    drivers = site(tmp_path, "biomerieux_mini_vidas", **one_way)
    text = (drivers / "biomerieux_mini_vidas" / "driver.toml").read_text(encoding="utf-8")
    for key in ("opens", "ready", "busy", "closes"):
        text = "\n".join(line for line in text.split("\n") if not line.startswith(f"{key} ="))
    (drivers / "biomerieux_mini_vidas" / "driver.toml").write_text(text, encoding="utf-8")
    async with laboratory(database_url, "biomerieux_mini_vidas", drivers=[drivers]) as lab:
        for _ in range(2):
            await lab.intake.declared("127.0.0.1:1").block(received())
            await lab.settle()
        assert [settled for _, settled in await lab.messages()] == ["held", "released"]  # decided, not a duplicate
        assert len(await lab.results()) == 1  # the same result by its key: nothing new is said of it


async def test_a_sites_words_release_what_the_shipped_driver_holds(database_url: str, tmp_path: Path) -> None:
    drivers = site(tmp_path, "biomerieux_mini_vidas", **{'Positif = "POS"': 'Positif = "POS"\nNegatif = "NEG"'})
    text = TEXT.replace(b"\x1eql|", b"\x1eqlNegatif|")
    for paths, unknown in (((), True), ((drivers,), False)):
        async with laboratory(database_url, "biomerieux_mini_vidas", drivers=paths) as lab:
            await lab.intake.declared("127.0.0.1:1").block(received(text))
            await lab.settle()
            (result,) = await lab.results()
            assert (HoldReason.UNKNOWN_FLAG in result.held) is unknown


async def test_a_frame_of_a_block_is_its_text(database_url: str) -> None:
    async with laboratory(database_url, "biomerieux_mini_vidas") as lab:
        receipt = await lab.intake.declared("127.0.0.1:1").block(received())
        assert receipt.message_id is not None
        async with lab.database.organization(lab.organization_id) as connection:
            (message,) = (await read_messages(connection, [receipt.message_id])).values()
        assert [frame_text(frame) for frame in message.frames] == [TEXT]
