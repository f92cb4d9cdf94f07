"""Where labels go so that none lies on another, and as few as can be on points."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from interface.domain.record import record
from interface.render import typeface
from interface.render.drawing import Anchor, Item, Stroke, Words, extent

Box = tuple[float, float, float, float]  # left, top, right, bottom
_CELL = 24  # pixels: boxes are looked for by the cells they touch
_MOST = 150  # labels of a panel that a place is looked for; nobody reads more


@record
class Label:
    """What is to be said at a point. `urgent`: placed before others."""

    x: float
    y: float
    text: str
    urgent: bool = False


class Places:
    """What is taken of an area: by texts, which nothing may overlap, and by points, which are better left free."""

    def __init__(self, area: Box) -> None:
        self._area = area
        self._boxes: dict[tuple[int, int], list[Box]] = defaultdict(list)
        self._points: dict[tuple[int, int], list[tuple[float, float, float, int]]] = defaultdict(list)

    def take(self, box: Box) -> None:
        for cell in _cells(box):
            self._boxes[cell].append(box)

    def point(self, x: float, y: float, reach: float, weight: int) -> None:
        """Something at (x, y) that takes `reach` pixels to each side and is the worse to cover, the higher `weight`."""
        for cell in _cells((x - reach, y - reach, x + reach, y + reach)):
            self._points[cell].append((x, y, reach, weight))

    def free(self, box: Box) -> bool:
        left, top, right, bottom = self._area
        if box[0] < left or box[1] < top or box[2] > right or box[3] > bottom:
            return False
        return not any(_overlap(box, other) for cell in _cells(box) for other in self._boxes.get(cell, ()))

    def covered(self, box: Box) -> int:
        """The weight of the points it would lie on."""
        near = {point for cell in _cells(box) for point in self._points.get(cell, ())}
        return sum(
            weight
            for x, y, reach, weight in near
            if box[0] - reach < x < box[2] + reach and box[1] - reach < y < box[3] + reach
        )


def place(labels: list[Label], places: Places, size: float, colour: str) -> tuple[list[Item], int]:
    """The labels as texts with lines to their points where they are not beside them; how many found no place."""
    items: list[Item] = []
    missed = 0
    ordered = sorted(labels, key=lambda label: not label.urgent)
    for number, label in enumerate(ordered):
        words = _best(label, places, size, colour) if number < _MOST else None
        if words is None:
            missed += 1
            continue
        box = extent(words)
        places.take(box)
        # From its point to the nearest place of the text, where that is not the next thing to it.
        x, y = min(max(label.x, box[0]), box[2]), min(max(label.y, box[1]), box[3])
        if abs(x - label.x) + abs(y - label.y) > 11:
            items.append(Stroke(((label.x, label.y), (x, y)), "#777777", 0.75))
        items.append(words)
    return items, missed


def _best(label: Label, places: Places, size: float, colour: str) -> Words | None:
    best, least = None, 10_000.0
    for words in _candidates(label, size, colour):
        box = extent(words)
        if not places.free(box):
            continue
        x, y = (box[0] + box[2]) / 2 - label.x, (box[1] + box[3]) / 2 - label.y
        cost = 12 * places.covered(box) + abs(y) + abs(x) / 2
        if cost < least:
            best, least = words, cost
    return best


def _candidates(label: Label, size: float, colour: str) -> Iterator[Words]:
    wide = typeface.width(label.text, size)
    for away in (9, 20, 31, 43):
        above, below = label.y - away, label.y + away + size * 0.75
        for aside in (0.0, wide / 2 + 5, -wide / 2 - 5, wide + 12, -wide - 12):
            for y in (above, below):
                yield Words(label.x + aside, y, label.text, size, colour, Anchor.MIDDLE, halo=True)
    middle = label.y + size * 0.35
    for away in (9, 22):
        yield Words(label.x + away, middle, label.text, size, colour, halo=True)
        yield Words(label.x - away, middle, label.text, size, colour, Anchor.END, halo=True)


def _cells(box: Box) -> Iterator[tuple[int, int]]:
    for column in range(int(box[0] // _CELL), int(box[2] // _CELL) + 1):
        for row in range(int(box[1] // _CELL), int(box[3] // _CELL) + 1):
            yield column, row


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
