"""Levey-Jennings charts: a level a panel, or all in one, with everything that was said and done.

What is not drawn is said: labels for which there was no room, points in control that fall on each other; both are
counted at the foot. Points that broke a rule are always drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal

from interface.domain.qc import Chart, ChartLevel, ChartPoint, QcVerdict
from interface.domain.qc_statistics import presented, statistics
from interface.render import chart_marks, drawing, typeface
from interface.render.chart_marks import Numbered
from interface.render.chart_panel import (
    BLACK,
    GREEN,
    GREY,
    INK,
    INSET,
    ORANGE,
    SIZE,
    STYLES,
    VERMILLION,
    Drawn,
    Frame,
    Panel,
    Style,
    decimals,
    draw,
    newest,
    scale_target,
    scale_text,
    symbol,
)
from interface.render.chart_time import Axis, Tick, period, ticks
from interface.render.drawing import Anchor, Drawing, Item, Stroke, Words, box

LEAST_WIDTH, MOST_WIDTH = 480, 3000
_MARGIN, _TITLE, _SUB, _LINE = 14.0, 16.0, 11.0, 14.0
_MOST_LOTS = 4  # that a panel's head speaks of
_STATES = {"ok": GREEN, "warn": ORANGE, "fail": VERMILLION, "expired": VERMILLION, "unknown": GREY}


@dataclass(frozen=True, slots=True)
class Look:
    """How a chart is drawn: pixels wide, times in `zone`, all levels in one panel or each in its own.

    `tips`: each point says what it is when it is pointed at, which is of use in SVG alone.
    """

    width: int = 800
    zone: tzinfo = UTC
    together: bool = False
    tips: bool = True


def svg(chart: Chart, look: Look = Look()) -> str:
    """The chart as an SVG document."""
    return drawing.svg(levey_jennings(chart, look))


def levey_jennings(chart: Chart, look: Look = Look()) -> Drawing:
    """The chart as a drawing, as high as it needs to be."""
    panels = _panels(chart, look.together)
    axis = Axis(chart.begin, chart.end, *_sides(panels, chart.unit, look))
    marks = chart_marks.numbered(chart)
    items = list(_head(chart, look))
    y = 50.0
    placed = tuple(ticks(axis, look.zone, SIZE))
    height = 250.0 if look.together else 150.0 if len(panels) <= 3 else 118.0
    drawn: list[Drawn] = []
    for panel in panels:
        head, y = _panel_head(panel, y, look, chart.unit)
        items += head
        if marks and not drawn:
            items += chart_marks.lane(marks, axis, y + 4, y + 5 + chart_marks.LANE)
            y += chart_marks.LANE
        level = panel.levels[0].level if panel.single else None
        frame = Frame(axis, y + 5, height, placed, look.zone)
        drawn.append(draw(panel, frame, chart, chart_marks.verticals(marks, axis, level), look.tips))
        items += drawn[-1].items
        y += height + 5
    items += _time_labels(placed, axis, y)
    y += 24
    foot, y = _foot(chart, look, panels, marks, drawn, y)
    title = f"Levey-Jennings chart of {chart.test_name or chart.test}, {_where(chart)}"
    said = f"{period(chart.begin, chart.end, look.zone)}; {len(chart.points)} points of {len(panels)} levels"
    return Drawing(look.width, round(y + 10), [_paper(look, y + 10), *items, *foot], typeface.clean(title), said)


def _paper(look: Look, height: float) -> Item:
    return box(0, 0, look.width, round(height), fill="#FFFFFF")


# ---- panels ---------------------------------------------------------------------------------------------------------


def _panels(chart: Chart, together: bool) -> list[Panel]:
    """A panel a level, in the order of levels; points of a level that is not known have one too."""
    levels: dict[str, list[ChartLevel]] = {}
    for level in sorted(chart.levels, key=lambda one: one.number):
        levels.setdefault(level.level, []).append(level)
    for point in chart.points:
        if point.level not in levels:
            levels[point.level] = [ChartLevel(point.level, 0, point.lot)]
    if not levels:
        return [Panel((ChartLevel("", 0, ""),), (), ())]
    if together:
        every = tuple(one for lots in levels.values() for one in lots)
        styles = [(one.level, one.lot, _style(at)) for at, lots in enumerate(levels.values()) for one in lots]
        return [Panel(every, tuple(chart.points), tuple(styles), False)]
    return [
        Panel(
            tuple(lots),
            tuple(point for point in chart.points if point.level == name),
            tuple((one.level, one.lot, _style(at)) for at, one in enumerate(lots)),
        )
        for name, lots in levels.items()
    ]


def _style(number: int) -> Style:
    return STYLES[number % len(STYLES)]


def _sides(panels: Sequence[Panel], unit: str, look: Look) -> tuple[float, float]:
    """Left and right end of the plots: beside them is room for the widest value of the scale."""
    widest = 0.0
    for panel in panels:
        target = scale_target(panel, unit)
        if target is not None:
            widest = max(widest, *(typeface.width(scale_text(target, z), SIZE) for z in (-3, 3)))
    return 58 + INSET, look.width - max(_MARGIN, min(widest + 12, 120)) - INSET


def _panel_head(panel: Panel, y: float, look: Look, unit: str) -> tuple[list[Item], float]:
    """A line a lot: its level, lot, target and what was measured."""
    items: list[Item] = []
    shown = panel.levels[-_MOST_LOTS:] if panel.single else panel.levels
    if hidden := len(panel.levels) - len(shown):
        y += _LINE
        items.append(Words(_MARGIN, y, f"{hidden} earlier lots", _SUB, INK))
    for at, level in enumerate(shown):
        y += _LINE + (6 if at == 0 else 0)
        left = _MARGIN
        if len(panel.levels) > 1:
            items += _sample(panel.style(level.level, level.lot), left + 4, y - 4)
            left += 14
        said = _statistics(level, panel.points)
        room = look.width - _MARGIN - left - typeface.width(said, _SUB) - 16
        named = _named(level, unit)
        if typeface.width(named, _SUB) > room:  # what was measured goes on a line of its own
            items.append(Words(left, y, typeface.cut(named, _SUB, look.width - _MARGIN - left), _SUB, BLACK))
            y += _LINE
        else:
            items.append(Words(left, y, named, _SUB, BLACK))
        items.append(Words(look.width - _MARGIN, y, said, _SUB, INK, Anchor.END))
    return items, y


def _named(level: ChartLevel, unit: str) -> str:
    target = newest([level])
    other = f" {target.unit}" if target is not None and target.unit not in ("", unit) else ""
    said = [level.level and f"Level {level.level}" if level.level.isdigit() else level.level]
    said.append(f"lot {level.lot}" if level.lot else "")
    said.append(f"target {target.mean:f} ± {target.sd:f}{other} (1 SD)" if target else "no target" if level.lot else "")
    return typeface.clean(" · ".join(part for part in said if part))


def _statistics(level: ChartLevel, points: Sequence[ChartPoint]) -> str:
    """n, mean, SD and CV of the points that count."""
    mine = [point for point in points if (point.level, point.lot) == (level.level, level.lot)]
    numbers = [point.number for point in mine if point.number is not None and not point.excluded]
    excluded = sum(point.excluded for point in mine)
    more = f" ({excluded} excluded)" if excluded else ""
    if not numbers:
        return f"n 0{more}"
    places = max(map(decimals, numbers)) + 1
    own = statistics(numbers)
    assert own is not None  # noqa: S101 - of numbers there are
    parts = ((" mean", own.mean, places, ""), (" SD", own.sd, places, ""), (" CV", own.cv, 1, " %"))
    said = (
        f"{name} {presented(number, decimals_):f}{unit}"
        for name, number, decimals_, unit in parts
        if number is not None
    )
    return " ·".join((f"n {own.n}{more}", *said))


# ---- head and foot --------------------------------------------------------------------------------------------------


def _head(chart: Chart, look: Look) -> Iterator[Item]:
    right = look.width - _MARGIN
    if chart.state:
        said = f"QC {chart.state.upper()}"
        wide = typeface.width(said, _SUB) + 28
        right -= wide + 10
        x = look.width - _MARGIN - wide
        yield box(x, 10, wide, 19, fill="#FFFFFF", colour=_STATES.get(chart.state, GREY), width=2)
        yield from _state_sign(chart.state, x + 11, 19.5)
        yield Words(x + 20, 23.5, said, _SUB, BLACK)
    name = f"{chart.test_name} ({chart.test})" if chart.test_name and chart.test_name != chart.test else chart.test
    room = right - _MARGIN
    unit = f", {typeface.cut(chart.unit, _TITLE, room / 4)}" if chart.unit else ""
    title = typeface.cut(name, _TITLE, room - typeface.width(unit, _TITLE)) + unit
    yield Words(_MARGIN, 25, title, _TITLE, BLACK, Anchor.START, True)
    when = f" · {period(chart.begin, chart.end, look.zone)}, {look.zone}"
    where = typeface.cut(_where(chart), _SUB, look.width - 2 * _MARGIN - typeface.width(when, _SUB))
    yield Words(_MARGIN, 43, where + when, _SUB, INK)


def _where(chart: Chart) -> str:
    return f"{chart.analyzer}, module {chart.module}" if chart.module else chart.analyzer


def _state_sign(state: str, x: float, y: float) -> Iterator[Item]:
    """A state by its shape: a tick, a triangle, a cross, a bar."""
    colour = _STATES.get(state, GREY)
    if state == "ok":
        yield Stroke(((x - 4, y), (x - 1, y + 3.5), (x + 5, y - 4)), colour, 2)
    elif state == "warn":
        yield Stroke(((x, y - 5), (x + 5, y + 4), (x - 5, y + 4), (x, y - 5)), BLACK, 0.8, (), colour)
    elif state in ("fail", "expired"):
        yield Stroke(((x - 4, y - 4), (x + 4, y + 4)), colour, 2.2)
        yield Stroke(((x - 4, y + 4), (x + 4, y - 4)), colour, 2.2)
    else:
        yield Stroke(((x - 4, y), (x + 4, y)), colour, 2.2)


def _time_labels(placed: Sequence[Tick], axis: Axis, y: float) -> Iterator[Item]:
    for tick in placed:
        x = axis.x(tick.at)
        half = typeface.width(tick.text, SIZE) / 2
        if x - half >= _MARGIN / 2 and x + half <= axis.right + 40:
            yield Stroke(((x, y), (x, y + 3)), "#888888")
            yield Words(x, y + 14, tick.text, SIZE, INK, Anchor.MIDDLE)


def _foot(
    chart: Chart, look: Look, panels: Sequence[Panel], marks: Sequence[Numbered], drawn: Sequence[Drawn], y: float
) -> tuple[list[Item], float]:
    items, y = _key(chart, look, y)
    if marks:
        rows, y = chart_marks.legend(marks, _MARGIN, look.width - _MARGIN, y + 2, look.zone)
        items += rows
    for note in _notes(chart, panels, drawn):
        for line in typeface.wrap(note, SIZE, look.width - 2 * _MARGIN, 2):
            y += _LINE
            items.append(Words(_MARGIN, y, line, SIZE, INK))
    return items, y


def _key(chart: Chart, look: Look, y: float) -> tuple[list[Item], float]:
    """What the signs mean, of those that are there."""
    items: list[Item] = []
    there = set(map(_class, chart.points))
    x, y = _MARGIN, y + 10
    for says, point in _SIGNS:
        if _class(point) not in there:
            continue
        wide = 14 + typeface.width(says, SIZE) + 18
        if x > _MARGIN and x + wide - 18 > look.width - _MARGIN:
            x, y = _MARGIN, y + _LINE + 2
        items += _sign(point, x + 6, y - 3.5)
        items.append(Words(x + 16, y, says, SIZE, INK))
        x += wide
    return items, y if items else y - 10


def _sign(point: ChartPoint, x: float, y: float) -> Iterator[Item]:
    return symbol(point, STYLES[0], x, y)


def _class(point: ChartPoint) -> tuple[bool, bool, bool, QcVerdict]:
    """Points of one class look alike."""
    beyond = point.z is not None and abs(point.z) > 4
    if point.z is None:
        return True, False, False, QcVerdict.UNKNOWN
    if beyond or point.excluded:
        return False, beyond, point.excluded and not beyond, QcVerdict.ACCEPT
    unknown = point.verdict is QcVerdict.UNKNOWN
    return unknown, False, False, point.verdict


def _example(verdict: QcVerdict, z: Decimal | None, excluded: bool = False) -> ChartPoint:
    return ChartPoint("", datetime(2000, 1, 1, tzinfo=UTC), "", "", None, z, verdict, (), excluded)


_SIGNS = (
    ("in control", _example(QcVerdict.ACCEPT, Decimal(0))),
    ("warning", _example(QcVerdict.WARN, Decimal(0))),
    ("rejected", _example(QcVerdict.REJECT, Decimal(0))),
    ("beyond ±4 SD, with its value", _example(QcVerdict.REJECT, Decimal(5))),
    ("excluded, counts nowhere", _example(QcVerdict.ACCEPT, Decimal(0), True)),
    ("not judged", _example(QcVerdict.UNKNOWN, None)),
)


def _sample(style: Style, x: float, y: float) -> Iterator[Item]:
    yield from symbol(_example(QcVerdict.ACCEPT, Decimal(0)), style, x, y)


def _notes(chart: Chart, panels: Sequence[Panel], drawn: Sequence[Drawn]) -> Iterator[str]:
    shown, there = sum(one.points for one in drawn), len(chart.points)
    if shown < there:
        yield (
            f"{shown} of {there} points are drawn: of those in control that fall on one place the highest and lowest, "
            "of those on one pixel one."
        )
    if missed := sum(one.missed for one in drawn):
        yield f"{missed} of the broken rules are marked and not named: there is no room for more names."
    changed = [panel for panel in panels if panel.single and sum(len(level.targets) for level in panel.levels) > 1]
    if changed:
        yield "The scale on the right is that of the newest target; each point is drawn by the target it was judged by."
