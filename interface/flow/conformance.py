"""Does an HL7 message conform to the structures of its version? Asked of hl7apy, in a process of its own.

hl7apy costs some 90 ms and megabytes a message (measured), so it never runs on the event loop nor on the way of a
result; this is for `labora message validate` and for people who write drivers.
"""

from __future__ import annotations

import asyncio
import sys

import orjson

from interface.errors import LaboraError

WAIT_S = 60.0
_MAX_FINDINGS = 200


class ConformanceError(LaboraError):
    """The check itself could not be done; it says nothing about the message."""

    slug = "conformance"


async def validate(block: bytes) -> list[str]:
    """What the message does wrong by its own version's structures; [] when nothing was found.

    Raises ConformanceError when the check could not be done within WAIT_S.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "interface.flow.conformance",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(block), WAIT_S)
    except TimeoutError as error:
        raise ConformanceError("the conformance check took too long") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise ConformanceError("the conformance check ended without an answer")
    findings = orjson.loads(out)
    return [str(finding) for finding in findings]


def findings(block: bytes) -> list[str]:
    """The check itself; runs in the worker process. The words are hl7apy's: they name fields, not their contents."""
    # Imported here: only the worker process may pay for it.
    from hl7apy.exceptions import HL7apyException
    from hl7apy.parser import parse_message

    from interface.errors import LocatedError
    from interface.wire.hl7 import check_syntax

    try:
        message = check_syntax(block)
    except LocatedError as error:
        return [str(error)]
    text = "\r".join(segment.text for segment in message.segments) + "\r"
    found: list[str] = []
    try:
        parsed = parse_message(text, find_groups=True)
        errors, warnings = _report(parsed)
        found = errors + warnings
    except HL7apyException as error:
        found = [f"{type(error).__name__}: {error}"]
    return found[:_MAX_FINDINGS]


def _report(parsed: object) -> tuple[list[str], list[str]]:
    """hl7apy writes its findings to a file, one `Error: …` or `Warning: …` a line."""
    import tempfile
    from pathlib import Path

    from hl7apy.exceptions import ValidationError
    from hl7apy.validation import Validator

    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        try:
            Validator.validate(parsed, report_file=str(report))
        except ValidationError as error:
            return [str(error)], []
        lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error")]
    return errors, [line for line in lines if line.startswith("Warning")]


def _main() -> None:
    sys.stdout.buffer.write(orjson.dumps(findings(sys.stdin.buffer.read())))


if __name__ == "__main__":
    _main()
