"""The `match` table of a link, and what links that share a port must agree on."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from interface.config.table import Table
from interface.domain.model import Protocol
from interface.driver import registry
from interface.driver.manifest import LinkFraming
from interface.errors import DriverError
from interface.settings import LinkSettings, Match, Transport, TransportType


def read_match(table: Table, transport: Transport | None) -> Match | None:
    if not table.has("match") or (inner := table.table("match")) is None:
        return None
    match = Match(inner.text("sender"), inner.text("facility"), inner.text("peer"))
    for key, expression in (("sender", match.sender), ("facility", match.facility)):
        try:
            re.compile(expression)
        except re.error as error:
            inner.problem(key, f'"{expression}" is not a regular expression: {error}')
    if match.facility and transport and transport.type is TransportType.TCP_LISTEN:
        inner.problem("facility", "is MSH-4, and HL7 v2 is not what tcp-listen carries")
    try:
        ipaddress.ip_network(match.peer or "::/0")
    except ValueError as error:
        inner.problem("peer", f"is not a network such as 10.1.2.0/24: {error}")
    if match == Match():
        inner.problem("", "asks for nothing: sender, facility or peer must be there")
    inner.close()
    return match


def sharing_problem(link: LinkSettings, other: LinkSettings, at: str, drivers: tuple[Path, ...]) -> tuple[str, str]:
    """Why two links that listen on the same address cannot share it, as (key, sentence); ("", "") when they can.

    `at`: where the other one stands.
    """
    from interface.link.shared import differing  # only those who share a port wait for its import

    if key := differing(link, other):
        return key, f"must be as in {at}: what comes to their port is read before it is known whose it is"
    if link.match == other.match:
        return "match", f"is that of {at}: nothing tells their messages apart"
    try:
        one, two = (registry.load(name, drivers) for name in (link.driver, other.driver))
    except DriverError:
        return "", ""  # said already
    if one.protocol is Protocol.HL7 and one.link is LinkFraming.LIS01:
        return "driver", f'"{one.id}" sends HL7 in LIS01-A2 frames, which cannot share a port'
    if one.link is LinkFraming.DECLARED and link.match and (link.match.sender or link.match.facility):
        return "match", f'can ask for peer only: the blocks of "{one.id}" have no header'
    for name in ("link", "blocks", "leniencies", "frame_text_bytes", "ack_colliding_enq"):
        if getattr(one, name) != getattr(two, name):
            return "driver", f'"{one.id}" and "{two.id}" of {at} frame differently ({name}): not on one port'
    return "", ""
