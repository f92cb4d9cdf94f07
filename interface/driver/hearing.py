"""What a host's answer tells an analyzer to do: the inverse of `dialogue`, for those who play the analyzer. Pure.

The dialect's lines are read as patterns: what stands at `{specimen_id}`, `{tests}` and `{code}` is what was ordered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from interface.driver import law_analyzer
from interface.driver.defaults import DEFAULT_ANSWERS
from interface.driver.dialogue import Answer, Each, Line, Over
from interface.driver.leaves import Marks, unescaped
from interface.driver.manifest import Driver
from interface.errors import RecordError, SegmentError
from interface.wire import hl7, lis02

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)(?:\+[0-9]{1,3})?(?::[<>][0-9]{1,3})?\}")
_WORK = ("tests", "code")


def ordered(driver: Driver, texts: Sequence[bytes], specimen_id: str) -> tuple[str, ...]:
    """The codes that the answer's messages order for a specimen, by the driver's dialect; none where it does not fit.

    An answer that names no specimen, as some dialects have it, is about the one that was asked for.
    """
    if driver.law is not None:
        heard = (order for text in texts for order in law_analyzer.hear(text) if order.specimen_id == specimen_id)
        return tuple(dict.fromkeys(step.code for order in heard for step in order.steps if step.control == "NW"))
    dialect = driver.answer or DEFAULT_ANSWERS.get(driver.protocol)
    if dialect is None:
        return ()
    codes: list[str] = []
    for text in texts:
        words = text.decode(driver.encoding or "utf-8", "replace")
        lines = [line for line in re.split(r"[\r\n]+", words) if line]
        if any(_is(message, lines) for message in dialect.none):
            continue
        for message in dialect.found:
            codes += _read(dialect, message, lines, specimen_id)
    return tuple(dict.fromkeys(codes))


def _read(dialect: Answer, message: tuple[Line, ...], lines: Sequence[str], specimen_id: str) -> Iterator[str]:
    marks = _marks(lines[0]) if lines else None
    if marks is None:
        return
    repeat, component = marks.repeat, marks.component
    patterns = [_pattern(line, marks.field) for line in _flat(message)]
    one_test = _pattern(dialect.test, "")
    about = specimen_id
    for line in lines:
        match = next((found for one in patterns if (found := one.fullmatch(line))), None)
        if match is None:
            continue
        said = match.groupdict()
        about = (said.get("specimen_id") or about).strip()
        if about != specimen_id:
            continue
        if code := (said.get("code") or "").strip():
            yield unescaped(code, marks)
        for part in (said.get("tests") or "").split(dialect.join or repeat):
            inner = one_test.fullmatch(part) or one_test.fullmatch(part.rstrip(component))
            if inner is not None and (code := (inner.groupdict().get("code") or "").strip()):
                yield unescaped(code, marks)


def _is(message: tuple[Line, ...], lines: Sequence[str]) -> bool:
    """Whether these are the lines of this message, one for one."""
    marks, written = _marks(lines[0]) if lines else None, list(_every(message))
    return (
        marks is not None
        and len(written) == len(lines)
        and all(_pattern(one, marks.field).fullmatch(line) for one, line in zip(written, lines, strict=True))
    )


def _every(message: Sequence[Line]) -> Iterator[str]:
    for line in message:
        if isinstance(line, Each):
            yield from _every(line.lines)
        else:
            yield line


def _marks(head: str) -> Marks | None:
    """The delimiters of a message by its first line."""
    try:
        return hl7.parse(head + "\r").delimiters if head[:3] == "MSH" else lis02.parse(head + "\r").delimiters
    except (RecordError, SegmentError):
        return None


def _flat(message: Sequence[Line]) -> Iterator[str]:
    """The lines that say what is to be done, or of which specimen."""
    for line in message:
        if isinstance(line, Each):
            if line.over is not Over.MISSING:
                yield from _flat(line.lines)
        elif any(match[1] in (*_WORK, "specimen_id") for match in _PLACE.finditer(line)):
            yield line


def _pattern(line: str, field: str) -> re.Pattern[str]:
    """A line of a dialect as a pattern."""
    other = f"[^{re.escape(field)}]*?" if field else ".*?"
    made, at, named = "", 0, set[str]()
    for match in _PLACE.finditer(line):
        made += re.escape(line[at : match.start()])
        name = match[1]
        if name in (*_WORK, "specimen_id") and name not in named:
            named.add(name)
            made += rf" *(?P<{name}>{other}) *"
        else:
            made += other
        at = match.end()
    return re.compile(made + re.escape(line[at:]), re.DOTALL)
