"""One panel of a Levey-Jennings chart: SD bands, points, the lines between them, and what was wrong with which.

The axis is z: how many SD of its target a point lies from the mean. Colours are those of Okabe and Ito, "Color
Universal Design" (2008), https://jfly.uni-koeln.de/color/, which people see apart whatever colours they see; whatever
a colour says is also said by a shape. Texts are black or nearly so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
COLUMN, _CROWDED_COLUMN = 2, 3  # pixels that a point in control is as good as wide; where they are many and small
_DENSE, _CROWDED = 500, 1_000  # points from which those in control are small; from which fewer of them are drawn
_MANY = 40  # labels from which warnings have none
_BANDS = ((3, "#FFF6E3"), (2, "#F4F9FC"), (1, "#E9F3FA"))  # SD and what is within, the widest first
_RULES: tuple[tuple[int, str, float, tuple[float, ...]], ...] = (  # SD, colour, width and dash of its line
    (3, VERMILLION, 1.2, ()), (2, "#B87F00", 1, (6, 3)), (1, "#767676", 0.75, (1.5, 3)),
)  # fmt: skip
_ZERO = Decimal(0)
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


_PALE = {BLUE: "#A6CBE3", GREEN: "#A6DBCB", BLACK: "#C9C9C9"}  # of the colours of styles


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
    shown, twins = thinned(panel.points, frame, whole=tips)
    crowded = len(panel.points) > _CROWDED
    small = 1.0 if len(shown) < _DENSE else 0.6
    lines = [
        item
        for level in dict.fromkeys(point.level for point in shown)
        for item in _lines([point for point in shown if point.level == level], panel, frame, small, crowded)
    ]
    items = [*(_bands(frame) if known else ()), *(lines if crowded else ()), *_ground(frame, known)]
    items += _scale(panel, frame, chart.unit) if known else ()
    items += [Stroke(((x, frame.top), (x, frame.bottom)), GREY, 1, (4, 3)) for x in verticals]
    if said := _plain(panel, known):
        x = (frame.left + frame.right) / 2
        items.append(Words(x, frame.y(0.3), said, 11, INK, Anchor.MIDDLE, halo=True))
    places = Places((frame.left + 1, frame.top + 1, frame.right - 1, frame.bottom - 1))
    items += () if crowded else lines
    styles = {of: panel.style(*of) for of in {(point.level, point.lot) for point in shown}}
    for point in sorted(shown, key=lambda one: _RANK[one.verdict]):
        x, y, quiet = frame.axis.x(point.at), _height(point, frame), point.verdict is QcVerdict.ACCEPT
        places.point(x, y, 3 if quiet else 7, 1 if quiet else 4)
        words = tip(point, chart, frame.zone) if tips else ""
        items += symbol(point, styles[point.level, point.lot], x, y, words, small if quiet else 1)
    labels = list(_labels(shown, twins, frame))
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


def thinned(points: Sequence[ChartPoint], frame: Frame, *, whole: bool) -> tuple[list[ChartPoint], Counter[str]]:
    """All points that say something of their own, and of those in control of one level that share a column the first,
    the last, the highest and the lowest (of very many the highest and the lowest): the line through them goes over the
    same columns as high and as low as through all. Unless `whole`, of very many that broke the same rules on one pixel
    one is drawn, which looks the same; the counter says for how many others it stands."""
    crowded = len(points) > _CROWDED
    wide = _CROWDED_COLUMN if crowded else COLUMN
    columns: dict[tuple[str, str, int], list[ChartPoint]] = {}
    places: dict[tuple[object, ...], str] = {}
    kept: set[str] = set()
    twins: Counter[str] = Counter()
    for point in points:
        x = frame.axis.x(point.at)
        own = point.excluded or bool(point.note)
        if point.verdict is QcVerdict.ACCEPT and not own and point.z is not None and abs(point.z) <= CLIP:
            columns.setdefault((point.level, point.lot, int(x / wide)), []).append(point)
            continue
        place = (point.level, point.lot, point.verdict, point.rules, int(x), round(_height(point, frame)))
        first = point.id if own or whole or not crowded else places.setdefault(place, point.id)
        if first != point.id:
            twins[first] += 1
        kept.add(first)
    for column in columns.values():
        kept.update((min(column, key=_z).id, max(column, key=_z).id))
        if not crowded:
            kept.update((column[0].id, column[-1].id))
    return [point for point in points if point.id in kept], twins


def _z(point: ChartPoint) -> Decimal:
    return point.z or _ZERO


def tip(point: ChartPoint, chart: Chart, zone: tzinfo) -> str:
    """A point in words."""
    said = [moment(point.at, zone, True), f"{point.level}, lot {point.lot}"]
    said.append(f"{point.number:f} {chart.unit}".strip() if point.number is not None else "no number")
    unknown = "not judged" if point.verdict is QcVerdict.UNKNOWN else "beyond a limit"
    said.append(f"{point.z:+.2f} SD" if point.z is not None else unknown)
    said.append(", ".join((*point.rules, "excluded")) if point.excluded else ", ".join(point.rules))
    return " · ".join(part for part in (*said, point.note) if part)


# ---- ground ---------------------------------------------------------------------------------------------------------


def _bands(frame: Frame) -> Iterator[Item]:
    for reach, fill in _BANDS:
        yield box(frame.left, frame.y(reach), frame.right - frame.left, frame.y(-reach) - frame.y(reach), fill)


def _ground(frame: Frame, known: bool) -> Iterator[Item]:
    """`known`: there is a target, and so a scale."""
    left, wide = frame.left, frame.right - frame.left
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


def _lines(points: Sequence[ChartPoint], panel: Panel, frame: Frame, width: float, crowded: bool) -> Iterator[Item]:
    """Between points that count, broken at another lot or target and where for long none was measured. `crowded`: they
    would be nothing but a hatching, so what they would cover is shown instead."""
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
                yield from _covered(run, style, panel.single) if crowded else _run(run, style, width)
                run = []
            run.append((frame.axis.x(point.at), _height(point, frame)))
            last = now
        yield from _covered(run, style, panel.single) if crowded else _run(run, style, width)


def _run(run: Sequence[Point], style: Style, width: float) -> Iterator[Item]:
    if len(run) > 1:
        yield Stroke(tuple(run), style.colour, width, style.dash)


def _covered(run: Sequence[Point], style: Style, alone: bool) -> Iterator[Item]:
    """From the lowest to the highest of each column; of several levels in one panel only where that ends."""
    columns: dict[int, tuple[float, float]] = {}
    for x, y in run:
        at = int(x / _CROWDED_COLUMN)
        top, bottom = columns.get(at, (y, y))
        columns[at] = min(top, y), max(bottom, y)
    if len(columns) < 2:
        return
    middle = [(at + 0.5) * _CROWDED_COLUMN for at in columns]
    tops = list(zip(middle, (top for top, _ in columns.values()), strict=True))
    bottoms = list(zip(middle, (bottom for _, bottom in columns.values()), strict=True))
    if alone:
        yield Stroke((*tops, *reversed(bottoms), tops[0]), "", 1, (), _PALE[style.colour])
    else:
        yield from (Stroke(tuple(side), style.colour, 0.75, style.dash) for side in (tops, bottoms))


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
        colour = VERMILLION if point.verdict is QcVerdict.REJECT and not point.excluded else GREY
        yield box(x - 3, y - 3, 6, 6, fill="#FFFFFF", colour=colour, width=1.2, tip=tip)
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


def _labels(points: Sequence[ChartPoint], twins: Mapping[str, int], frame: Frame) -> Iterator[Label]:
    """What is said of points: rules that were broken, the value where it is beyond the panel. Neighbours of a level
    that broke the same rules are labelled once. `twins`: for how many that are not drawn one stands."""
    for level in dict.fromkeys(point.level for point in points):
        group: list[ChartPoint] = []
        for point in (one for one in points if one.level == level):
            if group and not _alike(group[-1], point, frame):
                yield from _label(group, twins, frame)
                group = []
            group.append(point)
        yield from _label(group, twins, frame)


def _alike(one: ChartPoint, next_: ChartPoint, frame: Frame) -> bool:
    if not one.rules or one.rules != next_.rules or _said(one) != _said(next_):
        return False
    return frame.axis.x(next_.at) - frame.axis.x(one.at) < 40


def _label(group: Sequence[ChartPoint], twins: Mapping[str, int], frame: Frame) -> Iterator[Label]:
    if not group or not (said := _said(group[0])):
        return
    middle = group[len(group) // 2]
    urgent = any(point.verdict is QcVerdict.REJECT or _beyond(point) for point in group)
    count = len(group) + sum(twins.get(point.id, 0) for point in group)
    text = said if count == 1 else f"{said} {typeface.TIMES}{count}"
    yield Label(frame.axis.x(middle.at), _height(middle, frame), text, urgent)


def _said(point: ChartPoint) -> str:
    parts = list(point.rules)
    if _beyond(point) and point.number is not None and point.z is not None:
        parts.insert(0, f"{point.number:f} ({point.z:+.1f} SD)")
    said = " ".join(parts)
    return f"({said})" if said and point.excluded else said


def _beyond(point: ChartPoint) -> bool:
    return point.z is not None and abs(point.z) > CLIP
