"""PNG of a drawing: its SVG, rasterised by resvg with the font that Labora brings, the same on every machine."""

from __future__ import annotations

from interface.render import typeface
from interface.render.drawing import Drawing, svg

MOST_PIXELS = 40_000_000  # an image of this size is 160 MB while it is made


def png(drawing: Drawing, zoom: float = 1) -> bytes:
    """`drawing` on white, `zoom` times as large. ValueError: larger than MOST_PIXELS."""
    import resvg_py

    if drawing.width * drawing.height * zoom * zoom > MOST_PIXELS:
        raise ValueError("the picture is too large")
    return resvg_py.svg_to_bytes(
        svg_string=svg(drawing), background="#ffffff", zoom=zoom, skip_system_fonts=True,
        font_files=[typeface.font_file()], font_family="Arimo", sans_serif_family="Arimo",
    )  # fmt: skip
