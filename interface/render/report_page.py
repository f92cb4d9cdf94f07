"""Pages that are filled from the top: a place on them, texts and lines, and what begins and ends each page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from interface.domain.record import record
from interface.domain.report import Paper
from interface.render import typeface
from interface.render.drawing import Anchor, Disc, Drawing, Item, Stroke, Words, box

MARGIN, FOOT = 40.0, 30.0  # points of 1/72 inch
SIZES = {Paper.A4: (595.28, 841.89), Paper.LETTER: (612.0, 792.0)}
INK, GREY, LIGHT, BAND = "#000000", "#4D4D4D", "#A6A6A6", "#E6E6E6"  # told apart in greyscale, on any printer
LEADING = 1.22  # of a line, to its size


@record
class Column:
    """A part of the width. `right`: numbers, set to its right edge."""

    left: float
    width: float
    right: bool = False


class Pages:
    """What is drawn goes on the last page; `need` begins another where there is no room."""

    def __init__(self, paper: Paper, head: Callable[[Pages], None]) -> None:
        """`head` draws what stands at the top of each page but the first."""
        self.width, self.height = SIZES[paper]
        self.left, self.right, self.bottom = MARGIN, self.width - MARGIN, self.height - MARGIN - FOOT
        self.done: list[list[Item]] = [[]]
        self.y = MARGIN
        self.again: Callable[[], None] | None = None  # what a table repeats at the top of the next page
        self._head = head

    @property
    def wide(self) -> float:
        return self.right - self.left

    def need(self, height: float) -> None:
        """Go to the next page unless so much is left on this one."""
        if self.y + height <= self.bottom:
            return
        self.done.append([])
        self.y = MARGIN
        self._head(self)
        if self.again is not None:
            self.again()

    def add(self, *items: Item) -> None:
        self.done[-1].extend(items)

    def words(
        self, text: str, x: float, y: float, size: float, *, bold: bool = False, right: bool = False,
        colour: str = INK,
    ) -> None:  # fmt: skip
        """One line, its base line `size` below `y`. Blank texts are not drawn."""
        if text.strip():
            self.add(Words(x, y + size, text, size, colour, Anchor.END if right else Anchor.START, bold))

    def rule(self, y: float, colour: str = LIGHT, width: float = 0.5) -> None:
        self.add(Stroke(((self.left, y), (self.right, y)), colour, width))

    def shade(self, y: float, height: float) -> None:
        self.add(box(self.left, y, self.wide, height, fill=BAND))

    def paragraph(
        self, text: str, size: float, *, left: float = 0, bold: bool = False, colour: str = INK, after: float = 2
    ) -> None:
        """As many lines as it takes, over the ends of pages too; nothing is cut."""
        for line in lines(text, size, self.wide - left):
            self.need(size * LEADING)
            self.words(line, self.left + left, self.y, size, bold=bold, colour=colour)
            self.y += size * LEADING
        self.y += after

    def cells(
        self, texts: Sequence[Sequence[str]], columns: Sequence[Column], size: float, *, bold: Sequence[int] = (),
        colour: str = INK, below: float = 3,
    ) -> float:  # fmt: skip
        """A row of cells, each of its lines; returns where it began."""
        began = self.y
        for at, (column, cell) in enumerate(zip(columns, texts, strict=True)):
            x = column.left + column.width - 4 if column.right else column.left
            for place, line in enumerate(cell):
                y = began + place * size * LEADING
                self.words(line, x, y, size, bold=at in bold, right=column.right, colour=colour)
        self.y = began + height_of(texts, size) + below
        return began

    def drawings(self, title: str) -> list[Drawing]:
        return [Drawing(self.width, self.height, tuple(items), title) for items in self.done]


def lines(text: str, size: float, room: float) -> list[str]:
    """The whole text, as many lines as it takes."""
    return typeface.wrap(text, size, room, 10_000)


def height_of(cells: Sequence[Sequence[str]], size: float) -> float:
    return max((len(cell) for cell in cells), default=1) * size * LEADING


def columns(left: float, wide: float, parts: Sequence[float], right: Sequence[int] = ()) -> list[Column]:
    """Columns of these parts of a width, one beside the other."""
    made, at = [], left
    for number, part in enumerate(parts):
        width = wide * part / sum(parts)
        made.append(Column(at, width, number in right))
        at += width
    return made


def fitted(text: str, column: Column, size: float) -> list[str]:
    """A cell's lines; four points stay between it and the next."""
    return lines(text, size, column.width - 5)


def spark(
    values: Sequence[float], low: float | None, high: float | None, x: float, y: float, wide: float, high_px: float
) -> list[Item]:
    """The course of some values, the last with a dot, over the band of the reference interval. Positions, not values:
    these are texts elsewhere."""
    known = [*values, *(limit for limit in (low, high) if limit is not None)]
    least, most = min(known), max(known)
    span = (most - least) or 1.0

    def place(value: float) -> float:
        return y + high_px * (1 - (value - least) / span)

    items: list[Item] = []
    if low is not None or high is not None:
        top, bottom = place(most if high is None else high), place(least if low is None else low)
        items.append(box(x, top, wide, max(bottom - top, 0.5), fill=BAND))
    step = wide / (len(values) - 1)
    points = tuple((x + at * step, place(value)) for at, value in enumerate(values))
    items.append(Stroke(points, GREY, 0.8))
    items.append(Disc(*points[-1], 1.6, fill=INK))
    return items
