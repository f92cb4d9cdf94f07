"""Invented reports of orders: the usual one, the worst that names and numbers can do, and one to correct."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from interface.domain.model import ItemStatus, Priority, ResultStatus, Sex
from interface.domain.report import Earlier, Former, Header, Line, Number, Open, OrderReport, Person, Tube

AT = datetime(2026, 2, 3, 3, 0, tzinfo=UTC)
LONG = "Pemeriksaan laboratorium klinik dengan nama yang sangat panjang sekali untuk menguji tata letak halaman"
UNBROKEN = "Hydroxymethylglutaryl" * 12


def line(at: int, **changed: Any) -> Line:
    known: dict[str, Any] = {
        "test": f"T{at}", "name": f"Test {at}", "status": ResultStatus.FINAL, "version": 1,
        "value": f"{at}.50", "number": Decimal(f"{at}.50"), "unit": "mmol/L", "low": Decimal("3.9"),
        "high": Decimal("5.6"), "flags": ("N",), "department": "Chemistry", "specimen": "BC-1", "made_at": AT,
        "released_by": "S. Wijaya",
        "earlier": tuple(
            Earlier(AT - timedelta(days=30 * back), f"{at}.{back}", Decimal(f"{at}.{back}"))
            for back in (1, 2, 3)
        ),
    }  # fmt: skip
    return Line(**known | changed)


def usual() -> OrderReport:
    lines = (
        line(4), line(7, flags=("H",), comments=("Slight haemolysis.",)),
        line(9, name="Potassium", value="7.1", number=Decimal("7.1"), flags=("HH",), by_rules=True,
             released_by="chemistry 4"),
        line(10, name="C-reactive protein", value="<0.5", number=Decimal("0.5"), unit="mg/L", low=None,
             flags=("<",), verified_by="A. Putri"),
        line(11, name="Blood film", value="Anisocytosis", number=None, unit="", low=None, high=None,
             reference="no abnormal cells", flags=("A",), department="Haematology", specimen="BC-2", earlier=()),
    )  # fmt: skip
    return OrderReport(
        Header(
            "Laboratorium Klinik Sehat", "Jl. Sudirman 45, Bandung", "+62 22 1234567", "dr. S. Wijaya, Sp.PK",
            "ISO 15189: LM-123-IDN", "Asia/Jakarta",
        ),
        "N-2026-000123", "final", Priority.STAT, AT - timedelta(hours=5),
        Person("Muster", "Eva Maria", date(1980, 5, 1), Sex.FEMALE,
               (Number("urn:hospital", "0012345678"), Number("", "L-99"))),
        "PL-77", "Dr. Meyer", "ICU 3", "Fever since three days.",
        (
            Tube("BC-1", "Serum", AT - timedelta(hours=4), AT - timedelta(hours=3)),
            Tube("BC-2", "EDTA blood", AT - timedelta(hours=4), AT - timedelta(hours=3)),
        ),
        lines, (), 1, AT,
    )  # fmt: skip


def corrected() -> OrderReport:
    report = usual()
    former = Former("5.1", "mmol/L", ResultStatus.FINAL, AT - timedelta(hours=2), "3.9 - 5.6", ("N",))
    changed = replace(report.lines[1], status=ResultStatus.CORRECTED, version=2, before=(former,))
    withdrawn = replace(
        report.lines[0], status=ResultStatus.ENTERED_IN_ERROR, value="", number=None, flags=(), released_by="",
        before=(replace(former, value="4.5"),),
    )  # fmt: skip
    return replace(
        report, status="corrected", lines=(withdrawn, changed, *report.lines[2:]), version=2,
        replaces_at=AT - timedelta(hours=1), replaces=1,
    )  # fmt: skip


def preliminary() -> OrderReport:
    report = usual()
    early = replace(report.lines[0], status=ResultStatus.PRELIMINARY)
    unfit = Tube("BC-3", "Urine", None, AT, "haemolysed, please send another")
    return replace(
        report, status="partial", lines=(early, *report.lines[1:]), tubes=(*report.tubes, unfit),
        open=(Open("UR", "Urine status", ItemStatus.REJECTED, "", "specimen unfit"),
              Open("CULT", "Urine culture", ItemStatus.REQUESTED)),
    )  # fmt: skip


def worst() -> OrderReport:
    """Sixty results, and everything as long as anybody can write it."""
    report = corrected()
    many = [
        line(at, name=LONG if at % 3 else f"Test {at}", value=LONG * 3 if at % 7 == 0 else f"{at}.50",
             unit="10*9/L", reference=LONG if at % 5 == 0 else "", flags=("HH", "U") if at % 4 else ("N",),
             comments=(LONG, UNBROKEN) if at % 6 == 0 else (), department=LONG if at > 40 else "Chemistry",
             released_by=LONG if at % 9 == 0 else "S. Wijaya", before=report.lines[1].before if at % 8 == 0 else ())
        for at in range(1, 61)
    ]  # fmt: skip
    header = Header(LONG, LONG * 2, LONG, LONG, LONG * 2, "Asia/Jakarta")
    numbers = tuple(Number(LONG, UNBROKEN[:40] + str(at)) for at in range(4))
    return replace(
        report, header=header, lines=(*report.lines, *many), person=Person(LONG, UNBROKEN, None, Sex.UNKNOWN, numbers),
        requester=LONG, ward=LONG, history=LONG * 4, number=UNBROKEN[:60], placer_number=UNBROKEN[:60],
        tubes=tuple(Tube(f"BC-{at}", LONG, AT, AT, LONG if at == 2 else "") for at in range(1, 6)),
        open=tuple(Open("X", LONG, status, "", LONG) for status in ItemStatus),
    )  # fmt: skip
