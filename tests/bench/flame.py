"""A flame graph as a picture, of stacks of names with how often each was seen; the outermost is below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from zlib import crc32

WIDTH, ROW, LEAST, LETTER = 1200.0, 17, 0.002, 6.6  # pixels; what is narrower than LEAST of all is not drawn


@dataclass(slots=True)
class _Node:
    count: int = 0
    above: dict[str, _Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Box:
    """A function in one place: where it begins and how wide it is, of all, and how deep."""

    name: str
    start: float
    share: float
    depth: int


def _tree(stacks: Counter[tuple[str, ...]]) -> _Node:
    root = _Node()
    for stack, count in stacks.items():
        node = root
        node.count += count
        for name in stack:
            node = node.above.setdefault(name, _Node())
            node.count += count
    return root


def boxes(stacks: Counter[tuple[str, ...]]) -> list[Box]:
    """Every box that is wide enough to be seen; side by side in the order of the names, as in any flame graph."""
    root = _tree(stacks)
    total = root.count

    def of(node: _Node, start: int, depth: int) -> Iterator[Box]:
        for name, above in sorted(node.above.items()):
            if above.count >= LEAST * total:
                yield Box(name, start / total, above.count / total, depth)
                yield from of(above, start, depth + 1)
            start += above.count

    return list(of(root, 0, 0))


def flame_graph(stacks: Counter[tuple[str, ...]], title: str) -> str:
    """SVG; a box says its name and share where the pointer is."""
    drawn = boxes(stacks)
    height = (max((box.depth for box in drawn), default=0) + 3) * ROW
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height}" font-family="monospace"'
        ' font-size="11">',
        f'<rect width="{WIDTH:.0f}" height="{height}" fill="#fff"/>',
        f'<text x="4" y="{ROW - 4}">{escape(title)}</text>',
    ]
    for box in drawn:
        x, y, wide = box.start * WIDTH, height - (box.depth + 1.5) * ROW, box.share * WIDTH
        hue = 20 + crc32(box.name.partition(".")[0].encode()) % 200  # a module has its colour
        letters = int((wide - 4) / LETTER)
        label = box.name if len(box.name) <= letters else box.name[: letters - 1] + "…" if letters > 3 else ""
        text = f'<text x="{x + 2:.1f}" y="{y + ROW - 5:.1f}">{escape(label)}</text>' if label else ""
        lines.append(
            f'<g><title>{escape(box.name)}: {box.share:.1%}</title><rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}"'
            f' height="{ROW - 1}" rx="1" fill="hsl({hue},70%,78%)"/>{text}</g>'
        )
    return "\n".join([*lines, "</svg>", ""])
