"""What happened, on a chart: numbered tags in a lane above the panels, and below them what each number means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import tzinfo

from interface.domain.qc import Chart, ChartMark, PointKind
from interface.domain.record import record
from interface.render import typeface
from interface.render.chart_time import Axis, moment
from interface.render.drawing import Anchor, Disc, Item, Stroke, Words, box

_WORDS = {
    PointKind.TARGET: "target", PointKind.LOT: "lot", PointKind.REAGENT: "reagent", PointKind.ACTION: "action",
    PointKind.COMMENT: "comment",
}  # fmt: skip
CHANGES = frozenset({PointKind.TARGET, PointKind.LOT, PointKind.REAGENT})  # what results before and after may differ by
LANE, _ROW, _TAG, _SIZE = 20.0, 14.5, 9.0, 11.0
_MOST_ROWS, _LINES = 30, 2


@record
class Numbered:
    """A mark with its number on the chart."""

    number: int
    mark: ChartMark


@record
class _Tag:
    """One mark, or several that are too near each other for a tag each."""

    first: int
    last: int
    x: float  # of its middle
    kinds: frozenset[PointKind]

    @property
    def text(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}{typeface.DASH}{self.last}"

    @property
    def half(self) -> float:
        return max(typeface.width(self.text, _TAG) / 2 + 4, 7)


def numbered(chart: Chart) -> list[Numbered]:
    """The marks within the chart's time, and what was written of points, in the order of time."""
    notes = [ChartMark(point.at, PointKind.COMMENT, point.note, point.level) for point in chart.points if point.note]
    within = [mark for mark in (*chart.marks, *notes) if chart.begin <= mark.at <= chart.end]
    ordered = sorted(within, key=lambda mark: mark.at)
    return [Numbered(number, mark) for number, mark in enumerate(ordered, 1)]


def verticals(marks: Sequence[Numbered], axis: Axis, level: str | None) -> list[float]:
    """Where lines of changes go through the panel of this level (None: of all levels)."""
    return [
        axis.x(one.mark.at)
        for one in marks
        if one.mark.kind in CHANGES and (level is None or one.mark.level in ("", level))
    ]


def lane(marks: Sequence[Numbered], axis: Axis, top: float, below: float) -> Iterator[Item]:
    """The tags; `below`: where the first panel begins. Changes are square, what people did and said is round."""
    for one in marks:
        if one.mark.kind not in CHANGES:
            x = axis.x(one.mark.at)
            yield Stroke(((x, below - 4), (x, below)), "#333333", 1)
    y = top + LANE / 2 - 2
    for tag in _tags(marks, axis):
        if tag.kinds <= CHANGES:
            yield box(tag.x - tag.half, y - 7, 2 * tag.half, 14, fill="#FFFFFF", colour="#333333")
        elif tag.first == tag.last:
            yield Disc(tag.x, y, 7.5, "#FFFFFF", "#333333")
        else:
            yield _pill(tag.x, y, tag.half)
        yield Words(tag.x, y + _TAG * 0.36, tag.text, _TAG, "#000000", Anchor.MIDDLE)


def _pill(x: float, y: float, half: float) -> Stroke:
    left, right = x - half, x + half
    corners = ((left + 4, y - 7), (right - 4, y - 7), (right, y), (right - 4, y + 7), (left + 4, y + 7), (left, y))
    return Stroke((*corners, corners[0]), "#333333", 1, (), "#FFFFFF")


def _tags(marks: Sequence[Numbered], axis: Axis) -> list[_Tag]:
    """Tags within the axis that do not touch; those that would are made one, until none do."""
    tags = [_Tag(one.number, one.number, axis.x(one.mark.at), frozenset({one.mark.kind})) for one in marks]
    while True:
        joined: list[_Tag] = []
        for tag in (_inside(tag, axis) for tag in tags):
            before = joined[-1] if joined else None
            if before is not None and before.x + before.half + 3 > tag.x - tag.half:
                middle = (before.x * (before.last - before.first + 1) + tag.x * (tag.last - tag.first + 1)) / (
                    tag.last - before.first + 1
                )
                joined[-1] = _inside(_Tag(before.first, tag.last, middle, before.kinds | tag.kinds), axis)
            else:
                joined.append(tag)
        if len(joined) == len(tags):
            return joined
        tags = joined


def _inside(tag: _Tag, axis: Axis) -> _Tag:
    x = min(max(tag.x, axis.left + tag.half), axis.right - tag.half)
    return _Tag(tag.first, tag.last, x, tag.kinds)


def legend(marks: Sequence[Numbered], left: float, right: float, top: float, zone: tzinfo) -> tuple[list[Item], float]:
    """What the numbers mean, a mark a row; and where it ends."""
    items: list[Item] = []
    y = top
    shown = list(marks) if len(marks) <= _MOST_ROWS else list(marks[: _MOST_ROWS - 1])
    when = max((typeface.width(moment(one.mark.at, zone), _SIZE) for one in shown), default=0)
    for one in shown:
        y += _ROW
        items.append(Words(left + 20, y, f"{one.number}", _SIZE, "#000000", Anchor.END, True))
        items.append(Words(left + 28, y, moment(one.mark.at, zone), _SIZE, "#333333"))
        what = _WORDS[one.mark.kind] + (f", {one.mark.level}" if one.mark.level else "")
        start = left + 28 + when + 10
        for number, line in enumerate(typeface.wrap(f"{what}: {one.mark.text}", _SIZE, right - start, _LINES)):
            y += _ROW if number else 0
            items.append(Words(start, y, line, _SIZE, "#000000"))
    if hidden := len(marks) - len(shown):
        y += _ROW
        items.append(Words(left + 28, y, f"and {hidden} more, in the report and the data", _SIZE, "#333333"))
    return items, y
