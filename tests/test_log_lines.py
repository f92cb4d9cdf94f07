"""Lines of the log are written at once, or what is said in one turn of the event loop together; none is lost."""

from __future__ import annotations

import asyncio
import io

import pytest

from interface.log_lines import Lines


class Writes(io.RawIOBase):
    """Each write by itself."""

    def __init__(self) -> None:
        self.each: list[bytes] = []

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.each.append(bytes(data))
        return len(data)


async def test_what_is_said_in_one_turn_of_the_loop_is_one_write() -> None:
    writes = Writes()
    lines = Lines(writes)  # type: ignore[arg-type]

    async def work() -> str:
        lines.info(b"one")
        lines.debug(b"two")
        assert not writes.each
        await asyncio.sleep(0)
        assert writes.each == [b"one\ntwo\n"]
        lines.info(b"three")
        return "done"

    assert await lines.gathering(work()) == "done"
    assert writes.each == [b"one\ntwo\n", b"three\n"], "what was said last is not lost"
    lines.info(b"four")
    assert writes.each[2:] == [b"four\n"], "and then nothing waits any more"


async def test_a_warning_waits_for_nothing_and_comes_after_what_was_said_before_it() -> None:
    writes = Writes()
    lines = Lines(writes)  # type: ignore[arg-type]

    async def work() -> None:
        lines.info(b"one")
        lines.warning(b"two")
        assert b"".join(writes.each) == b"one\ntwo\n"
        await asyncio.to_thread(lines.info, b"of another thread")
        assert writes.each[-1] == b"of another thread\n"

    await lines.gathering(work())
    assert b"".join(writes.each) == b"one\ntwo\nof another thread\n"


async def test_what_was_said_is_written_whatever_ends_the_work() -> None:
    writes = Writes()
    lines = Lines(writes)  # type: ignore[arg-type]

    async def work() -> None:
        lines.info(b"one")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await lines.gathering(work())
    assert writes.each == [b"one\n"]
