"""What only the link of a hospital may say, and what it may not."""

from __future__ import annotations

from dataclasses import dataclass

from interface.config.table import Table
from interface.settings import LinkRole, OrderReply, Transport, TransportType

_OWN_KEYS = ("authority", "authorities", "order_reply")
# About results and whose they are: a hospital sends none.
_ANALYZER_KEYS = ("analyzer", "rules", "unsolicited", "barcode", "control_ids", "name_mismatch", "leniencies")
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class HospitalKeys:
    authority: str = ""
    authorities: tuple[tuple[str, str], ...] = ()
    order_reply: OrderReply = OrderReply.APPLICATION


def read_hospital(table: Table, role: LinkRole, transport: Transport | None) -> HospitalKeys:
    """The keys of a hospital's link; a key on a link of the other role is a problem."""
    if role is not LinkRole.HOSPITAL:
        for key in _OWN_KEYS:
            if table.has(key):
                table.get(key)
                table.problem(key, 'is of use only with role = "hospital"')
        return HospitalKeys()
    for key in _ANALYZER_KEYS:
        if table.has(key):
            table.problem(key, 'is about an analyzer\'s results, of which a link with role = "hospital" has none')
    if transport and transport.type not in (TransportType.MLLP_LISTEN, TransportType.MLLP_DIAL):
        table.problem("transport.type", f"a hospital speaks HL7 v2 over MLLP, which {transport.type} does not carry")
    return HospitalKeys(
        _name(table, "authority", table.text("authority")),
        _authorities(table),
        table.choice("order_reply", OrderReply.APPLICATION),
    )


def _authorities(table: Table) -> tuple[tuple[str, str], ...]:
    if not table.has("authorities") or (inner := table.table("authorities")) is None:
        return ()
    found = tuple((name, _name(inner, name, inner.text(name, required=True))) for name in inner.names)
    inner.close()
    return found


def _name(table: Table, key: str, text: str) -> str:
    if text != text.strip() or len(text) > _LONGEST or not text.isprintable():
        table.problem(key, "is not the name of an authority, such as HOSP or urn:oid:1.2.3")
        return ""
    return text
