"""The page that every PDF report of the laboratory has, and what stands on it: texts, tables, drawings. By ReportLab.

A4 or Letter; the title and the laboratory above, who printed it and `page x of y` below. Letters are Arimo's and go
into the file; the same report is the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from io import BytesIO
from typing import Any, Literal
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4, LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import BaseDocTemplate, Flowable, Frame, PageTemplate, Paragraph, Table, TableStyle

from interface.domain.record import record
from interface.domain.report import Paper as Paper
from interface.render import typeface
from interface.render.drawing import BOLD, HALO, Anchor, Disc, Drawing, Stroke, Words

FONT = "Arimo"
MARGIN, _HEAD, _FOOT = 40.0, 34.0, 26.0  # points of 1/72 inch
_INK, _FAINT, _GROUND = HexColor("#222222"), HexColor("#AAAAAA"), HexColor("#EEF2F5")


_SIZES = {Paper.A4: A4, Paper.LETTER: LETTER}


@record
class Sheet:
    """What stands on every page. `printed_at` is also the file's date."""

    title: str
    laboratory: str
    printed: str  # when and by whom, in words
    printed_at: datetime
    paper: Paper = Paper.A4

    @property
    def width(self) -> float:
        """Of what is between the margins, in points."""
        return _SIZES[self.paper][0] - 2 * MARGIN


def _style(size: float, **more: Any) -> ParagraphStyle:
    return ParagraphStyle(
        f"{size}{more}", fontName=FONT, fontSize=size, leading=size * 1.25, textColor=_INK, splitLongWords=1, **more
    )


TITLE = _style(18, spaceAfter=6)
HEADING = _style(13, spaceBefore=4, spaceAfter=4, keepWithNext=1)
SUBHEADING = _style(10, spaceBefore=8, spaceAfter=3, keepWithNext=1)
BODY = _style(9, spaceAfter=3)
CELL = _style(7.5)
CELL_RIGHT = _style(7.5, alignment=2)


def said(text: str, style: ParagraphStyle = BODY) -> Paragraph:
    """A paragraph of plain text: nothing in it is markup."""
    _fonts()
    return Paragraph(escape(typeface.clean(text)) or " ", style)


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float], right: Sequence[int] = ()
) -> Table:
    """Rows under a head that is repeated on every page. `widths`: parts of the page's; `right`: columns of numbers.

    A row that is higher than a page goes on on the next.
    """
    styles = [CELL_RIGHT if column in right else CELL for column in range(len(head))]
    cells = [[said(text, style) for text, style in zip(row, styles, strict=True)] for row in (head, *rows)]
    shares = [f"{100 * width / sum(widths):.2f}%" for width in widths]
    made = Table(cells, shares, repeatRows=1, hAlign="LEFT", splitInRow=1)
    made.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, 0), _GROUND), ("LINEBELOW", (0, 0), (-1, -1), 0.4, _FAINT),
                ("VALIGN", (0, 0), (-1, -1), "TOP"), ("TOPPADDING", (0, 0), (-1, -1), 1.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2), ("LEFTPADDING", (0, 0), (-1, -1), 3),
                ("RIGHTPADDING", (0, 0), (-1, -1), 3),
            ]
        )
    )  # fmt: skip
    return made


class Picture(Flowable):
    """A drawing, as wide as the page, smaller where it would be higher than a page."""

    def __init__(self, drawing: Drawing) -> None:
        super().__init__()
        self._drawing = drawing
        self._zoom = 1.0

    def wrap(self, aW: float, aH: float) -> tuple[float, float]:
        # All of a page's height: on a page that has less left it goes to the next.
        most = _SIZES[Paper.LETTER][1] - 2 * MARGIN - _HEAD - _FOOT - 20
        self._zoom = min(aW / self._drawing.width, most / self._drawing.height)
        return self._drawing.width * self._zoom, self._drawing.height * self._zoom

    def draw(self) -> None:
        canvas: Canvas = self.canv
        canvas.saveState()
        canvas.scale(self._zoom, self._zoom)
        _paint(canvas, self._drawing)
        canvas.restoreState()


class Signatures(Flowable):
    """A line to sign on for each of these, with room for name and date."""

    def __init__(self, who: Sequence[str]) -> None:
        super().__init__()
        self._who = who
        self._wide = 0.0

    def wrap(self, aW: float, aH: float) -> tuple[float, float]:
        self._wide = aW
        return aW, 62

    def draw(self) -> None:
        canvas: Canvas = self.canv
        room = self._wide / len(self._who)
        canvas.setFillColor(_INK)
        canvas.setFont(FONT, 8)
        for at, who in enumerate(self._who):
            canvas.line(at * room, 24, (at + 1) * room - 18, 24)
            canvas.drawString(at * room, 13, who)
            canvas.drawString(at * room, 2, "name, signature, date")


def build(sheet: Sheet, story: Sequence[Flowable]) -> bytes:
    """The document. `story` is used up."""
    _fonts()
    out = BytesIO()
    width, height = _SIZES[sheet.paper]
    document = BaseDocTemplate(
        out, pagesize=(width, height), title=sheet.title, author=sheet.laboratory, creator="Labora", invariant=1
    )
    frame = Frame(
        MARGIN, MARGIN + _FOOT, width - 2 * MARGIN, height - 2 * MARGIN - _HEAD - _FOOT,
        leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0,
    )  # fmt: skip
    document.addPageTemplates([PageTemplate("page", [frame])])

    class Numbered(Canvas):
        """Keeps its pages until their number is known."""

        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self._pages: list[dict[str, Any]] = []
            at = f"{sheet.printed_at:%Y%m%d%H%M%S}"
            self.setDateFormatter(lambda *_: f"D:{at}Z")

        def showPage(self) -> None:
            self._pages.append(dict(self.__dict__))
            self._startPage()  # type: ignore[attr-defined]

        def save(self) -> None:
            for number, page in enumerate(self._pages, 1):
                self.__dict__.update(page)
                _furniture(self, sheet, number, len(self._pages))
                super().showPage()
            super().save()

    document.build(list(story), canvasmaker=Numbered)
    return out.getvalue()


def drawn(pages: Sequence[Drawing], title: str, author: str, at: datetime, language: str) -> bytes:
    """A document of pages that are drawings, each in points. `at`: the file's date."""
    _fonts()
    out = BytesIO()
    canvas = Canvas(out, invariant=1, lang=language, pageCompression=1)
    canvas.setDateFormatter(lambda *_: f"D:{at.astimezone(UTC):%Y%m%d%H%M%S}Z")
    canvas.setTitle(title)
    canvas.setAuthor(author)
    canvas.setCreator("Labora")
    for page in pages:
        canvas.setPageSize((page.width, page.height))
        _paint(canvas, page)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


@lru_cache(maxsize=1)
def _fonts() -> None:
    pdfmetrics.registerFont(TTFont(FONT, typeface.font_file()))
    pdfmetrics.registerFontFamily(FONT, normal=FONT, bold=FONT, italic=FONT, boldItalic=FONT)


def _furniture(canvas: Canvas, sheet: Sheet, number: int, of: int) -> None:
    width, height = _SIZES[sheet.paper]
    top = height - MARGIN - 8
    canvas.setFillColor(_INK)
    canvas.setStrokeColor(_FAINT)
    canvas.setLineWidth(0.5)
    canvas.setFont(FONT, 9)
    canvas.drawString(MARGIN, top, typeface.cut(sheet.title, 9, sheet.width * 0.6))
    canvas.drawRightString(width - MARGIN, top, typeface.cut(sheet.laboratory, 9, sheet.width * 0.38))
    canvas.line(MARGIN, top - 6, width - MARGIN, top - 6)
    canvas.line(MARGIN, MARGIN + 12, width - MARGIN, MARGIN + 12)
    canvas.setFont(FONT, 8)
    canvas.drawString(MARGIN, MARGIN, typeface.cut(sheet.printed, 8, sheet.width * 0.8))
    canvas.drawRightString(width - MARGIN, MARGIN, f"page {number} of {of}")


# ---- drawings -------------------------------------------------------------------------------------------------------


def _paint(canvas: Canvas, drawing: Drawing) -> None:
    """The drawing in its own pixels; PDF counts from below."""
    canvas.setLineCap(1)
    canvas.setLineJoin(1)
    for item in drawing.items:
        if isinstance(item, Words):
            _paint_words(canvas, item, drawing.height)
            continue
        if item.fill:
            canvas.setFillColor(_colour(item.fill))
        if item.colour:
            canvas.setStrokeColor(_colour(item.colour))
            canvas.setLineWidth(item.width)
        if isinstance(item, Disc):
            high = drawing.height - item.y
            canvas.circle(item.x, high, item.radius, stroke=int(bool(item.colour)), fill=int(bool(item.fill)))
        else:
            _paint_stroke(canvas, item, drawing.height)


def _paint_stroke(canvas: Canvas, item: Stroke, height: float) -> None:
    path = canvas.beginPath()
    closed = len(item.points) > 2 and item.points[0] == item.points[-1]
    for at, (x, y) in enumerate(item.points[:-1] if closed else item.points):
        (path.lineTo if at else path.moveTo)(x, height - y)
    if closed:
        path.close()
    if item.dash:
        canvas.setLineCap(0)
        canvas.setDash(list(item.dash))
    canvas.drawPath(path, stroke=int(bool(item.colour)), fill=int(bool(item.fill)))
    if item.dash:
        canvas.setDash()
        canvas.setLineCap(1)


def _paint_words(canvas: Canvas, words: Words, height: float) -> None:
    left = words.x - {Anchor.START: 0.0, Anchor.MIDDLE: 0.5, Anchor.END: 1.0}[words.anchor] * pdfmetrics.stringWidth(
        words.text, FONT, words.size
    )
    if words.halo:  # the outline first, in white, then the letters
        _text(canvas, words, left, height - words.y, 1, "#FFFFFF", HALO)
    _text(canvas, words, left, height - words.y, 2 if words.bold else 0, words.colour, words.size / BOLD)


def _text(canvas: Canvas, words: Words, x: float, y: float, mode: Literal[0, 1, 2], colour: str, width: float) -> None:
    canvas.setStrokeColor(_colour(colour))
    canvas.setFillColor(_colour(words.colour))
    canvas.setLineWidth(width)
    text = canvas.beginText(x, y)
    text.setFont(FONT, words.size)
    text.setTextRenderMode(mode)
    text.textOut(words.text)
    text.setTextRenderMode(0)
    canvas.drawText(text)


@lru_cache(maxsize=64)
def _colour(colour: str) -> Any:
    return HexColor(colour)
