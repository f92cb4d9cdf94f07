"""A control whose result stands in its order, without a record of its own: a driver's `[control]`. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields

from interface.domain.model import Protocol
from interface.domain.table import Table
from interface.driver.paths import PATH
from interface.driver.rules import FieldPath

_ORDERS = {Protocol.HL7: "OBR", Protocol.LIS2: "O"}


@dataclass(frozen=True, slots=True)
class OrderValue:
    """Where the parts stand, all in the order (OBR, O). `specimen_id`: what the control is called."""

    specimen_id: tuple[FieldPath, ...]
    code: tuple[FieldPath, ...]
    value: tuple[FieldPath, ...]
    name: tuple[FieldPath, ...] = ()
    unit: tuple[FieldPath, ...] = ()
    instrument_time: tuple[FieldPath, ...] = ()
    control_lot: tuple[FieldPath, ...] = ()
    level: tuple[FieldPath, ...] = ()


def read_order_value(root: Table, protocol: Protocol) -> OrderValue | None:
    """`[control]`. Says what is wrong to the table."""
    table = root.table("control")
    if not table.raw:
        return None
    places = {one.name: table.forms(one.name, PATH) or () for one in fields(OrderValue)}
    order = _ORDERS.get(protocol, "")
    if not order:
        table.say(table.path, "is for HL7 and LIS2")
    elif any(path.record != order for found in places.values() for path in found):
        table.say(table.path, f"all of it stands in {order}")
    for name in ("specimen_id", "code", "value"):
        if not places[name]:
            table.say(table.at(name), "is missing: without it the control is none")
    return OrderValue(**places)
