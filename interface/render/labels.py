"""The label of a specimen: its bar code and what a person must read, as SVG for any printer and as ZPL for Zebra's.

Lengths are whole micrometres. A bar code is never made finer than readers take it: what does not fit is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from interface.render import code128
from interface.render.code128 import QUIET_MODULES, Unprintable

# Modules of 0.25 mm, in a long code down to 0.19 mm: 10 mil and 7.5 mil, which the readers of analyzers resolve.
MODULE_UM, LEAST_MODULE_UM = 250, 190
_MARGIN_UM, _LINE_UM, _TEXT_UM = 1000, 3000, 2600
_MOST_BELOW = 24  # letters
_LETTER_UM, _BOLD_UM = 1500, 1750  # a line is cut by this width of a letter, so that nothing runs out of the label


@dataclass(frozen=True, slots=True)
class Size:
    """Of the label. `dots_per_mm`: of a ZPL printer, 8 for 203 dpi, 12 for 300, 24 for 600."""

    width_um: int = 50_000
    height_um: int = 25_000
    dots_per_mm: int = 8


@dataclass(frozen=True, slots=True)
class Label:
    """What stands on it. `lines`: above the code, the most important first; `mark`: such as STAT, in reverse."""

    barcode: str
    lines: tuple[str, ...] = ()
    below: str = ""  # beside the bar code's own text
    mark: str = ""


def svg(label: Label, size: Size = Size()) -> str:
    """A complete SVG document of the label's size. Raises Unprintable."""
    values = code128.encode(label.barcode)
    module = _module(values, size, 1)
    left = (size.width_um - module * code128.modules(values)) // 2 + QUIET_MODULES * module
    top, height = _code_place(label, size)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_mm(size.width_um)}mm" height="{_mm(size.height_um)}mm" '
        f'viewBox="0 0 {size.width_um} {size.height_um}">',
        f'<rect width="{size.width_um}" height="{size.height_um}" fill="#fff"/>',
        f'<g font-family="sans-serif" font-size="{_TEXT_UM}" fill="#000">',
    ]
    for place in range(len(label.lines)):
        weight = ' font-weight="bold"' if place == 0 else ""
        parts.append(_svg_text(_MARGIN_UM, _baseline(place), _line(label, size, place), weight))
    if label.mark:
        width = _mark_width(label)
        x = size.width_um - _MARGIN_UM - width
        parts.append(f'<rect x="{x}" y="{_MARGIN_UM - 300}" width="{width}" height="{_LINE_UM}"/>')
        parts.append(_svg_text(x + 600, _baseline(0), label.mark, ' font-weight="bold" fill="#fff"'))
    parts.append(_svg_text(_MARGIN_UM, top + height + _TEXT_UM, _cut(label.barcode, size.width_um * 2 // 3)))
    if below := _below(label):
        at_end = f' text-anchor="end" textLength="{min(len(below) * _LETTER_UM, size.width_um // 3)}"'
        parts.append(_svg_text(size.width_um - _MARGIN_UM, top + height + _TEXT_UM, below, at_end))
    parts += ["</g>", f'<path d="{_bars(values, module, left, top, height)}" fill="#000"/>', "</svg>"]
    return "\n".join(parts) + "\n"


def zpl(label: Label, size: Size = Size()) -> str:
    """One label format (ZPL II) in UTF-8. Raises Unprintable.

    The bar code's symbol characters are ours, not the printer's choice: code sets B and C by their invocation codes
    (ZPL II Programming Guide, ^BC, table "Code 128 Invocation Characters").
    """
    values = code128.encode(label.barcode, "BC", shift=False)
    dots = _module(values, size, size.dots_per_mm) * size.dots_per_mm // 1000

    def at(um: int) -> int:
        return um * size.dots_per_mm // 1000

    top, height = _code_place(label, size)
    left = (at(size.width_um) - dots * code128.modules(values)) // 2 + QUIET_MODULES * dots
    lines = ["^XA", "^CI28", f"^PW{at(size.width_um)}", f"^LL{at(size.height_um)}", "^LH0,0"]
    for place in range(len(label.lines)):
        text = _line(label, size, place)
        lines.append(_zpl_text(at(_MARGIN_UM), at(_baseline(place) - _TEXT_UM), at(_TEXT_UM), text))
    if label.mark:
        width = _mark_width(label)
        x = size.width_um - _MARGIN_UM - width
        lines.append(f"^FO{at(x)},{at(_MARGIN_UM - 300)}^GB{at(width)},{at(_LINE_UM)},{at(_LINE_UM)}^FS")
        mark = _zpl_text(at(x + 600), at(_baseline(0) - _TEXT_UM), at(_TEXT_UM), label.mark)
        lines.append(mark.replace("^A0N", "^FR^A0N", 1))
    lines.append(f"^FO{left},{at(top)}^BY{dots}^BCN,{at(height)},N,N,N^FD{_invoked(values)}^FS")
    low = at(top + height + 300)
    lines.append(_zpl_text(at(_MARGIN_UM), low, at(_TEXT_UM), _cut(label.barcode, size.width_um * 2 // 3)))
    if below := _below(label):
        x = size.width_um - _MARGIN_UM - min(len(below) * _LETTER_UM, size.width_um // 3)
        lines.append(_zpl_text(at(x), low, at(_TEXT_UM), below))
    return "\n".join([*lines, "^PQ1", "^XZ"]) + "\n"


# ---- where things are -----------------------------------------------------------------------------------------------


def _module(values: tuple[int, ...], size: Size, dots_per_mm: int) -> int:
    """The module's width in micrometres, whole dots where a printer has dots (`dots_per_mm` above 1)."""
    fits = size.width_um // code128.modules(values)
    module = min(MODULE_UM, fits)
    if dots_per_mm > 1:
        module = module * dots_per_mm // 1000 * 1000 // dots_per_mm
    if module < LEAST_MODULE_UM:
        text = f"the bar code is too long for a label of {_mm(size.width_um)} mm: no reader would take it"
        raise Unprintable(text)
    return module


def _code_place(label: Label, size: Size) -> tuple[int, int]:
    """Top and height of the bars: between the lines above and the line below."""
    top = _MARGIN_UM + len(label.lines) * _LINE_UM
    height = size.height_um - top - _LINE_UM - _MARGIN_UM
    if height < 5_000:
        raise Unprintable(f"a label of {_mm(size.height_um)} mm has no room for the bar code below its lines")
    return top, height


def _baseline(place: int) -> int:
    return _MARGIN_UM + place * _LINE_UM + _TEXT_UM - 400


def _line(label: Label, size: Size, place: int) -> str:
    """As much of a line as there is room for; the first is bold, and beside the mark."""
    room = size.width_um - 2 * _MARGIN_UM
    if place > 0:
        return _cut(label.lines[place], room)
    return _cut(label.lines[0], room - (_mark_width(label) + 500 if label.mark else 0), _BOLD_UM)


def _below(label: Label) -> str:
    """Narrower than other texts where there is little room, and not narrower than can be read."""
    return _cut(label.below, _MOST_BELOW * _LETTER_UM)


def _mark_width(label: Label) -> int:
    return len(label.mark) * 2000 + 1200


def _cut(text: str, width_um: int, letter_um: int = _LETTER_UM) -> str:
    """Of what can be seen, and so be printed, as much as there is room for."""
    most = max(width_um // letter_um, 1)
    said = "".join(letter for letter in text if letter.isprintable())
    return said if len(said) <= most else said[: most - 1] + "…"


def _mm(um: int) -> str:
    whole, rest = divmod(um, 1000)
    return f"{whole}.{rest:03d}".rstrip("0").rstrip(".")


# ---- SVG ------------------------------------------------------------------------------------------------------------


def _svg_text(x: int, y: int, text: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}"{more}>{escape(text)}</text>'


def _bars(values: tuple[int, ...], module: int, left: int, top: int, height: int) -> str:
    """One path of all bars."""

    def boxes() -> Iterator[str]:
        x, bar = left, True
        for width in code128.widths(values):
            if bar:
                yield f"M{x} {top}h{width * module}v{height}h-{width * module}z"
            x, bar = x + width * module, not bar

    return "".join(boxes())


# ---- ZPL ------------------------------------------------------------------------------------------------------------

_INVOKE_START = {code128.START["B"]: ">:", code128.START["C"]: ">;"}
_INVOKE_SWITCH = {code128.SWITCH["B"]: ("C", "B", ">6"), code128.SWITCH["C"]: ("B", "C", ">5")}
_INVOKE_VALUE = {30: ">0", 62: "><", 94: ">=", 95: ">1"}  # > ^ ~ DEL, which mean something else to the printer


def _invoked(values: tuple[int, ...]) -> str:
    """The symbol characters as ^BC's field data, without the check character, which the printer adds."""
    now = "B" if values[0] == code128.START["B"] else "C"
    parts = [_INVOKE_START[values[0]]]
    for value in values[1:-1]:
        switch = _INVOKE_SWITCH.get(value)
        if switch is not None and switch[0] == now:
            now = switch[1]
            parts.append(switch[2])
        else:
            parts.append(f"{value:02d}" if now == "C" else _INVOKE_VALUE.get(value) or chr(value + 32))
    return "".join(parts)


def _zpl_text(x: int, y: int, height: int, text: str) -> str:
    """A text field; what would be a command or a hexadecimal escape is written as one (^FH)."""
    said = "".join(f"_{ord(letter):02X}" if letter in "^~_\\" else letter for letter in text)
    return f"^FO{x},{y}^A0N,{height}^FH^FD{said}^FS"
