"""Planned messages as an analyzer writes them: LIS02-A2 records and HL7 v2.5.1 ORU^R01, by the standards."""

from __future__ import annotations

from tests.hazards.plan import Part, Row, Said, Send


def records(send: Send) -> list[str]:
    """LIS02-A2: header, and per specimen patient, order and results; the terminator unless it is cut."""
    made = [rf"H|\^&|{send.control_id}||Testmaker^Hazard^1||||||||LIS2-A2|{send.time}"]
    for place, part in enumerate(send.parts, 1):
        said, action = part.said, "Q" if part.control else ""
        if not part.again:
            made.append(f"P|{place}||{said.id}||{said.name}||{said.birth}|{said.sex}")
        made.append(f"O|{1 + part.again}|{part.barcode}||^^^ALL|R||||||{action}")
        for at, row in enumerate(part.rows, 1):
            made.append(
                f"R|{at}|^^^{row.code}|{row.value}|{row.unit}|{row.reference}|{row.flag}||{row.status}||||"
                f"{_time(row, send)}"
            )
            if row.comment:
                made.append(f"C|1|I|{row.comment}|G")
    return made if send.cut else [*made, "L|1|N"]


def block(send: Send) -> bytes:
    """ORU^R01; a control's message says so in MSH-11, so it holds nothing else."""
    processing = "Q" if any(part.control for part in send.parts) else "P"
    segments = [
        rf"MSH|^~\&|HAZARD|LAB|LABORA|LAB|{send.time}||ORU^R01^ORU_R01|{send.control_id}|{processing}|2.5.1"
        "|||AL|NE||UNICODE UTF-8"
    ]
    for place, part in enumerate(send.parts, 1):
        segments += _group(part, send, place)
    return "\r".join([*segments, ""]).encode()


def _group(part: Part, send: Send, place: int) -> list[str]:
    made = [_patient(part.said, place)] if part.said != Said() and not part.again else []
    made.append(f"OBR|{place}|||ALL^All^L|||{send.time}")
    for at, row in enumerate(part.rows, 1):
        made.append(_observation(row, _time(row, send), at))
        if row.dilution:
            made.append(f"TCD|{row.code}^{row.code}^L|{row.dilution}")
        if row.comment:
            made.append(f"NTE|1|L|{row.comment}")
    if part.barcode:
        made.append(f"SPM|1|{part.barcode}||SER^Serum^HL70487|||||||||||||{send.time}")
    return made


def _time(row: Row, send: Send) -> str:
    return "" if row.time == "-" else row.time or send.time


def _patient(said: Said, place: int) -> str:
    identifier = f"{said.id}^^^LAB^MR" if said.id else ""
    return f"PID|{place}||{identifier}||{said.name}||{said.birth}|{said.sex}"


def _observation(row: Row, time: str, at: int) -> str:
    said = f"{row.value}|{row.unit}|{row.reference}|{row.flag}"
    return f"OBX|{at}|{row.type}|{row.code}^{row.code}^L||{said}|||{row.status}|||{time}"
