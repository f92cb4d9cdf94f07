"""One panel of a Levey-Jennings chart: SD bands, points, the lines between them, and what was wrong with which.

The axis is z: how many SD of its target a point lies from the mean. Colours are those of Okabe and Ito, "Color
Universal Design" (2008), https://jfly.uni-koeln.de/color/, which people see apart whatever colours they see; whatever
a colour says is also said by a shape. Texts are black or nearly so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import pairwise

from interface.domain.qc import Chart, ChartLevel, ChartPoint, QcVerdict, Target
from interface.domain.record import record
from interface.render import typeface
from interface.render.chart_labels import Label, Places, place
from interface.render.chart_time import Axis, Tick, moment
from interface.render.drawing import Anchor, Disc, Item, Point, Stroke, Words, box

ORANGE, GREEN, BLUE, VERMILLION = "#E69F00", "#009E73", "#0072B2", "#D55E00"  # Okabe and Ito
BLACK, GREY, INK, FAINT = "#000000", "#555555", "#222222", "#DDDDDD"
CLIP, _ARROW, EDGE = 4, 4.12, 4.4  # SD: from where a point is an arrow; where that is; where the panel ends
INSET = 8.0  # pixels at both ends, so that a point at midnight is whole
SIZE = 10.0
COLUMN = 2  # pixels that a point in control is as good as wide
_DENSE, _MANY = 500, 40  # points from which those in control are small; labels from which warnings have none
_BANDS = ((3, "#FFF6E3"), (2, "#F4F9FC"), (1, "#E9F3FA"))  # SD and what is within, the widest first
_RULES: tuple[tuple[int, str, float, tuple[float, ...]], ...] = (  # SD, colour, width and dash of its line
    (3, VERMILLION, 1.2, ()), (2, "#B87F00", 1, (6, 3)), (1, "#767676", 0.75, (1.5, 3)),
)  # fmt: skip
_LONG = timedelta(hours=36)  # without a point, after which a line may be broken


@record
class Style:
    """How the points of one level look. `corners`: of the shape, 0 for a disc."""

    colour: str
    corners: tuple[Point, ...] = ()
    dash: tuple[float, ...] = ()


_SQUARE = ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9), (-0.9, -0.9))
_DIAMOND = ((0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0), (0.0, -1.3))
_UP = ((0.0, -1.3), (1.2, 0.9), (-1.2, 0.9), (0.0, -1.3))
_DOWN = ((0.0, 1.3), (1.2, -0.9), (-1.2, -0.9), (0.0, 1.3))
_BAR = ((-0.5, -1.5), (0.5, -1.5), (0.5, 1.5), (-0.5, 1.5), (-0.5, -1.5))
STYLES = (
    Style(BLUE),
    Style(GREEN, _SQUARE),
    Style(BLACK, _DIAMOND),
    Style(BLUE, _UP, (5, 2)),
    Style(GREEN, _DOWN, (5, 2)),
    Style(BLACK, _BAR, (5, 2)),
)


@record
class Panel:
    """What one panel shows: the lots of one level, each with a style, or all levels with a style each."""

    levels: tuple[ChartLevel, ...]
    points: tuple[ChartPoint, ...]
    styles: tuple[tuple[str, str, Style], ...]  # by level and lot; the first of all that is not there
    single: bool = True

    def style(self, level: str, lot: str) -> Style:
        return next((style for *name, style in self.styles if name == [level, lot]), STYLES[0])


@record
class Frame:
    """Where a panel's plot is and what time it spans."""

    axis: Axis
    top: float
    height: float
    ticks: tuple[Tick, ...]
    zone: tzinfo

    def y(self, z: float) -> float:
        return self.top + (EDGE - z) / (2 * EDGE) * self.height

    @property
    def left(self) -> float:
        return self.axis.left - INSET

    @property
    def right(self) -> float:
        return self.axis.right + INSET

    @property
    def bottom(self) -> float:
        return self.top + self.height


@record
class Drawn:
    """A panel's items; how many points are drawn, and how many labels found no place."""

    items: list[Item]
    points: int
    missed: int


def draw(panel: Panel, frame: Frame, chart: Chart, verticals: Sequence[float], tips: bool) -> Drawn:
    """A panel's plot. `verticals`: where a change is marked; `tips`: points say what they are when pointed at."""
    known = any(level.targets for level in panel.levels) or not panel.points
    items = [*_ground(frame, known), *(_scale(panel, frame, chart.unit) if known else ())]
    items += [Stroke(((x, frame.top), (x, frame.bottom)), GREY, 1, (4, 3)) for x in verticals]
    if said := _plain(panel, known):
        x = (frame.left + frame.right) / 2
        items.append(Words(x, frame.y(0.3), said, 11, INK, Anchor.MIDDLE, halo=True))
    shown = thinned(panel.points, frame.axis)
    small = 1.0 if len(shown) < _DENSE else 0.6
    places = Places((frame.left + 1, frame.top + 1, frame.right - 1, frame.bottom - 1))
    for level in dict.fromkeys(point.level for point in shown):
        items += _lines([point for point in shown if point.level == level], panel, frame, small)
    for point in sorted(shown, key=lambda one: _RANK[one.verdict]):
        x, y, quiet = frame.axis.x(point.at), _height(point, frame), point.verdict is QcVerdict.ACCEPT
        places.point(x, y, 3 if quiet else 7, 1 if quiet else 4)
        words = tip(point, chart, frame.zone) if tips else ""
        items += symbol(point, panel.style(point.level, point.lot), x, y, words, small if quiet else 1)
    labels = list(_labels(shown, frame))
    # Of very many only those that must be read are named.
    named = labels if len(labels) <= _MANY else [label for label in labels if label.urgent]
    texts, missed = place(named, places, SIZE, INK)
    return Drawn([*items, *texts], len(shown), missed + len(labels) - len(named))


def _plain(panel: Panel, known: bool) -> str:
    """What is said in the place of points that can be looked at."""
    if not panel.points:
        return "no control was measured in this time"
    return "" if known else "no target is in force: these controls are not judged"


_RANK = {QcVerdict.ACCEPT: 0, QcVerdict.UNKNOWN: 1, QcVerdict.WARN: 2, QcVerdict.REJECT: 3}


def thinned(points: Sequence[ChartPoint], axis: Axis) -> list[ChartPoint]:
    """All points that say something, and of those in control of one level that share COLUMN pixels the first, the last,
    the highest and the lowest: the line through them goes over the same columns as high and as low as through all."""
    columns: dict[tuple[str, str, int], list[ChartPoint]] = {}
    kept: set[str] = set()
    for point in points:
        quiet = point.verdict is QcVerdict.ACCEPT and not (point.excluded or point.note)
        if quiet and point.z is not None and abs(point.z) <= CLIP:
            columns.setdefault((point.level, point.lot, int(axis.x(point.at) / COLUMN)), []).append(point)
        else:
            kept.add(point.id)
    for column in columns.values():
        low = min(column, key=lambda point: point.z or 0)
        high = max(column, key=lambda point: point.z or 0)
        kept.update(point.id for point in (column[0], column[-1], low, high))
    return [point for point in points if point.id in kept]


def tip(point: ChartPoint, chart: Chart, zone: tzinfo) -> str:
    """A point in words."""
    said = [moment(point.at, zone, True), f"{point.level}, lot {point.lot}"]
    said.append(f"{point.number:f} {chart.unit}".strip() if point.number is not None else "no number")
    said.append(f"{point.z:+.2f} SD" if point.z is not None else "not judged")
    said.append(", ".join((*point.rules, "excluded")) if point.excluded else ", ".join(point.rules))
    return " · ".join(part for part in (*said, point.note) if part)


# ---- ground ---------------------------------------------------------------------------------------------------------


def _ground(frame: Frame, known: bool) -> Iterator[Item]:
    """`known`: there is a target, and so a scale."""
    left, wide = frame.left, frame.right - frame.left
    for reach, fill in _BANDS if known else ():
        yield box(left, frame.y(reach), wide, frame.y(-reach) - frame.y(reach), fill)
    for tick in frame.ticks:
        x = frame.axis.x(tick.at)
        yield Stroke(((x, frame.top), (x, frame.bottom)), FAINT)
    for sd, colour, width, dash in _RULES if known else ():
        for z in (sd, -sd):
            yield Stroke(((left, frame.y(z)), (left + wide, frame.y(z))), colour, width, dash)
    if known:
        yield Stroke(((left, frame.y(0)), (left + wide, frame.y(0))), "#333333", 1.2)
    yield box(left, frame.top, wide, frame.height, colour="#888888")


def _scale(panel: Panel, frame: Frame, unit: str) -> Iterator[Item]:
    """SD on the left; what they are by the newest target on the right."""
    target = scale_target(panel, unit)
    for z in range(-3, 4):
        y = frame.y(z) + SIZE * 0.36
        said = "mean" if z == 0 else f"{z:+d} SD".replace("-", typeface.MINUS)
        yield Words(frame.left - 6, y, said, SIZE, INK, Anchor.END)
        if target is not None:
            yield Words(frame.right + 6, y, scale_text(target, z), SIZE, INK)


def newest(levels: Sequence[ChartLevel]) -> Target | None:
    """The target that begins last."""
    return max((target for level in levels for target in level.targets), key=lambda one: one.valid_from, default=None)


def scale_target(panel: Panel, unit: str) -> Target | None:
    """What the scale on the right is of: nothing where levels share it or the unit is not that of the points."""
    target = newest(panel.levels) if panel.single else None
    return target if target is not None and target.unit in ("", unit) else None


def scale_text(target: Target, z: int) -> str:
    places = max(decimals(target.mean), decimals(target.sd))
    return f"{target.mean + z * target.sd:.{places}f}".replace("-", typeface.MINUS)


def decimals(number: Decimal) -> int:
    """How many decimals it is written with, six at most."""
    exponent = number.as_tuple().exponent
    return min(max(-exponent, 0), 6) if isinstance(exponent, int) else 0


# ---- lines and points -----------------------------------------------------------------------------------------------


def _lines(points: Sequence[ChartPoint], panel: Panel, frame: Frame, width: float) -> Iterator[Item]:
    """Between points that count, broken at another lot or target and where for long none was measured."""
    joined = [point for point in points if point.z is not None and not point.excluded]
    if not joined:
        return
    times = sorted(next_.at - one.at for one, next_ in pairwise(joined))
    longest = max(4 * times[len(times) // 2], _LONG) if times else _LONG
    for lot in dict.fromkeys(point.lot for point in joined):
        style = panel.style(joined[0].level, lot)
        run: list[Point] = []
        last: tuple[datetime, str] | None = None
        for point in (one for one in joined if one.lot == lot):
            now = point.at, _target_of(point, panel.levels)
            if last is not None and (now[1] != last[1] or now[0] - last[0] > longest):
                yield from _run(run, style, width)
                run = []
            run.append((frame.axis.x(point.at), _height(point, frame)))
            last = now
        yield from _run(run, style, width)


def _run(run: Sequence[Point], style: Style, width: float) -> Iterator[Item]:
    if len(run) > 1:
        yield Stroke(tuple(run), style.colour, width, style.dash)


def _target_of(point: ChartPoint, levels: Iterable[ChartLevel]) -> str:
    """The target in force for a point."""
    for level in levels:
        if (level.level, level.lot) == (point.level, point.lot):
            for target in reversed(level.targets):
                if target.valid_from <= point.at and (target.valid_to is None or point.at < target.valid_to):
                    return target.id
    return ""


def _height(point: ChartPoint, frame: Frame) -> float:
    if point.z is None:
        return frame.bottom - 5
    z = float(point.z)
    return frame.y(max(-_ARROW, min(_ARROW, z)) if abs(z) > CLIP else z)


def symbol(point: ChartPoint, style: Style, x: float, y: float, tip: str = "", zoom: float = 1) -> Iterator[Item]:
    """A point as it looks: its level's shape, and around it what is wrong with it."""
    if point.z is None:
        yield box(x - 3, y - 3, 6, 6, fill="#FFFFFF", colour=GREY, width=1.2, tip=tip)
        return
    if abs(point.z) > CLIP:
        up = -1 if point.z > 0 else 1
        fill = "#FFFFFF" if point.excluded else VERMILLION if point.verdict is QcVerdict.REJECT else style.colour
        yield _at(((0, 1.2 * up), (1.2, -0.9 * up), (-1.2, -0.9 * up), (0, 1.2 * up)), x, y, 4.2, fill, BLACK, 0.8, tip)
        return
    if point.excluded:
        yield _shape(style, x, y, 3.1, "#FFFFFF", GREY, 1.3, tip)
        return
    if point.verdict is QcVerdict.WARN:
        yield _at(((0, -1.3), (1.2, 0.85), (-1.2, 0.85), (0, -1.3)), x, y, 6.2, ORANGE, BLACK, 0.8, tip)
        yield _shape(style, x, y, 2.2, BLACK, "", 1, tip)
    elif point.verdict is QcVerdict.REJECT:
        yield Disc(x, y, 6.2, "#FFFFFF", VERMILLION, 2.2, tip)
        yield _shape(style, x, y, 2.7, VERMILLION, "", 1, tip)
    elif point.verdict is QcVerdict.UNKNOWN:
        yield box(x - 3, y - 3, 6, 6, fill="#FFFFFF", colour=GREY, width=1.2, tip=tip)
    else:
        yield _shape(style, x, y, 2.6 * zoom, style.colour, "", 1, tip)


def _shape(style: Style, x: float, y: float, size: float, fill: str, colour: str, width: float, tip: str) -> Item:
    if not style.corners:
        return Disc(x, y, size, fill, colour, width, tip)
    return _at(style.corners, x, y, size, fill, colour, width, tip)


def _at(
    corners: Sequence[Point], x: float, y: float, size: float, fill: str, colour: str, width: float, tip: str
) -> Stroke:
    return Stroke(tuple((x + dx * size, y + dy * size) for dx, dy in corners), colour, width, (), fill, tip)


# ---- labels ---------------------------------------------------------------------------------------------------------


def _labels(points: Sequence[ChartPoint], frame: Frame) -> Iterator[Label]:
    """What is said of points: rules that were broken, the value where it is beyond the panel. Neighbours of a level
    that broke the same rules are labelled once."""
    for level in dict.fromkeys(point.level for point in points):
        group: list[ChartPoint] = []
        for point in (one for one in points if one.level == level):
            if group and not _alike(group[-1], point, frame):
                yield from _label(group, frame)
                group = []
            group.append(point)
        yield from _label(group, frame)


def _alike(one: ChartPoint, next_: ChartPoint, frame: Frame) -> bool:
    near = frame.axis.x(next_.at) - frame.axis.x(one.at) < 40
    return near and bool(one.rules) and _said(one) == _said(next_)


def _label(group: Sequence[ChartPoint], frame: Frame) -> Iterator[Label]:
    if not group or not (said := _said(group[0])):
        return
    middle = group[len(group) // 2]
    urgent = any(point.verdict is QcVerdict.REJECT or _beyond(point) for point in group)
    text = said if len(group) == 1 else f"{said} {typeface.TIMES}{len(group)}"
    yield Label(frame.axis.x(middle.at), _height(middle, frame), text, urgent)


def _said(point: ChartPoint) -> str:
    parts = list(point.rules)
    if _beyond(point) and point.number is not None and point.z is not None:
        parts.insert(0, f"{point.number:f} ({point.z:+.1f} SD)")
    said = " ".join(parts)
    return f"({said})" if said and point.excluded else said


def _beyond(point: ChartPoint) -> bool:
    return point.z is not None and abs(point.z) > CLIP
