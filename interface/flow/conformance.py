"""Do HL7 messages conform to the structures of their version? Asked of hl7apy, in a process of its own.

hl7apy costs some 90 ms and megabytes a message (measured), so it never runs on the event loop nor on the way of a
result; this is for `labora message validate` and for people who write drivers.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from interface.errors import LaboraError

if TYPE_CHECKING:
    from interface.wire.hl7 import Message

WAIT_S = 60.0
WAIT_EACH_S = 2.0  # more for each message
_MOST_FINDINGS = 200


class ConformanceError(LaboraError):
    """The check itself could not be done; it says nothing about the message."""

    slug = "conformance"


@dataclass(frozen=True, slots=True)
class Checked:
    """One message. `findings`: what it does wrong, or why that cannot be told. `notes`: what was not looked at."""

    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def validate(blocks: Sequence[bytes]) -> list[Checked]:
    """Check each message by the structures of its own version, all in one process.

    Raises ConformanceError when the check could not be done within WAIT_S and WAIT_EACH_S for each message.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "interface.flow.conformance",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    asked = orjson.dumps([block.decode("latin-1") for block in blocks])  # any byte has a character there
    try:
        out, _ = await asyncio.wait_for(process.communicate(asked), WAIT_S + WAIT_EACH_S * len(blocks))
    except TimeoutError as error:
        raise ConformanceError("the conformance check took too long") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise ConformanceError("the conformance check ended without an answer")
    return [Checked(tuple(one["findings"]), tuple(one["notes"])) for one in orjson.loads(out)]


def check(block: bytes) -> Checked:
    """The check itself; runs in the worker process. The words are hl7apy's: they name fields, not their contents."""
    # Imported here: only the worker process may pay for it.
    from hl7apy import SUPPORTED_LIBRARIES
    from hl7apy.exceptions import HL7apyException

    from interface.errors import LocatedError
    from interface.wire.hl7 import check_syntax

    try:
        message = check_syntax(block)
    except LocatedError as error:
        return Checked((str(error),))
    known = sorted(SUPPORTED_LIBRARIES)
    if message.version not in known:
        said = f"the version {message.version} is not one of" if message.version else "no version is said; known are"
        return Checked((f"MSH^1^12: {said} {', '.join(known)}: the structure is not checked",))
    notes = tuple(
        f"{message.location(segment)}: a Z segment, which no structure has: it is not checked"
        for segment in message.segments
        if segment.id.startswith("Z")
    )[:_MOST_FINDINGS]
    missing = _no_structure(message)
    if missing:
        return Checked((missing,), notes)
    try:
        return Checked(tuple(_report(message)[:_MOST_FINDINGS]), notes)
    except HL7apyException as error:
        return Checked((f"{type(error).__name__}: {error}",), notes)
    except Exception as error:  # a fault of hl7apy's at this message must not cost the others their check
        return Checked((f"the check broke off with {type(error).__name__}: the structure is not checked",), notes)


def _no_structure(message: Message) -> str:
    """Why hl7apy has no structure for the message; "" when it has one. Without one it would say that all is well."""
    from hl7apy import load_reference
    from hl7apy.exceptions import HL7apyException

    name = _structure(message)
    try:
        load_reference(name, "Message", message.version)
    except (HL7apyException, KeyError):
        return f"MSH^1^9: {name} is no structure of version {message.version}: the structure is not checked"
    return ""


def _structure(message: Message) -> str:
    """MSH-9.3, or where that is not sent the type and its event, which most structures are named by."""
    code, event, name = (message.header.value(9, at) for at in (1, 2, 3))
    if code == "ACK":
        return code
    return name or "_".join(part for part in (code, event) if part)


def _report(message: Message) -> list[str]:
    """hl7apy writes its findings to a file, one `Error: …` or `Warning: …` a line."""
    import tempfile
    from pathlib import Path

    from hl7apy.core import Message as Tree
    from hl7apy.exceptions import ValidationError
    from hl7apy.parser import get_message_info, parse_segments
    from hl7apy.validation import Validator

    text = "\r".join(segment.text for segment in message.segments if not segment.id.startswith("Z")) + "\r"
    marks, _, _ = get_message_info(text)
    parsed: Any = Tree(name=_structure(message), version=message.version, encoding_chars=marks)
    parsed.children = parse_segments(text, parsed.version, marks, None, parsed.reference, find_groups=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        try:
            Validator.validate(parsed, report_file=str(report))
        except ValidationError as error:
            return [str(error)]
        lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error")]
    return errors + [line for line in lines if line.startswith("Warning")]


def _main() -> None:
    checked = [check(block.encode("latin-1")) for block in orjson.loads(sys.stdin.buffer.read())]
    sys.stdout.buffer.write(orjson.dumps(checked))


if __name__ == "__main__":
    _main()
