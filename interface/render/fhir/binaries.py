"""The report of an order as PDF: what a DiagnosticReport says of it, and the Binary that it is."""

from __future__ import annotations

from base64 import b64encode
from uuid import UUID

from interface.domain.report import Language, ReportDocument, StoredReport
from interface.domain.views import ReportView
from interface.render.fhir.parts import Json, instant, meta, without_empty
from interface.render.report_words import WORDS

PDF = "application/pdf"


def presented_form(view: ReportView, stored: StoredReport | None, hash: bytes | None, size: int | None) -> list[Json]:
    """R4 DiagnosticReport.presentedForm. `stored`: the version that says what the records say now, whose Binary never
    changes; before there is one, the Binary of the order's own id, which is the newest whenever it is read. `hash` and
    `size` once it has been printed. Nothing to present before there is a result."""
    if not view.results:
        return []
    language = stored.language if stored is not None else Language.ENGLISH
    said = {
        "contentType": PDF,
        "language": stored.language.value if stored is not None else "",
        "url": f"Binary/{stored.id if stored is not None else view.order.id}",
        "size": size,
        "hash": b64encode(hash).decode() if hash is not None else "",  # R4 Attachment.hash: SHA-1
        "title": f"{WORDS[language]['title'].capitalize()} {view.order.number}",
        "creation": instant(stored.created_at) if stored is not None else "",
    }
    return [without_empty(said)]


def binary(id: UUID, document: ReportDocument) -> Json:
    """`securityContext`: who may read the report may read it (R4 binary.html)."""
    report = document.report
    return {
        "resourceType": "Binary",
        "id": str(id),
        "meta": meta(str(report.version), report.created_at),
        "contentType": PDF,
        "securityContext": {"reference": f"DiagnosticReport/{report.order_id}"},
        "data": b64encode(document.body).decode(),
    }
