"""Drawings: lines, shapes and texts on a page of pixels, from which SVG, PNG and PDF are made alike.

The origin is the top left corner. Colours are `#rrggbb`; "" is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from xml.sax.saxutils import escape

from interface.domain.record import record
from interface.render import typeface

Point = tuple[float, float]
BOLD, HALO = 32, 2.5  # the part of the size that bold letters are thicker; pixels of white around others


class Anchor(StrEnum):
    """Which end of a text is at its place."""

    START = "start"
    MIDDLE = "middle"
    END = "end"


@record
class Words:
    """One line of text; `y` is its base line.

    `bold` is drawn, not another font: the width stays. `halo`: white around the letters, to be read over lines.
    """

    x: float
    y: float
    text: str
    size: float = 11
    colour: str = "#000000"
    anchor: Anchor = Anchor.START
    bold: bool = False
    halo: bool = False


@record
class Stroke:
    """A line through points, closed and filled if `fill`. `dash`: lengths of dashes and gaps."""

    points: tuple[Point, ...]
    colour: str = ""
    width: float = 1
    dash: tuple[float, ...] = ()
    fill: str = ""
    tip: str = ""  # what a person who points at it is told


@record
class Disc:
    x: float
    y: float
    radius: float
    fill: str = ""
    colour: str = ""
    width: float = 1
    tip: str = ""


Item = Words | Stroke | Disc


@record
class Drawing:
    """Items from the bottom up. `title` and `text` say in words what is seen."""

    width: float
    height: float
    items: Sequence[Item]
    title: str = ""
    text: str = ""


def box(
    x: float, y: float, wide: float, high: float, fill: str = "", colour: str = "", width: float = 1, tip: str = ""
) -> Stroke:
    """A rectangle."""
    corners = ((x, y), (x + wide, y), (x + wide, y + high), (x, y + high), (x, y))
    return Stroke(corners, colour, width, (), fill, tip)


def extent(words: Words) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a text's line."""
    wide = typeface.width(words.text, words.size)
    left = words.x - {Anchor.START: 0, Anchor.MIDDLE: wide / 2, Anchor.END: wide}[words.anchor]
    top, bottom = words.y - typeface.ASCENT * words.size, words.y + typeface.DESCENT * words.size
    return left, top, left + wide, bottom


# ---- SVG ------------------------------------------------------------------------------------------------------------


def svg(drawing: Drawing) -> str:
    """A complete SVG document."""
    wide, high = _number(drawing.width), _number(drawing.height)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" '
        f'role="img" font-family="{typeface.FAMILY}" stroke-linecap="round" stroke-linejoin="round">'
    )
    said = [f"<title>{_said(drawing.title)}</title>", f"<desc>{_said(drawing.text)}</desc>"]
    return "\n".join([head, *said, *map(_element, drawing.items), "</svg>"]) + "\n"


def _element(item: Item) -> str:
    if isinstance(item, Words):
        return _text(item)
    tip = f"<title>{_said(item.tip)}</title>" if item.tip else ""
    looks = "".join(_looks(item.fill, item.colour, item.width, item.dash if isinstance(item, Stroke) else ()))
    if isinstance(item, Disc):
        place = f'<circle cx="{_number(item.x)}" cy="{_number(item.y)}" r="{_number(item.radius)}"{looks}'
        return f"{place}>{tip}</circle>" if tip else f"{place}/>"
    path = f'<path d="{_path(item.points)}"{looks}'
    return f"{path}>{tip}</path>" if tip else f"{path}/>"


def _looks(fill: str, colour: str, width: float, dash: Iterable[float]) -> Iterator[str]:
    yield f' fill="{fill or "none"}"'
    if colour:
        yield f' stroke="{colour}"'
        if width != 1:
            yield f' stroke-width="{_number(width)}"'
        if said := " ".join(map(_number, dash)):
            yield f' stroke-dasharray="{said}" stroke-linecap="butt"'


def _path(points: Sequence[Point]) -> str:
    closed = len(points) > 2 and points[0] == points[-1]
    places = points[:-1] if closed else points
    return "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in places) + ("z" if closed else "")


def _text(words: Words) -> str:
    anchor = "" if words.anchor is Anchor.START else f' text-anchor="{words.anchor}"'
    bold = f' stroke="{words.colour}" stroke-width="{_number(words.size / BOLD)}"' if words.bold else ""
    bold = f' stroke="#FFFFFF" stroke-width="{HALO}" paint-order="stroke"' if words.halo else bold
    # A viewer that has none of the fonts sets it as wide as it was planned.
    known = len(words.text) > 1 and typeface.exact(words.text)
    wide = _number(typeface.width(words.text, words.size))
    fit = f' textLength="{wide}" lengthAdjust="spacingAndGlyphs"' if known else ""
    place = f'x="{_number(words.x)}" y="{_number(words.y)}" font-size="{_number(words.size)}"'
    return f'<text {place} fill="{words.colour}"{anchor}{bold}{fit}>{_said(words.text)}</text>'


def _said(text: str) -> str:
    """Without what XML has no word for."""
    printable = text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)
    return escape(printable)


def _number(value: float) -> str:
    """Hundredths of a pixel, without zeros that say nothing."""
    said = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if said == "-0" else said
