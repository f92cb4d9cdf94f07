"""When a sender's own clock says that it made a message, and in which zone its times are."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from interface.domain.model import Protocol
from interface.domain.times import instrument_instant, offset_by_rote, zone_of_sender
from interface.wire.charsets import raw_header


def sent_at(
    protocol: str, text: bytes, zone: tzinfo, by_rote: timedelta | None = None, came_at: datetime | None = None
) -> datetime | None:
    """Of a message's beginning, with its header: H.14 of LIS02-A2, MSH-7 of HL7 v2. None where it says none.
    `by_rote`: an offset that says nothing; `came_at`: when it came."""
    said = _said(protocol, text)
    return None if said is None else instrument_instant(said, zone, by_rote, came_at)


def zone_of(text: bytes, zone: tzinfo, came_at: datetime) -> tzinfo:
    """The zone of the times of an HL7 message that name none; `zone`: the link's. v2.5.1 2.14.9.7: that of MSH-7."""
    said = _said(Protocol.HL7, text)
    return zone if said is None else zone_of_sender(said, zone, came_at)


def rote_of(text: bytes, zone: tzinfo) -> timedelta | None:
    """The offset that such a message has by rote, `zone` being that of its times: in those it says nothing either."""
    said = _said(Protocol.HL7, text)
    return None if said is None else offset_by_rote(said, zone)


def _said(protocol: str, text: bytes) -> str | None:
    # What is tolerated before an MSH, such as a byte order mark, is before its time as well.
    header = raw_header(text) if protocol == Protocol.HL7 else text.partition(b"\r")[0]
    # LIS02-A2 6.3: the delimiter follows the H and is field 2. HL7 v2.5.1 2.14.9.1: it follows MSH and is field 1.
    if protocol == Protocol.LIS2 and header[:1] in (b"H", b"h"):
        fields, at = header.split(header[1:2] or b"|"), 13
    elif protocol == Protocol.HL7 and header:
        fields, at = header.split(header[3:4] or b"|"), 6
    else:
        return None
    return fields[at].decode("latin-1") if len(fields) > at else None
