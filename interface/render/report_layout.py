"""Where everything stands on the pages of an order's report. Pure: the same content is the same pages.

Nothing that a person reads as a result is cut: what is too long for its column goes on below it, over pages too. What
matters is told without colour: by words, bold letters and marks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo
from itertools import groupby, pairwise
from zoneinfo import ZoneInfo

from interface.domain.flags import CRITICAL, NORMAL
from interface.domain.model import RELEASED, ItemStatus, ResultStatus
from interface.domain.report import Former, Language, Line, OrderReport, Paper, Tube
from interface.domain.times import local
from interface.render import report_words as said
from interface.render import typeface
from interface.render.drawing import Drawing, box
from interface.render.legible import legible
from interface.render.report_page import (
    GREY,
    INK,
    LEADING,
    MARGIN,
    Column,
    Pages,
    columns,
    fitted,
    height_of,
    lines,
    spark,
)

_SMALL, _TEXT, _HEAD, _TITLE = 7.5, 9.0, 10.5, 15.0
_RESULT = (25, 17, 7, 12, 17, 18, 9)  # test, result, flag, unit, interval, previous, trend
_MOST_LINES = 3  # of a result in its column; a longer text goes below
_INDENT = 10.0


def pages(report: OrderReport, paper: Paper, language: Language) -> list[Drawing]:
    """The report's pages, from the top of the first to the bottom of the last."""
    return _Layout(report, paper, language).drawn()


def value_of(value: str, unit: str) -> str:
    return f"{value} {unit}" if unit and unit != "1" else value


class _Layout:
    def __init__(self, report: OrderReport, paper: Paper, language: Language) -> None:
        self.report, self.language = report, language
        self.zone: tzinfo = ZoneInfo(report.header.zone)
        self.text = said.WORDS[language]
        self.on = Pages(paper, self._page_head)
        self.columns = columns(self.on.left, self.on.wide, _RESULT, right=())

    def drawn(self) -> list[Drawing]:
        self._letterhead()
        self._banner()
        self._person()
        self._specimens()
        self._results()
        self._open()
        self._released()
        self._feet()
        return self.on.drawings(f"{self.text['title']} {legible(self.report.number)}")

    def moment(self, at: datetime) -> str:
        return said.moment(at, self.zone, self.language)

    # ---- above ------------------------------------------------------------------------------------------------------

    def _letterhead(self) -> None:
        on, header = self.on, self.report.header
        half = on.wide * 0.56
        left = [(line, _TITLE, True) for line in lines(legible(header.laboratory), _TITLE, half)]
        for text in (header.address, header.phone):
            left += [(line, 8.5, False) for line in lines(legible(text), 8.5, half) if line]
        right = []
        if header.director:
            right += lines(f"{self.text['director']}: {legible(header.director)}", 8, on.wide - half - 16)
        right += [line for line in lines(legible(header.accreditation), 8, on.wide - half - 16) if line]
        y = on.y
        for line, size, bold in left:
            on.words(line, on.left, y, size, bold=bold)
            y += size * LEADING
        beside = on.y + 3
        for line in right:
            on.words(line, on.right, beside, 8, right=True, colour=GREY)
            beside += 8 * LEADING
        on.y = max(y, beside) + 4
        on.rule(on.y, INK, 1.0)
        on.y += 6

    def _page_head(self, on: Pages) -> None:
        """On every page but the first: whose report it is. A page may go astray."""
        on.words(typeface.cut(legible(self.report.header.laboratory), 8.5, on.wide * 0.36), on.left, on.y, 8.5)
        on.words(self._whose(on.wide * 0.62), on.right, on.y, 8.5, bold=True, right=True)
        on.y += 8.5 * LEADING + 2
        on.rule(on.y, INK, 0.8)
        on.y += 6

    def _whose(self, room: float) -> str:
        """Of a long name less, of number and date of birth all that there is room for."""
        person = self.report.person
        name = legible(_name(person.family, person.given)) if person is not None else self.text["unknown"]
        first = person.numbers[0].value if person is not None and person.numbers else ""
        born = said.day(person.birth_date, self.language) if person is not None and person.birth_date else ""
        rest = "".join(f", {text}" for text in (legible(first), born) if text)
        return typeface.cut(typeface.cut(name, 8.5, room - typeface.width(rest, 8.5)) + rest, 8.5, room)

    def _banner(self) -> None:
        on, report = self.on, self.report
        status = self.text[f"status.{report.status}"]
        wide = typeface.width(status, _HEAD) + 16
        on.words(self.text["title"], on.left, on.y + 2, _HEAD, bold=True)
        on.add(box(on.right - wide, on.y, wide, _HEAD + 8, colour=INK, width=1.2))
        on.words(status, on.right - 8, on.y + 2, _HEAD, bold=True, right=True)
        on.y += _HEAD + 14
        if any(line.withdrawn or line.before for line in report.lines):
            changed = any(line.withdrawn or not all(_only_added(line)) for line in report.lines)
            on.paragraph(self.text["marked" if changed else "added"], _TEXT, bold=True)
        if report.status in ("partial", "preliminary", "registered"):
            on.paragraph(self.text["part"], _TEXT, bold=True)
        if report.issued_at is not None:
            issued = self.moment(report.issued_at)
            words = self.text["issued"].format(report.version, issued)
            if report.replaces_at is not None:
                before = self.moment(report.replaces_at)
                words = self.text["replaces"].format(report.version, issued, report.replaces, before)
            on.paragraph(words, 8, colour=GREY, after=4)

    def _person(self) -> None:
        on, report, person = self.on, self.report, self.report.person
        unknown = self.text["unknown"]
        left = [(self.text["patient"], _name(person.family, person.given) if person else unknown)]
        for number in person.numbers if person is not None else ():
            left.append((self.text["number"], f"{number.value} ({number.authority})" if number.authority
                         else number.value))  # fmt: skip
        if person is not None:
            born = said.day(person.birth_date, self.language) if person.birth_date else unknown
            left += [(self.text["born"], born), (self.text["sex"], said.SEXES[self.language][person.sex])]
        right = [
            (self.text["order"], report.number), (self.text["placer"], report.placer_number),
            (self.text["requester"], report.requester), (self.text["ward"], report.ward),
            (self.text["ordered"], self.moment(report.ordered_at)),
            (self.text["priority"], said.PRIORITIES[self.language][report.priority]),
        ]  # fmt: skip
        half = on.wide / 2
        began = on.y
        ends = []
        for place, rows in enumerate((left, right)):
            y = began
            for label, text in rows:
                if not text:
                    continue
                x = on.left + place * half
                on.words(typeface.cut(label, 8, 80), x, y + 1, 8, colour=GREY)
                for line in lines(legible(text), _TEXT, half - 92):
                    on.words(line, x + 84, y, _TEXT, bold=label == self.text["patient"])
                    y += _TEXT * LEADING
            ends.append(y)
        on.y = max(ends) + 2
        if report.history.strip():
            first, *more = _by_line(report.history)
            for text in (f"{self.text['history']}: {first}", *more):
                on.paragraph(text, 8.5)
        on.rule(on.y)
        on.y += 5

    def _specimens(self) -> None:
        on, tubes = self.on, self.report.tubes
        if not tubes:
            return
        names = ("specimen", "type", "collected", "received", "condition")
        parts = columns(on.left, on.wide, (20, 22, 18, 18, 22))
        self._head([self.text[name] for name in names], parts)
        for number, tube in enumerate(tubes, 1):
            of = f"{number}: {tube.barcode}" if len(tubes) > 1 else tube.barcode
            kind = tube.type if tube.time_point_min is None else f"{tube.type}, {self._minutes(tube.time_point_min)}"
            texts = (
                of, kind or self.text["unknown"], self._when(tube.collected_at), self._when(tube.received_at),
                self._condition(tube),
            )  # fmt: skip
            cells = [fitted(legible(text), column, 8.5) for text, column in zip(texts, parts, strict=True)]
            on.need(height_of(cells, 8.5) + 3)
            on.cells(cells, parts, 8.5, bold=(4,) if tube.rejected else ())
        on.again = None
        on.y += 4

    def _minutes(self, minutes: int) -> str:
        return self.text["minutes"].format(minutes)

    def _when(self, at: datetime | None) -> str:
        return self.moment(at) if at is not None else self.text["unknown"]

    def _condition(self, tube: Tube) -> str:
        if tube.rejected:
            return self.text["unfit"].format(tube.rejected)
        return self.text["fit"] if tube.received_at is not None else ""

    def _head(self, names: Sequence[str], parts: Sequence[Column]) -> None:
        """A table's head, and again on each page that it goes on to."""

        def draw() -> None:
            cells = [fitted(name, column, _SMALL) for name, column in zip(names, parts, strict=True)]
            height = height_of(cells, _SMALL) + 4
            self.on.shade(self.on.y, height)
            self.on.y += 2
            self.on.cells(cells, parts, _SMALL, colour=GREY, below=4)

        self.on.need(60)
        draw()
        self.on.again = draw

    # ---- results ----------------------------------------------------------------------------------------------------

    def _results(self) -> None:
        report, on = self.report, self.on
        places = {tube.barcode: number for number, tube in enumerate(report.tubes, 1)}

        def group(line: Line) -> tuple[str, int]:
            return line.department.casefold(), places.get(line.specimen, 0)

        for _, found in groupby(sorted(report.lines, key=group), group):
            those = list(found)
            on.again = None
            on.need(80)
            on.paragraph(self._heading(those[0], places), _HEAD, bold=True, after=3)
            self._head([self.text[name] for name in
                        ("test", "result", "flag", "unit", "interval", "previous", "trend")], self.columns)  # fmt: skip
            for line in those:
                self._line(line)
            on.again = None
            on.y += 6

    def _heading(self, line: Line, places: dict[str, int]) -> str:
        name = legible(line.department) or self.text["results"]
        if len(places) < 2 or line.specimen not in places:
            return name
        return self.text["of"].format(name, f"{places[line.specimen]} ({legible(line.specimen)})")

    def _line(self, line: Line) -> None:
        on, parts = self.on, self.columns
        flags = [flag for flag in line.flags if flag != NORMAL]
        striking = bool(flags) or line.withdrawn
        said = [self.text["withdrawn"]] if line.withdrawn else _by_line(line.value)
        value = [one for part in said for one in lines(part, _TEXT, parts[1].width - 5)]
        below = said if len(value) > _MOST_LINES else []
        cells = [
            fitted(legible(line.name), parts[0], _TEXT),
            fitted(self.text["below"], parts[1], _TEXT) if below else value,
            fitted(" ".join(map(legible, flags)), parts[2], _TEXT),
            fitted(legible(line.unit), parts[3], 8.5),
            fitted("" if line.withdrawn else self.interval(line), parts[4], 8.5),
            self._previous(line),
            [],
        ]
        notes = list(self._notes(line))
        height = height_of(cells, _TEXT) + 3
        on.need(height + (_TEXT * LEADING if notes or below else 0))
        if CRITICAL.intersection(flags):  # grey as a ground, so that a copy in grey shows it too
            on.add(box(parts[1].left - 2, on.y - 0.5, parts[1].width + parts[2].width - 2, height - 1, colour=INK))
        began = on.cells(cells, parts, _TEXT, bold=(1, 2) if striking else ())
        self._trend(line, began)
        for part in below:
            on.paragraph(part, _TEXT, left=_INDENT, bold=striking)
        for note, bold in notes:
            on.paragraph(note, 8, left=_INDENT, bold=bold, after=1)
        on.rule(on.y, width=0.3)
        on.y += 2.5

    def interval(self, of: Line | Former) -> str:
        if of.reference.strip() or not isinstance(of, Line):
            return legible(of.reference)
        if of.low is not None and of.high is not None:
            return f"{of.low} {typeface.DASH} {of.high}"
        if of.low is not None:
            return self.text["at_least"].format(of.low)
        return self.text["at_most"].format(of.high) if of.high is not None else ""

    def _previous(self, line: Line) -> list[str]:
        if not line.earlier or line.withdrawn:
            return []
        newest = line.earlier[0]
        shown = local(newest.at, self.zone)
        found = fitted(f"{_in_one(newest.value)} ({said.day(shown, self.language)})", self.columns[5], 8)
        return found if len(found) <= _MOST_LINES else []

    def _trend(self, line: Line, y: float) -> None:
        """What went before, and this. A value with a comparator has no place."""
        numbers = [one.number for one in reversed(line.earlier) if one.number is not None]
        if line.number is None or line.value[:1] in "<>" or not numbers or line.withdrawn:
            return
        low, high = (float(limit) if limit is not None else None for limit in (line.low, line.high))
        column = self.columns[6]
        values = [float(number) for number in (*numbers, line.number)]  # where it is drawn; as text it is exact
        self.on.add(*spark(values, low, high, column.left + 4, y + 1.5, column.width - 10, 10))

    def _notes(self, line: Line) -> Iterator[tuple[str, bool]]:
        """What stands below a result, and whether it must be seen."""
        if line.status is ResultStatus.PRELIMINARY:
            yield self.text["preliminary"], True
        changed = self.moment(line.made_at) if line.made_at is not None else ""
        ends = [*(self.moment(one.released_at) for one in line.before[1:]), changed]
        for at, (former, same) in enumerate(zip(line.before, _only_added(line), strict=True)):
            last = at + 1 == len(line.before)
            key = "withdrawn_was" if line.withdrawn and last else "as_before" if same else "was"
            yield self.text[key].format(ends[at], self._former(former), self.moment(former.released_at)), True
        if line.withdrawn and not line.before:
            yield self.text["withdrawn_none"].format(changed), True
        for part in (part for comment in line.comments for part in _by_line(comment)):
            yield part, False

    def _former(self, former: Former) -> str:
        flags = " ".join(flag for flag in former.flags if flag != NORMAL)
        value = value_of(_in_one(former.value), legible(former.unit))
        interval = self.text["its_interval"].format(legible(former.reference)) if former.reference.strip() else ""
        return " ".join(filter(None, (value, flags, interval)))

    # ---- below ------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        ended = (ItemStatus.CANCELLED, ItemStatus.REJECTED)
        waiting = [legible(one.name) for one in self.report.open if one.status not in ended]
        if waiting:
            self.on.paragraph(f"{self.text['waiting']}: {', '.join(waiting)}", _TEXT, bold=True)
        for one in self.report.open:
            if one.status in ended:
                why = f" ({legible(one.reason)})" if one.reason.strip() else ""
                words = f"{self.text['never']}: {legible(one.name)}, {self.text[one.status.value]}{why}"
                self.on.paragraph(words, _TEXT, bold=one.status is ItemStatus.REJECTED)

    def _released(self) -> None:
        """Who or what released each result, and when (ISO 15189 7.4.1: automatic release is to be seen)."""
        found: dict[str, list[str]] = {}
        for line in self.report.lines:
            if line.made_at is not None and line.status in RELEASED:
                found.setdefault(f"{self._by(line)}, {self.moment(line.made_at)}", []).append(legible(line.name))
        self.on.y += 2
        for place, (who, tests) in enumerate(found.items()):
            if not place:
                self.on.need(40)
                self.on.paragraph(self.text["released"], 8.5, bold=True, after=0)
            self.on.paragraph(f"{who}: {', '.join(tests)}", 8, after=1)
        used = {flag for line in self.report.lines for flag in line.flags if f"flag.{flag}" in self.text}
        order = [name.removeprefix("flag.") for name in self.text if name.startswith("flag.")]
        if used:
            words = "; ".join(f"{flag} {self.text[f'flag.{flag}']}" for flag in order if flag in used)
            self.on.paragraph(f"{self.text['legend']}: {words}", 8, colour=GREY, after=2)
        self.on.paragraph(f"{typeface.DASH} {self.text['end']} {typeface.DASH}", 8, colour=GREY)

    def _by(self, line: Line) -> str:
        name = legible(line.released_by) or self.text["nobody"]
        if line.by_rules:
            return self.text["by_rules"].format(name)
        return self.text["checked"].format(name, legible(line.verified_by)) if line.verified_by else name

    def _feet(self) -> None:
        on, report = self.on, self.report
        issued = self.moment(report.issued_at) if report.issued_at is not None else ""
        left = self.text["footer"].format(legible(report.number), report.version, issued, report.header.zone)
        y = on.height - MARGIN - 12
        for number in range(len(on.done)):
            page = on.done[number]
            on.done.append(page)  # what is added goes on the last
            on.rule(y - 4, INK, 0.5)
            on.words(typeface.cut(left, 8, on.wide * 0.78), on.left, y, 8, colour=GREY)
            on.words(self.text["page"].format(number + 1, len(on.done) - 1), on.right, y, 8, right=True)
            on.done.pop()


def _only_added(line: Line) -> list[bool]:
    """Of each version before, whether the next one says the same, and only a comment came with it."""
    versions: list[Line | Former] = [*line.before, line]
    said = [(one.value, one.unit, one.flags, one.reference) for one in versions]
    return [one == after for one, after in pairwise(said)]


def _by_line(text: str) -> list[str]:
    """Each line by itself, as whoever wrote it did: of `Ampicillin R` above `Gentamicin S` one line says neither."""
    return [said for part in text.splitlines() if (said := legible(part))] or [legible(text)]


def _in_one(text: str) -> str:
    return " / ".join(_by_line(text))


def _name(family: str, given: str) -> str:
    """The family name first, as it is filed."""
    return ", ".join(filter(None, (legible(family), legible(given))))
