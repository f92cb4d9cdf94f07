"""An instrument that drops files into a folder: each is committed, and only then moved to `done/` or `failed/`.

Killed between commit and move, the daemon takes the file again, and the journal knows its messages again by their
digest. File names may be a patient's: they are in the journal and in the folder, never in the logs.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from heapq import nsmallest
from pathlib import Path
from threading import Thread
from typing import TypeVar
from uuid import uuid4

import structlog

from interface import telemetry
from interface.domain.model import Protocol
from interface.errors import LinkFrameError, StoreError, StoreUnavailable
from interface.link.backoff import BackOff
from interface.link.base import Link, LinkSpec, LinkState, link_options
from interface.link.clock import Clock
from interface.link.intake import Intake, Receipt, ReceivedBlock, ReceivedFrame
from interface.link.recorder import RecordedFile
from interface.settings import Folder
from interface.wire import declared, lis01
from interface.wire.datalink_events import EVIDENCE_BYTES
from interface.wire.filed import Step, hl7_messages, lis2_steps
from interface.wire.transmission import MessageSplitter

POLL_S = 1.0
HANGS_S = 30.0  # after which a file server that has not answered is told of
MOST_FILES = 1000  # looked at in one poll, the oldest first
MOST_BYTES = 64 * 1024 * 1024  # of one file
DONE, FAILED = "done", "failed"
_MOST_NAMES = 1000  # tried for a file whose name is taken in done/ or failed/
_LONGEST_PEER = 200
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # O_NONBLOCK: a pipe must not keep us waiting

log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was found. Other bytes make another one of it."""

    name: str
    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, name: str, status: os.stat_result) -> Seen:
        return cls(name, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(slots=True)
class _Again:
    """When a file that could not be stored is tried again: its frames may be there, so not in every poll."""

    back_off: BackOff = field(default_factory=BackOff)
    at: float = 0.0


@dataclass(slots=True)
class Taken:
    """What became of a file whose bytes are committed, or refused for good. `refusal`: "" for done/."""

    refusal: str = ""
    receipts: list[Receipt] = field(default_factory=list)


class _Changed(Exception):
    """The file is not what it was when it was found stable."""


class FolderLink(Link):
    """Polls a folder. Nothing in it keeps the daemon from starting, and no file keeps another from being taken."""

    def __init__(self, spec: LinkSpec, clock: Clock, folder: Folder) -> None:
        super().__init__(spec, clock)
        self._folder = folder
        self._since: dict[Seen, float] = {}  # files as they are, and since when
        self._taken: dict[Seen, Taken] = {}  # committed, and not moved yet
        self._again: dict[Seen, _Again] = {}  # not stored, when it was tried
        self._said: dict[str, str] = {}  # what was logged last of a file, by its name
        self._task: asyncio.Task[None] | None = None
        self._busy = self._stopping = False
        self.polls = 0

    @property
    def address(self) -> str:
        return str(self._folder)

    async def start(self) -> None:
        self.went_down(f"{self._folder.path} was not looked at yet")
        self._task = asyncio.create_task(self._watch(), name=f"link {self.settings.id}")

    async def stop(self, drain_s: float) -> None:
        self._stopping = True
        tasks = frozenset({self._task} if self._task else ())
        if tasks and self._busy:
            await asyncio.wait(tasks, timeout=drain_s)
        await self.end(tasks, 0.0)

    async def _watch(self) -> None:
        back_off = BackOff()
        while not self._stopping:
            wait_s = POLL_S
            try:
                found = await self._in_thread(lambda: _scan(self._folder))
            except OSError as error:
                self.went_down(f"{self._folder.path} cannot be used: {_reason(error)}")
                wait_s = back_off.next_s()
            else:
                if self.state is not LinkState.UP:
                    self.went_up()
                back_off.reset()
                await self._take_all(found)
            self.polls += 1
            if self._stopping:
                return
            await self.clock.sleep(wait_s)

    async def _take_all(self, found: tuple[list[Seen], list[tuple[str, str]]]) -> None:
        files, others = found
        now = self.clock.now()
        self._since = {seen: self._since.get(seen, now) for seen in files}
        self._taken = {seen: taken for seen, taken in self._taken.items() if seen in self._since}
        self._again = {seen: again for seen, again in self._again.items() if seen in self._since}
        present = {seen.name for seen in files} | {name for name, _ in others}
        self._said = {name: said for name, said in self._said.items() if name in present}
        for name, sentence in others:
            self._say(name, sentence)
        for seen in files:
            if self._stopping or not self.spec.intake.ready:
                return
            if now - self._since[seen] >= self._folder.stable_s and not self._waits(seen):
                self._busy = True
                try:
                    await self._take(seen)
                except Exception as error:  # a fault of ours in one file costs it alone
                    log.error("file not taken", link=self.settings.id, action="link.failed", exc_info=error)
                finally:
                    self._busy = False

    def _waits(self, seen: Seen) -> bool:
        again = self._again.get(seen)
        return again is not None and self.clock.now() < again.at

    async def _take(self, seen: Seen) -> None:
        if seen not in self._taken:
            try:
                taken = await self._commit(seen)
            except _Changed:
                self._since.pop(seen, None)
                return
            except FileNotFoundError:
                self._say(seen.name, "it was gone before it could be read")
                return
            except OSError as error:
                self._say(seen.name, f"it cannot be read: {_reason(error)}")
                return
            except StoreError as error:
                self.counters.naks += 1
                telemetry.count_nak(self.settings.id, error.slug)
                again = self._again.setdefault(seen, _Again())
                again.at = self.clock.now() + again.back_off.next_s()
                self._say(seen.name, "it could not be stored, and will be tried again")
                return
            self._taken[seen] = taken
        await self._move(seen, self._taken[seen])

    async def _commit(self, seen: Seen) -> Taken:
        """Raises OSError, _Changed and StoreError: then nothing is known to be stored, and the file stays."""
        if seen.size > MOST_BYTES:
            return Taken(f"it has more than {MOST_BYTES} bytes")
        data = await self._in_thread(lambda: _read(self._folder.path, seen))
        peer = seen.name.encode("utf-8", "replace").decode()[:_LONGEST_PEER]
        if self.spec.wire_log is None:
            return await self.commit(data, peer, self.spec.intake)
        intake = RecordedFile(self.spec.intake, self.recorder(self.spec.wire_log, peer), data)
        try:
            return await self.commit(data, peer, intake)
        finally:
            intake.close()

    async def commit(self, data: bytes, peer: str, intake: Intake) -> Taken:
        """Give what a file holds to `intake`. Raises StoreError: then the file is not done with."""
        try:
            if self.spec.framing is not None and self.spec.framing.blocks is not None:
                return await self._commit_blocks(self.spec.framing.blocks, data, peer, intake)
            if self._speaks_hl7:
                return await self._commit_hl7(data, peer, intake)
            if len(data) > self.settings.max_message_bytes:
                sentence = f"it has more than {self.settings.max_message_bytes} bytes"
                return self._refused(sentence, "oversize", data, peer, intake)
            return await self._commit_lis2(lis2_steps(data, link_options(self.spec)), peer, intake)
        except LinkFrameError as error:
            return self._refused(str(error), error.reason, data, peer, intake)

    def _refused(self, sentence: str, reason: str, data: bytes, peer: str, intake: Intake) -> Taken:
        self.counters.rejected += 1
        intake.rejected(reason, data[:EVIDENCE_BYTES], peer)
        return Taken(sentence)

    @property
    def _speaks_hl7(self) -> bool:
        return self.spec.framing is not None and self.spec.framing.protocol is Protocol.HL7

    async def _commit_blocks(self, grammar: declared.Grammar, data: bytes, peer: str, intake: Intake) -> Taken:
        """Blocks of a framing that the driver declares; the end of the file is that of a burst."""
        decoder = declared.Decoder(grammar, self.settings.max_message_bytes)
        taken, refusals, blocks = Taken(), [], intake.declared(peer)
        for event in (*decoder.receive(data), *decoder.eof()):
            match event:
                case declared.BlockReceived(raw, start, stop):
                    receipt = await blocks.block(ReceivedBlock(raw, start, stop))
                    self._count(receipt)
                    taken.receipts.append(receipt)
                case declared.BlockRejected(reason, evidence):
                    refusals.append(f"a block is damaged: {reason}")
                    self.counters.rejected += 1
                    intake.rejected(reason, evidence, peer)
                case declared.Skipped(evidence):
                    refusals.append("there are bytes outside its blocks")
                    self.counters.rejected += 1
                    intake.rejected("skipped", evidence, peer)
        if not taken.receipts and not refusals:
            refusals.append("there is no block in it")
        taken.refusal = "; ".join(dict.fromkeys(refusals))
        return taken

    async def _commit_hl7(self, data: bytes, peer: str, intake: Intake) -> Taken:
        filed = hl7_messages(data, self.settings.max_message_bytes)
        taken, refusals = Taken(), [filed.fault] if filed.fault else []
        if filed.envelope:
            intake.rejected("batch_count" if filed.fault else "batch_envelope", filed.envelope, peer)
        for number, message in enumerate(filed.messages, start=1):
            receipt = await intake.block(message, peer)
            if receipt.message_id is None:
                raise StoreUnavailable("the message is not stored")
            self._count(receipt)
            taken.receipts.append(receipt)
            if receipt.refused:
                refusals.append(f"message {number}: {receipt.refused}")
        taken.refusal = "; ".join(refusals[:10])
        return taken

    async def _commit_lis2(self, steps: tuple[Step, ...], peer: str, intake: Intake) -> Taken:
        frames, splitter, taken = intake.frames(peer), MessageSplitter(), Taken()
        cut = 0
        reason = "lost"
        try:
            for step in steps:
                if isinstance(step, lis01.FrameReceived):
                    receipt = await frames.frame(ReceivedFrame(step.fn, step.raw, step.text, step.last))
                    cut += sum(piece.breaks for piece in splitter.feed(step.text, step.last))
                    self._count(receipt)
                else:
                    receipt = await frames.end(step.reason)
                    cut += splitter.open and receipt.message_id is None
                    splitter = MessageSplitter()
                if receipt.message_id is not None:
                    taken.receipts.append(receipt)
            reason = ""
        except asyncio.CancelledError:
            reason = "stop"
            raise
        finally:
            if reason:
                await frames.end(reason)
        if cut:
            taken.refusal = f"messages without L record: {cut}; what there is of them is stored as incomplete"
        return taken

    def _count(self, receipt: Receipt) -> None:
        self.counters.frames += 1
        self.counters.messages += receipt.message_id is not None
        self.counters.last_activity = self.clock.utc()

    async def _move(self, seen: Seen, taken: Taken) -> None:
        """Out of the way, now that its bytes are safe. Where that fails it is tried again, and nothing stored again."""
        try:
            await self._in_thread(lambda: _move(self._folder.path, seen, taken.refusal))
        except _Changed:  # what came meanwhile was not read: the file is taken again, whole
            self._since.pop(seen, None)
        except FileNotFoundError:
            self._say(seen.name, "it was gone before it could be moved; what it held is stored")
        except OSError as error:
            self._say(seen.name, f"it cannot be moved, and what it held is stored: {_reason(error)}")
            return
        else:
            if taken.refusal:
                log.warning("file refused", link=self.settings.id, action="link.file", folder=FAILED)
            else:
                log.info("file taken", link=self.settings.id, action="link.file", folder=DONE)
        del self._taken[seen]
        for receipt in taken.receipts:
            self.spec.intake.replied(receipt, True)

    def _say(self, name: str, sentence: str) -> None:
        """Once for each file, however often it is found so."""
        if self._said.get(name) != sentence:
            self._said[name] = sentence
            log.warning("file not taken", link=self.settings.id, action="link.file", reason=sentence,
                        file=telemetry.fingerprint(name))  # fmt: skip

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        """A file server that hangs is waited for as long as it does: nothing else would help. The link is down then. It
        has a thread of its own, so that it costs this link alone, and the end of the program does not wait for it."""
        future: Future[_T] = Future()
        Thread(target=_run, args=(future, work), name=f"folder {self.settings.id}", daemon=True).start()
        working = asyncio.wrap_future(future)
        try:
            with suppress(TimeoutError):
                async with self.clock.timeout_at(self.clock.now() + HANGS_S):
                    await asyncio.wait([working])
            if not working.done():
                self.went_down(f"{self._folder.path} does not answer")
            return await working
        finally:
            working.cancel()


def _run(future: Future[_T], work: Callable[[], _T]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except Exception as error:  # told to who waits, if anybody still does
            future.set_exception(error)


def _scan(folder: Folder) -> tuple[list[Seen], list[tuple[str, str]]]:
    """The files to be taken, the oldest first, and what is to be said of others. Raises OSError."""
    for name in (DONE, FAILED):
        target = folder.path / name
        target.mkdir(exist_ok=True)
        if target.is_symlink():  # it would move files out of the folder
            raise NotADirectoryError(20, f"{name} is a link")
    return fitting(folder)


def fitting(folder: Folder) -> tuple[list[Seen], list[tuple[str, str]]]:
    """The files whose names fit, the oldest first, and what is to be said of others that fit. Raises OSError."""
    files: list[Seen] = []
    others: list[tuple[str, str]] = []
    with os.scandir(folder.path) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not fnmatchcase(entry.name, folder.pattern):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                files.append(Seen.of(entry.name, status))
            elif not stat.S_ISDIR(status.st_mode) and len(others) < MOST_FILES:
                others.append((entry.name, "it is a link" if stat.S_ISLNK(status.st_mode) else "it is no file"))
    return nsmallest(MOST_FILES, files, key=lambda seen: (seen.changed_ns, seen.name)), others


def _read(path: Path, seen: Seen) -> bytes:
    """All of a file that is still what was seen. Raises OSError and _Changed."""
    descriptor = os.open(path / seen.name, _OPEN)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or Seen.of(seen.name, os.fstat(descriptor)) != seen:
            raise _Changed
        data = file.read(seen.size + 1)
        if len(data) != seen.size or Seen.of(seen.name, os.fstat(descriptor)) != seen:
            raise _Changed
    return data


def _move(path: Path, seen: Seen, refusal: str) -> None:
    """To done/ or, with the reason beside it, to failed/. Nothing there is overwritten. Raises OSError, and _Changed
    where it is not the file that was read any more."""
    name = seen.name
    if Seen.of(name, os.lstat(path / name)) != seen:
        raise _Changed
    target = _free_name(path / (FAILED if refusal else DONE), name)
    reason = target.with_name(target.name + ".reason")
    if refusal:
        reason.write_text(refusal + "\n", encoding="utf-8")
    os.rename(path / name, target)
    now = os.lstat(target)  # it may have another inode there: not every file server keeps them
    if (now.st_size, now.st_mtime_ns) != (seen.size, seen.changed_ns):  # in that very moment
        os.rename(target, _free_name(path, name))
        reason.unlink(missing_ok=True)
        raise _Changed


def _free_name(folder: Path, name: str) -> Path:
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    for number in range(_MOST_NAMES):
        path = folder / (f"{stem}.{number}{dot}{suffix}" if number else name)
        if not os.path.lexists(path):
            return path
    return folder / f"{stem}.{uuid4().hex}{dot}{suffix}"


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
