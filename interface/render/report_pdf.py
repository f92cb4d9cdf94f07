"""The report of an order as PDF: text that can be selected, letters in the file, the same content the same bytes."""

from __future__ import annotations

from interface.domain.report import Language, OrderReport, Paper
from interface.render.pdf import drawn
from interface.render.report_layout import pages


def pdf(report: OrderReport, paper: Paper = Paper.A4, language: Language = Language.ENGLISH) -> bytes:
    """The document, dated by the version's own time."""
    made = pages(report, paper, language)
    return drawn(made, made[0].title, report.header.laboratory, report.issued_at or report.ordered_at, language.value)
