"""Files that an instrument drops: committed as they are, then moved; no file wedges the folder."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from interface.domain.model import Protocol
from interface.errors import StoreUnavailable
from interface.link import folder as folder_link
from interface.link.folder import HANGS_S, POLL_S, FolderLink
from interface.link.intake import Receipt
from interface.link.supervisor import LinkSpec, LinkState, LinkStatus, Supervisor
from interface.settings import Folder, LinkSettings, Transport, TransportType
from interface.wire.lis01 import build_frame
from tests.hanging import hung
from tests.link.bench import PATIENCE_S, FakeClock, Framing, RecordingIntake, settle

RECORDS = [b"H|\\^&\r", b"P|1\r", b"L|1|N\r"]
FRAMES = [build_frame(number, text, True) for number, text in enumerate(RECORDS, start=1)]
ONE, TWO = b"MSH|^~\\&|1\rPID|1\r", b"MSH|^~\\&|2\r"
Logs = list[MutableMapping[str, Any]]


class Drop:
    """A folder, and a link that polls it when the test says so."""

    def __init__(self, path: Path, protocol: Protocol, *, pattern: str = "*", stable_s: float = 2.0) -> None:
        self.path, self.intake, self.clock = path, RecordingIntake(), FakeClock()
        transport = Transport(TransportType.FOLDER, Folder(path, pattern, stable_s))
        settings = LinkSettings("drop", "main", "generic", transport, max_message_bytes=64 * 1024)
        self.supervisor = Supervisor([LinkSpec(settings, self.intake, Framing(protocol=protocol))], self.clock)

    @property
    def link(self) -> FolderLink:
        link = self.supervisor._links["drop"]
        assert isinstance(link, FolderLink)
        return link

    @property
    def status(self) -> LinkStatus:
        return self.supervisor.statuses()[0]

    async def polled(self, number: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.link.polls < number:
                await settle()

    async def start(self) -> None:
        await self.supervisor.start()
        await self.polled(1)

    async def poll(self, times: int = 1, seconds: float = POLL_S) -> None:
        for _ in range(times):
            number = self.link.polls
            await self.clock.advance(seconds)
            await self.polled(number + 1)

    def names(self, folder: str = "") -> list[str]:
        return sorted(entry.name for entry in (self.path / folder).iterdir() if not entry.is_dir())


@pytest.fixture
async def hl7(tmp_path: Path) -> AsyncIterator[Drop]:
    drop = Drop(tmp_path, Protocol.HL7)
    yield drop
    await drop.supervisor.stop(0.0)


@pytest.fixture
async def lis2(tmp_path: Path) -> AsyncIterator[Drop]:
    drop = Drop(tmp_path, Protocol.LIS2)
    yield drop
    await drop.supervisor.stop(0.0)


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as logs:
        yield logs


def sentences(logs: Logs) -> list[str]:
    return [str(line["reason"]) for line in logs if line.get("action") == "link.file" and "reason" in line]


async def test_a_file_is_moved_only_after_its_bytes_are_committed(hl7: Drop) -> None:
    (hl7.path / "one.hl7").write_bytes(ONE + TWO)
    await hl7.start()
    hl7.intake.gate.clear()
    await hl7.clock.advance(2.0)
    await hl7.intake.until(1)
    assert hl7.names() == ["one.hl7"]
    hl7.intake.gate.set()
    await hl7.polled(2)
    assert hl7.intake.blocks == [ONE, TWO]
    assert (hl7.names(), hl7.names("done"), hl7.names("failed")) == ([], ["one.hl7"], [])
    assert (hl7.path / "done" / "one.hl7").read_bytes() == ONE + TWO
    assert [sent for _, sent in hl7.intake.replies] == [True, True]
    assert (hl7.status.up, hl7.status.messages, hl7.status.frames) == (True, 2, 2)
    assert hl7.status.address == f"{hl7.path}/*"
    assert hl7.status.last_activity is not None


@pytest.mark.parametrize("data", [b"".join(RECORDS), b"\x05" + b"".join(FRAMES) + b"\x04"])
async def test_lis2_files_are_messages_like_any_other(lis2: Drop, data: bytes) -> None:
    (lis2.path / "one.astm").write_bytes(data)
    await lis2.start()
    await lis2.poll(2)
    assert [frame.text for frame in lis2.intake.stored] == RECORDS
    assert b"".join(frame.raw for frame in lis2.intake.stored) in data
    assert lis2.names("done") == ["one.astm"]
    assert lis2.status.messages == 1


async def test_a_file_that_is_still_written_is_left_alone(hl7: Drop) -> None:
    await hl7.start()
    for part in (ONE[:9], ONE):
        (hl7.path / "slow.hl7").write_bytes(part)
        await hl7.poll(2)
        assert hl7.intake.blocks == []
    await hl7.poll()
    assert hl7.intake.blocks == [ONE]


async def test_a_file_that_is_renamed_into_place_may_be_taken_at_once(tmp_path: Path) -> None:
    drop = Drop(tmp_path, Protocol.HL7, pattern="*.hl7", stable_s=0.0)
    await drop.start()
    (tmp_path / "one.tmp").write_bytes(ONE[:9])
    (tmp_path / ".two.hl7").write_bytes(TWO)
    await drop.poll()
    (tmp_path / "one.tmp").write_bytes(ONE)
    (tmp_path / "one.tmp").rename(tmp_path / "one.hl7")
    await drop.poll()
    assert drop.intake.blocks == [ONE]
    assert drop.names() == [".two.hl7"]
    await drop.supervisor.stop(0.0)


async def test_the_oldest_file_comes_first(hl7: Drop) -> None:
    for name, data, at in (("a", TWO, 2000), ("b", ONE, 1000)):
        (hl7.path / name).write_bytes(data)
        os.utime(hl7.path / name, (at, at))
    await hl7.start()
    await hl7.poll(2)
    assert hl7.intake.blocks == [ONE, TWO]


async def test_a_damaged_file_is_refused_whole_with_its_reason(lis2: Drop) -> None:
    data = FRAMES[0] + FRAMES[1].replace(b"P|", b"P!")
    (lis2.path / "one.astm").write_bytes(data)
    await lis2.start()
    await lis2.poll(2)
    assert lis2.intake.stored == []
    assert lis2.names("failed") == ["one.astm", "one.astm.reason"]
    assert (lis2.path / "failed" / "one.astm").read_bytes() == data
    reason = (lis2.path / "failed" / "one.astm.reason").read_text()
    assert reason == "frame 2 cannot be accepted: checksum\n"
    assert lis2.intake.refused == [("checksum", data)]
    assert lis2.status.rejected == 1


async def test_a_message_without_its_end_is_stored_and_told(lis2: Drop) -> None:
    (lis2.path / "one.astm").write_bytes(b"\x05" + FRAMES[0] + FRAMES[1] + b"\x04")
    await lis2.start()
    await lis2.poll(2)
    assert [frame.text for frame in lis2.intake.stored] == RECORDS[:2]
    assert lis2.intake.ends == ["eot"]
    reason = (lis2.path / "failed" / "one.astm.reason").read_text()
    assert reason == "messages without L record: 1; what there is of them is stored as incomplete\n"


async def test_a_refused_message_puts_its_file_among_the_failed(hl7: Drop) -> None:
    hl7.intake.receipts = [Receipt(uuid4(), b"AA"), Receipt(uuid4(), b"AR", refused="MSH^1^9: not taken")]
    (hl7.path / "two.hl7").write_bytes(ONE + TWO)
    await hl7.start()
    await hl7.poll(2)
    assert hl7.intake.blocks == [ONE, TWO]
    assert (hl7.path / "failed" / "two.hl7.reason").read_text() == "message 2: MSH^1^9: not taken\n"


async def test_what_cannot_be_stored_stays_and_is_tried_less_and_less_often(hl7: Drop, logs: Logs) -> None:
    hl7.intake.failures = [StoreUnavailable("down")] * 3
    (hl7.path / "one.hl7").write_bytes(ONE)
    await hl7.start()
    await hl7.poll(2)  # at 2 s; then at 3, 5 and 9 s
    for polls, left in ((1, 1), (2, 0), (3, 0)):
        await hl7.poll(polls)
        assert (len(hl7.intake.failures), hl7.names()) == (left, ["one.hl7"])
    await hl7.poll()
    assert (hl7.intake.blocks, hl7.names("done")) == ([ONE], ["one.hl7"])
    assert sentences(logs) == ["it could not be stored, and will be tried again"]
    assert hl7.status.naks == 3


async def test_nothing_is_taken_while_the_journal_is_away(hl7: Drop) -> None:
    hl7.intake.ready = False
    (hl7.path / "one.hl7").write_bytes(ONE)
    await hl7.start()
    await hl7.poll(3)
    assert (hl7.intake.blocks, hl7.names()) == ([], ["one.hl7"])


async def test_a_disk_that_is_full_at_the_move_stores_nothing_twice(
    hl7: Drop, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    (hl7.path / "one.hl7").write_bytes(ONE)
    await hl7.start()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        await hl7.poll(5)
    assert (hl7.intake.blocks, hl7.names()) == ([ONE], ["one.hl7"])
    assert sentences(logs) == ["it cannot be moved, and what it held is stored: no space left on device"]
    await hl7.poll()
    assert (hl7.intake.blocks, hl7.names("done")) == ([ONE], ["one.hl7"])


async def test_no_file_that_was_moved_before_is_overwritten(hl7: Drop) -> None:
    await hl7.start()
    for data in (ONE, TWO, ONE):
        (hl7.path / "one.hl7").write_bytes(data)
        await hl7.poll(3)
    (hl7.path / "noext").write_bytes(TWO)
    await hl7.poll(3)
    assert hl7.names("done") == ["noext", "one.1.hl7", "one.2.hl7", "one.hl7"]
    assert (hl7.path / "done" / "one.hl7").read_bytes() == ONE
    assert (hl7.path / "done" / "one.1.hl7").read_bytes() == TWO


async def test_links_and_pipes_are_told_once_and_never_followed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, logs: Logs
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.hl7"
    outside.write_bytes(ONE)
    drop = Drop(tmp_path, Protocol.HL7)
    (tmp_path / "link.hl7").symlink_to(outside)
    os.mkfifo(tmp_path / "pipe.hl7")
    (tmp_path / "folder.hl7").mkdir()
    (tmp_path / "good.hl7").write_bytes(TWO)
    await drop.start()
    await drop.poll(4)
    assert drop.intake.blocks == [TWO]
    assert sorted(sentences(logs)) == ["it is a link", "it is no file"]
    assert "secret" not in str(logs) + str(drop.names("done"))
    await drop.supervisor.stop(0.0)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (PermissionError(13, "Permission denied"), "it cannot be read: permission denied"),
        (FileNotFoundError(2, "No such file or directory"), "it was gone before it could be read"),
        (OSError(5, "Input/output error"), "it cannot be read: input/output error"),
    ],
)
async def test_a_file_that_cannot_be_read_is_told_once_and_keeps_no_other_waiting(
    hl7: Drop, logs: Logs, monkeypatch: pytest.MonkeyPatch, fault: OSError, said: str
) -> None:
    real = folder_link._read

    def read(path: Path, seen: folder_link.Seen) -> bytes:
        if seen.name == "bad.hl7":
            raise fault
        return real(path, seen)

    monkeypatch.setattr(folder_link, "_read", read)
    (hl7.path / "bad.hl7").write_bytes(ONE)
    (hl7.path / "good.hl7").write_bytes(TWO)
    await hl7.start()
    await hl7.poll(5)
    assert hl7.intake.blocks == [TWO]
    assert sentences(logs) == [said]
    assert "bad.hl7" not in str(logs)  # a file's name may be a patient's


async def test_a_file_that_changes_while_it_is_read_is_not_taken_yet(
    hl7: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hl7.path / "one.hl7").write_bytes(ONE)
    await hl7.start()
    real = folder_link._read
    changed: list[folder_link.Seen] = []

    def read(path: Path, seen: folder_link.Seen) -> bytes:
        if not changed:
            changed.append(seen)
            with open(path / seen.name, "ab") as file:
                file.write(TWO)
        return real(path, seen)

    monkeypatch.setattr(folder_link, "_read", read)
    await hl7.poll(2)
    assert changed
    assert hl7.intake.blocks == []
    await hl7.poll(3)
    assert hl7.intake.blocks == [ONE, TWO]


async def test_a_file_too_large_is_refused_unread(hl7: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_link, "MOST_BYTES", 10)
    (hl7.path / "one.hl7").write_bytes(ONE)
    await hl7.start()
    await hl7.poll(2)
    assert (hl7.path / "failed" / "one.hl7.reason").read_text() == "it has more than 10 bytes\n"
    assert hl7.intake.blocks == []


async def test_a_folder_that_is_not_there_is_down_with_the_reason_until_it_is(tmp_path: Path) -> None:
    drop = Drop(tmp_path / "later", Protocol.HL7, stable_s=0.0)
    await drop.start()
    assert drop.status.state is LinkState.DOWN
    assert drop.status.fault == f"{tmp_path}/later cannot be used: no such file or directory"
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "one.hl7").write_bytes(ONE)
    await drop.poll(seconds=2.0)
    assert drop.status.up
    assert drop.intake.blocks == [ONE]
    await drop.supervisor.stop(0.0)


async def test_nothing_is_moved_out_of_the_folder_through_a_link(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (tmp_path / "done").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    (tmp_path / "one.hl7").write_bytes(ONE)
    drop = Drop(tmp_path, Protocol.HL7, stable_s=0.0)
    await drop.start()
    assert "done is a link" in drop.status.fault
    assert drop.intake.blocks == []
    await drop.supervisor.stop(0.0)


async def test_a_stop_lets_the_file_under_way_end_and_takes_no_other(hl7: Drop) -> None:
    for name in ("a.hl7", "b.hl7"):
        (hl7.path / name).write_bytes(ONE)
        os.utime(hl7.path / name, (ord(name[0]), ord(name[0])))
    await hl7.start()
    hl7.intake.gate.clear()
    await hl7.clock.advance(2.0)
    await hl7.intake.until(1)
    stopping = asyncio.create_task(hl7.supervisor.stop(PATIENCE_S))
    await settle()
    hl7.intake.gate.set()
    await stopping
    assert (hl7.names("done"), hl7.names()) == (["a.hl7"], ["b.hl7"])
    assert hl7.status.state is LinkState.STOPPED


async def test_a_stop_cuts_a_file_that_does_not_end_and_it_stays(lis2: Drop) -> None:
    (lis2.path / "one.astm").write_bytes(b"".join(FRAMES))
    await lis2.start()
    lis2.intake.gate.clear()
    await lis2.clock.advance(2.0)
    await lis2.intake.until(1)
    await lis2.supervisor.stop(0.0)
    assert lis2.intake.ends == ["stop"]
    assert lis2.names() == ["one.astm"]


async def test_what_is_written_while_a_file_is_committed_is_not_moved_unread(hl7: Drop) -> None:
    """The instrument appends the next result to its file while the first is being committed."""
    path = hl7.path / "results.hl7"
    path.write_bytes(ONE)
    await hl7.start()
    hl7.intake.gate.clear()
    await hl7.clock.advance(2.0)
    await hl7.intake.until(1)  # read, and its commit is under way
    with path.open("ab") as file:
        file.write(TWO)
    hl7.intake.gate.set()
    await hl7.polled(2)
    await hl7.poll(5)
    assert TWO in hl7.intake.blocks, (hl7.names(), hl7.names("done"), hl7.intake.blocks)


async def test_a_file_server_that_hangs_is_a_link_that_is_down(hl7: Drop) -> None:
    """Nobody was told: it stood as up, and what its instrument dropped lay there."""
    await hl7.start()
    assert hl7.status.up
    with hung(hl7.path):
        await hl7.clock.advance(POLL_S)
        assert hl7.status.up, "it may be slow"
        await hl7.clock.advance(HANGS_S)
        assert not hl7.status.up and hl7.status.fault == f"{hl7.path} does not answer"
        polls = hl7.link.polls
    await hl7.polled(polls + 1)  # what it had asked for has failed by now
    (hl7.path / "a").write_bytes(ONE)
    await hl7.poll(5, 60)
    assert hl7.status.up and hl7.intake.blocks == [ONE]


async def test_the_end_of_the_program_does_not_wait_for_a_file_server_that_hangs(hl7: Drop) -> None:
    """It was waited for until systemd killed the daemon, half a minute after it had closed everything in order."""
    await hl7.start()
    with hung(hl7.path):
        await hl7.clock.advance(POLL_S + HANGS_S)
        await hl7.supervisor.stop(0.0)
        waiting = [one for one in threading.enumerate() if one.name.startswith("folder drop")]
        assert [one.daemon for one in waiting] == [True]
    for one in waiting:
        await asyncio.to_thread(one.join, PATIENCE_S)
        assert not one.is_alive()
