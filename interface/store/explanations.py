"""An explanation as `decision.steps` holds it: a JSON array of objects, the fields of `Step` that are not empty."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from interface.domain.model import Step


def write_steps(steps: Iterable[Step]) -> str:
    """The column's text. There are many of them: what is empty is not written."""
    text = orjson.dumps([_written(step) for step in steps])
    if b"\\u0000" in text:  # PostgreSQL's JSON functions refuse a NUL; the bytes themselves are in the frame
        text = text.replace(b"\\u0000", "\N{REPLACEMENT CHARACTER}".encode())
    return text.decode()


def _written(step: Step) -> dict[str, Any]:
    written: dict[str, Any] = {"step": step.step, "verdict": step.verdict, "text": step.text}
    if step.version:
        written["version"] = step.version
    if step.inputs:
        written["inputs"] = step.inputs
    return written


def read_steps(text: str | bytes) -> tuple[Step, ...]:
    """The other way round."""
    return steps_of(orjson.loads(text))


def steps_of(read: Iterable[dict[str, Any]]) -> tuple[Step, ...]:
    """The same from the column's value, as a connection of ours gives it."""
    return tuple(Step(**one) for one in read)
