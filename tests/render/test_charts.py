"""Levey-Jennings charts: what is on them, where it is, and that nothing lies on anything else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from io import BytesIO
from itertools import combinations
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from PIL import Image
from reportlab.pdfbase.ttfonts import TTFont

from interface.domain.qc import ChartPoint, QcVerdict
from interface.render import chart_panel, typeface
from interface.render.chart_time import Axis, period, ticks
from interface.render.charts import LEAST_WIDTH, Look, levey_jennings, svg
from interface.render.drawing import Disc, Drawing, Stroke, Words, box, extent
from interface.render.drawing import svg as svg_of
from interface.render.png import png
from tests.render.chart_cases import (
    BEGIN,
    CASES,
    END,
    PICTURE,
    ZONE,
    crowded,
    ordinary,
    two_years,
)

JAKARTA = ZoneInfo(ZONE)
LOOK = Look(zone=JAKARTA)
LOOKS = tuple(Look(width, JAKARTA, together) for width, together in ((LEAST_WIDTH, False), (800, False), (800, True)))


@cache
def drawn(case: str, look: Look = LOOK) -> Drawing:
    return levey_jennings(CASES[case](), look)


def words(drawing: Drawing) -> list[Words]:
    return [item for item in drawing.items if isinstance(item, Words)]


def said(drawing: Drawing) -> list[str]:
    return [item.text for item in words(drawing)]


def tips(drawing: Drawing) -> list[str]:
    return [item.tip for item in drawing.items if isinstance(item, Stroke | Disc) and item.tip]


# ---- nothing overlaps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look.width}{'-together' if look.together else ''}")
@pytest.mark.parametrize("case", CASES)
def test_no_two_texts_overlap_and_none_leaves_the_picture(case: str, look: Look) -> None:
    drawing = drawn(case, look)
    boxes = [(extent(item), item.text) for item in words(drawing)]
    for (left, top, right, bottom), text in boxes:
        assert left >= 0 and top >= 0 and right <= drawing.width and bottom <= drawing.height, text
    for (one, text), (other, more) in combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, f"{text!r} lies on {more!r}"


def test_texts_are_as_wide_as_the_font_makes_them() -> None:
    face = TTFont("Arimo", typeface.font_file()).face
    assert (face.ascent, -face.descent) <= (typeface.ASCENT * 1000, typeface.DESCENT * 1000)
    known = {code: width for code, width in face.charWidths.items() if 32 <= code < 0x1F00 and chr(code).isprintable()}
    assert len(known) > 1500
    for code, wide in known.items():
        measured = typeface.width(chr(code), 1000)
        assert measured >= wide - 1, (chr(code), hex(code))
        assert measured <= wide + 1 or not typeface.exact(chr(code)), (chr(code), hex(code))
    assert all(
        typeface.exact(text)
        for text in (
            f"µmol/L \N{GREEK SMALL LETTER SIGMA} ± 10⁹ ≥ {typeface.MINUS}",
            "Ukuran kadar glukosa, AC diperbaiki",
            "é ü Å ß",
        )
    )


def test_a_text_is_cut_and_wrapped_to_the_room_there_is() -> None:
    long = "a longer comment of somebody, who wrote on and on " * 3
    assert typeface.cut("short", 10, 100) == "short"
    assert typeface.cut(long, 10, 3) == ""
    cut = typeface.cut(long, 10, 100)
    assert cut.endswith("…") and typeface.width(cut, 10) <= 100 and long.startswith(cut[:-1])
    lines = typeface.wrap(long, 10, 150, 2)
    assert len(lines) == 2 and lines[1].endswith("…") and all(typeface.width(line, 10) <= 150 for line in lines)
    [first, second] = typeface.wrap("x" * 40, 10, 150, 2)
    assert first + second == "x" * 40
    assert typeface.wrap("one\n two\x00", 10, 150, 2) == ["one two"]


# ---- what is on it --------------------------------------------------------------------------------------------------


def test_a_chart_says_what_it_is_of_and_what_was_measured() -> None:
    texts = said(drawn("ordinary"))
    assert "Glucose (GLU), mmol/L" in texts
    assert "cobas-1, module c503-1 · 1 Nov 2026 \N{EN DASH} 30 Nov 2026, Asia/Jakarta" in texts
    assert "QC OK" in texts
    assert "Low · lot 45820 · target 3.20 ± 0.08 (1 SD)" in texts
    [line] = [text for text in texts if text.startswith("n 51 ")]
    numbers = [p.number for p in ordinary().points if p.level == "Normal" and p.number and not p.excluded]
    assert line.startswith(f"n 51 (1 excluded) · mean {sum(numbers) / 51:.3f} · SD 0.1")
    for scale in ("+3 SD", "mean", "\N{MINUS SIGN}2 SD", "3.44", "3.20", "3.04", "5.63", "4.97"):
        assert scale in texts


def test_what_broke_a_rule_is_named_and_what_is_beyond_the_panel_has_its_value() -> None:
    texts = said(drawn("ordinary"))
    assert {"1-2s", "1-3s", "2-2s", "(1-3s)", "3.59 (+4.9 SD) 1-3s"} <= set(texts)


def test_neighbours_that_broke_the_same_rules_are_named_once() -> None:
    texts = said(drawn("drifting"))
    assert f"4-1s 10x {typeface.TIMES}9" in texts


def test_changes_deeds_and_notes_are_numbered_and_told() -> None:
    drawing = drawn("ordinary")
    texts = said(drawing)
    assert "comment, Normal: excluded: wrong vial, level Low was in its place (S. Wijaya)" in texts
    assert "action, Low: calibrated, both in range" in texts
    assert "reagent: reagent lot 771204 in place of 770931" in texts
    for number in "12345":
        assert texts.count(number) == 2, "once on the chart, once in the list"
    lines = [item for item in drawing.items if isinstance(item, Stroke) and item.dash == (4, 3)]
    assert len(lines) == 2, "the change of reagent goes through both panels"


def test_tags_too_near_each_other_are_one_and_no_number_is_lost() -> None:
    drawing = drawn("crowded")
    spans = [re.fullmatch(r"(\d+)\N{EN DASH}(\d+)", text) for text in said(drawing)]
    numbers = [n for span in spans if span for n in range(int(span[1]), int(span[2]) + 1)]
    assert numbers == list(range(1, 71))
    assert "and 41 more, in the report and the data" in said(drawing)


def test_what_is_excluded_is_hollow_and_not_joined() -> None:
    chart = ordinary()
    [excluded] = [point for point in chart.points if point.excluded]
    drawing = levey_jennings(chart)
    [disc] = [item for item in drawing.items if isinstance(item, Disc) and "excluded:" in item.tip]
    assert (disc.fill, disc.colour) == ("#FFFFFF", chart_panel.GREY)
    assert (disc.x, disc.y) not in _joined(drawing)
    assert "excluded" in disc.tip and f"{excluded.number:f}" in disc.tip


def test_the_line_is_broken_where_none_was_measured_and_at_another_lot_or_target() -> None:
    assert len(_lines(drawn("ordinary"))) == 4, "two levels with a gap each"
    lines = [item for item in drawn("new_lot").items if isinstance(item, Stroke) and not item.fill]
    joined = [item.colour for item in lines if item.colour in (chart_panel.BLUE, chart_panel.GREEN)]
    assert joined == [chart_panel.BLUE, chart_panel.GREEN, chart_panel.GREEN], (
        "the old lot, the new one by either target"
    )


def test_a_chart_without_points_or_levels_or_targets_says_so() -> None:
    for case in ("nothing", "no_levels"):
        assert "no control was measured in this time" in said(drawn(case))
    texts = said(drawn("untargeted"))
    assert "no target is in force: these controls are not judged" in texts and "+3 SD" not in texts
    assert len(tips(drawn("untargeted"))) == 20


def test_a_target_in_a_unit_that_cannot_be_converted_has_no_scale_of_values() -> None:
    chart = ordinary()
    levels = [
        replace(level, targets=tuple(replace(one, unit="U/L") for one in level.targets)) for level in chart.levels
    ]
    texts = said(levey_jennings(replace(chart, levels=tuple(levels)), LOOK))
    assert "3.44" not in texts and "+3 SD" in texts and "Low · lot 45820 · target 3.20 ± 0.08 U/L (1 SD)" in texts


def test_levels_in_one_panel_differ_by_shape() -> None:
    texts = said(levey_jennings(CASES["six"](), Look(together=True)))
    assert texts.count("mean") == 1 and sum(text.startswith("n 58") for text in texts) == 6
    assert len({style.corners for style in chart_panel.STYLES}) == 6


# ---- many points ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["two_years", "all_out"])
def test_of_many_points_none_that_broke_a_rule_is_left_out(case: str) -> None:
    chart, drawing = CASES[case](), drawn(case)
    shown = set(tips(drawing))
    assert {chart_panel.tip(point, chart, JAKARTA) for point in chart.points if point.rules} <= shown
    texts = said(drawing)
    if len(shown) < 5000:
        assert any(re.match(r"\d+ of 5000 points are drawn", text) for text in texts)
    assert any("marked and not named" in text for text in texts)


def test_a_thinned_line_goes_as_high_and_as_low_in_each_column() -> None:
    chart = two_years()
    axis = Axis(chart.begin, chart.end, 0, 700)
    frame = chart_panel.Frame(axis, 0, 150, (), JAKARTA)
    low = [point for point in chart.points if point.level == "Low"]

    def ends(of: list[ChartPoint], wide: int) -> dict[int, tuple[object, ...]]:
        columns: dict[int, list[ChartPoint]] = {}
        for point in of:
            columns.setdefault(int(axis.x(point.at) / wide), []).append(point)
        zs = {x: [one.z for one in column if one.z is not None] for x, column in columns.items()}
        return {
            x: (min(zs[x]), max(zs[x]), *((column[0], column[-1]) if wide == 2 else ()))
            for x, column in columns.items()
        }  # fmt: skip

    for points, wide in ((low[:1000], 2), (low, 3)):
        kept, _ = chart_panel.thinned(points, frame, whole=True)
        assert len(kept) < len(points)
        assert ends(kept, wide) == ends(points, wide)


def test_of_points_on_one_pixel_that_broke_the_same_rules_a_picture_has_one_that_stands_for_all() -> None:
    chart = CASES["all_out"]()
    frame = chart_panel.Frame(Axis(chart.begin, chart.end, 0, 700), 0, 150, (), JAKARTA)
    kept, twins = chart_panel.thinned(chart.points, frame, whole=False)
    assert len(kept) + sum(twins.values()) == len(chart.points)
    assert 0 < len(kept) < len(chart.points) and {point.id for point in kept} >= set(twins)


# ---- seen by everybody ----------------------------------------------------------------------------------------------


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(part * share for part, share in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def _contrast(one: str, other: str) -> float:  # WCAG 2.2, "contrast ratio"
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_texts_and_signs_stand_out_from_their_ground() -> None:
    grounds = ["#FFFFFF", *(colour for _, colour in chart_panel._BANDS)]
    for case in CASES:
        drawing = drawn(case)
        for item in words(drawing):
            assert min(_contrast(item.colour, ground) for ground in grounds) >= 4.5  # WCAG 2.2 1.4.3
    marks = [chart_panel.VERMILLION, chart_panel.GREY, *(style.colour for style in chart_panel.STYLES)]
    marks += [colour for _, colour, _, _ in chart_panel._RULES]
    for mark in marks:
        assert min(_contrast(mark, ground) for ground in grounds) >= 3  # WCAG 2.2 1.4.11


def test_each_verdict_has_a_shape_of_its_own() -> None:
    def looks(verdict: QcVerdict, z: Decimal | None, excluded: bool = False) -> tuple[object, ...]:
        point = ChartPoint("", BEGIN, "", "", None, z, verdict, (), excluded)
        items = list(chart_panel.symbol(point, chart_panel.STYLES[0], 0, 0))
        shapes = [
            item.points if isinstance(item, Stroke) else item.radius for item in items if not isinstance(item, Words)
        ]
        hollow = [item.fill == "#FFFFFF" for item in items if not isinstance(item, Words)]
        return tuple(shapes), tuple(hollow)

    every = [looks(verdict, Decimal(1)) for verdict in QcVerdict]
    every += [looks(QcVerdict.REJECT, Decimal(5)), looks(QcVerdict.REJECT, Decimal(-5))]
    every += [looks(QcVerdict.ACCEPT, Decimal(1), True)]
    assert len(set(every)) == len(every)


# ---- as a file ------------------------------------------------------------------------------------------------------


def test_svg_is_xml_in_which_every_text_is_text() -> None:
    chart = crowded()
    picture = svg(chart)
    root = ElementTree.fromstring(picture)  # noqa: S314 - our own
    assert [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")] == said(levey_jennings(chart))
    assert "<Söhne>" not in picture and "&lt;Söhne&gt;" in picture
    assert svg(chart) == picture, "the same chart is the same file"
    odd = Drawing(10, 10, [Words(0, 0, "a\x00\x1b\ufffe<b")], "]]>\x07", "&")
    ElementTree.fromstring(svg_of(odd))  # noqa: S314 - our own


def test_the_picture_in_the_handbook_is_what_is_drawn() -> None:
    """To draw it anew: `python -m tests.render.chart_cases`."""
    assert PICTURE.read_text() == svg(ordinary(), LOOK)


def _pixels(text: str) -> bytes:
    made = Image.open(BytesIO(png(Drawing(40, 24, [box(0, 0, 40, 24, "#FFFFFF"), Words(4, 18, text, 16)]))))
    return made.convert("L").tobytes()


def test_png_has_letters_on_a_machine_without_fonts() -> None:
    blank, unknown = _pixels(" "), _pixels("\N{CJK UNIFIED IDEOGRAPH-4E00}")
    assert min(blank) == 255 and min(unknown) < 128, "what the font has not is a box"
    drawn = {
        letter: _pixels(letter)
        for letter in f"µ\N{GREEK SMALL LETTER SIGMA}±éèñğşąłÅß⁹²≥→Δ°½{typeface.MINUS}{typeface.TIMES}"
    }
    assert not {blank, unknown} & set(drawn.values())
    assert len(set(drawn.values())) == len(drawn)


def test_png_is_as_large_as_asked_and_not_larger_than_memory() -> None:
    drawing = drawn("ordinary")
    made = Image.open(BytesIO(png(drawing, 2)))
    assert (made.format, made.size) == ("PNG", (2 * drawing.width, 2 * drawing.height))
    assert png(drawing) == png(drawing)
    with pytest.raises(ValueError, match="too large"):
        png(drawing, 20)


# ---- the axis of time -----------------------------------------------------------------------------------------------

SPANS = (
    (timedelta(hours=10), "00:00"), (timedelta(days=2), "00:00"), (timedelta(days=30), "1 Nov"),
    (timedelta(days=90), "2 Nov"), (timedelta(days=700), "Nov 2026"), (timedelta(days=9000), "2027"),
)  # fmt: skip


@pytest.mark.parametrize(("span", "like"), SPANS)
def test_ticks_are_at_times_that_people_know_in_the_laboratorys_zone(span: timedelta, like: str) -> None:
    axis = Axis(BEGIN, BEGIN + span, 60, 740)
    found = ticks(axis, JAKARTA, 10)
    assert 2 < len(found) < 25
    shape = re.sub(r"[A-Z][a-z]+", "Mon", re.sub(r"\d+", "0", like))
    shapes = {re.sub(r"[A-Z][a-z]+", "Mon", re.sub(r"\d+", "0", tick.text)) for tick in found}
    assert shape in shapes
    assert all(tick.at.astimezone(JAKARTA).minute == 0 for tick in found)
    if ":" not in like:
        assert all(tick.at.astimezone(JAKARTA).hour == 0 for tick in found)


def test_a_day_of_which_an_hour_is_skipped_or_repeated_has_ticks_in_order() -> None:
    zone = ZoneInfo("Europe/Berlin")
    for day in (datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)):
        found = ticks(Axis(day, day + timedelta(days=1), 0, 1400), zone, 10)
        assert [tick.at for tick in found] == sorted({tick.at for tick in found})
        assert len(found) >= 23


def test_a_period_is_said_in_days_where_it_is_of_days() -> None:
    assert period(BEGIN, END, JAKARTA) == "1 Nov 2026 \N{EN DASH} 30 Nov 2026"
    assert period(BEGIN, BEGIN + timedelta(days=1), JAKARTA) == "1 Nov 2026"
    assert period(BEGIN, END, UTC) == "31 Oct 2026 17:00 \N{EN DASH} 30 Nov 2026 17:00"


# ---- parts ----------------------------------------------------------------------------------------------------------


def _lines(drawing: Drawing) -> list[Stroke]:
    """The lines between points."""
    blue = (item for item in drawing.items if isinstance(item, Stroke) and item.colour == chart_panel.BLUE)
    return [item for item in blue if not item.fill]


def _joined(drawing: Drawing) -> Iterator[tuple[float, float]]:
    return (point for line in _lines(drawing) for point in line.points)
