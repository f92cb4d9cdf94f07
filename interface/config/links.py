"""The `[[link]]` tables: each becomes a `LinkSettings`, and what two links cannot share is a problem."""

from __future__ import annotations

import codecs
import ipaddress
import os
from pathlib import Path
from zoneinfo import ZoneInfo

from interface.config.alerts import read_working_hours
from interface.config.barcodes import read_barcode, read_patterns
from interface.config.hospital import read_hospital
from interface.config.match import read_match, sharing_problem
from interface.config.table import Table, hint, parse_line_format
from interface.config.tls import read_tls
from interface.driver import registry
from interface.driver.manifest import LinkFraming
from interface.driver.revisions import split_pin
from interface.errors import DriverError
from interface.settings import (
    WINDOW_DAYS,
    WIRE_LOG_MB,
    AckPolicy,
    Address,
    ApiSettings,
    DialTls,
    Folder,
    LinkRole,
    LinkSettings,
    ListenTls,
    NameMismatch,
    OnStoreFailure,
    SerialPort,
    Transport,
    TransportType,
    Unsolicited,
)
from interface.wire.datalink_events import Leniency
from interface.wire.frames import FRAME_OVERHEAD_BYTES, LEGACY_TEXT_BYTES, MAX_TEXT_BYTES

MAX_FRAME_BYTES, LEGACY_FRAME_BYTES = MAX_TEXT_BYTES + FRAME_OVERHEAD_BYTES, LEGACY_TEXT_BYTES + FRAME_OVERHEAD_BYTES
_MOST_BYTES = 256 * 1024 * 1024
_BYTES, _MLLP = frozenset({LinkFraming.LIS01, LinkFraming.DECLARED}), frozenset({LinkFraming.MLLP})
_CARRIES = {
    TransportType.TCP_LISTEN: _BYTES,
    TransportType.MLLP_LISTEN: _MLLP,
    TransportType.TCP_DIAL: _BYTES,
    TransportType.MLLP_DIAL: _MLLP,
    TransportType.SERIAL: _BYTES,
    TransportType.FOLDER: _BYTES | _MLLP,
}
_LISTENERS = (TransportType.TCP_LISTEN, TransportType.MLLP_LISTEN)
SHORTEST_IDLE_S = 10.0
_FRAME_LINK_KEYS = ("leniencies", "max_frame_bytes", "frame_text_bytes", "ack_colliding_enq")
_LISTENER_KEYS = ("allow", "max_connections", "takeover", "match")
_NETWORK_KEYS = ("idle_s", "tls")
_HL7_LINK_KEYS = ("ack", "outstanding", "mllp_release", "answer_wait_s", "offset_by_rote")
_SENDER_KEYS = ("download", "send_attempts")
BAUDS = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400)
_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104  compared with, never bound
_ASCII = "".join(map(chr, range(0x20, 0x7F)))


def read_link(table: Table, driver_path: tuple[Path, ...]) -> LinkSettings | None:
    default_bytes = 16 * 1024 * 1024
    role = table.choice("role", LinkRole.ANALYZER)
    transport = _transport(table.table("transport", required=True))
    hospital = read_hospital(table, role, transport)
    if transport:
        _say_what_is_of_no_use(table, transport)
    driver_id, driver_revision = _driver(table, driver_path, transport)
    link = LinkSettings(
        id=table.name("id", required=True),
        organization=table.name("organization", required=True),
        driver=driver_id,
        driver_revision=driver_revision,
        transport=transport or Transport(TransportType.TCP_LISTEN, Address("127.0.0.1", 0)),
        role=role,
        analyzer=table.name("analyzer"),
        encoding=_encoding(table),
        timezone=_timezone(table),
        offset_by_rote=table.flag("offset_by_rote") is True,
        rules=table.name("rules", "default"),
        unsolicited=table.choice("unsolicited", Unsolicited.HOLD),
        racks=table.flag("racks") is True,
        barcode=read_barcode(table),
        orders_stale_after_s=table.seconds("orders_stale_after_s", 0.0, 0.0, 366 * 86400.0),
        down_after_s=table.seconds("down_after_s", 0.0, 0.0, 366 * 86400.0),
        specimen_window_days=table.whole("specimen_window_days", WINDOW_DAYS, 0, 3660),
        control_ids=read_patterns(table, "control_ids"),
        name_mismatch=table.choice("name_mismatch", NameMismatch.IGNORE),
        on_store_failure=table.choice("on_store_failure", OnStoreFailure.AR),
        allow=_allow(table),
        max_connections=table.whole("max_connections", 32, 1, 1024),
        max_message_bytes=table.whole("max_message_bytes", default_bytes, 64 * 1024, _MOST_BYTES),
        leniencies=_leniencies(table),
        # E1381-91 sends frames of 247 bytes, which every receiver must take
        max_frame_bytes=table.whole("max_frame_bytes", MAX_FRAME_BYTES, LEGACY_FRAME_BYTES, _MOST_BYTES),
        frame_text_bytes=table.whole("frame_text_bytes", 0, 1, MAX_TEXT_BYTES),
        ack_colliding_enq=table.flag("ack_colliding_enq"),
        takeover=table.flag("takeover") is not False,
        idle_s=_idle_s(table),
        tls=_tls(table, transport),
        match=read_match(table, transport),
        ack=table.choice("ack", AckPolicy.AS_SENT),
        outstanding=table.whole("outstanding", 16, 1, 16),
        mllp_release=table.whole("mllp_release", 1, 1, 2),
        download=table.flag("download") is True,
        send_attempts=table.whole("send_attempts", 6, 1, 100),
        answer_wait_s=table.seconds("answer_wait_s", 30.0, 1.0, 600.0),
        authority=hospital.authority,
        authorities=hospital.authorities,
        order_reply=hospital.order_reply,
        wire_log_mb=table.whole("wire_log_mb", WIRE_LOG_MB, 1, 65_536),
        silent_after_s=table.seconds("silent_after_s", 0.0, 0.0, 31 * 86400.0),
        working_hours=read_working_hours(table, "working_hours"),
    )
    table.close()
    return link


def _say_what_is_of_no_use(table: Table, transport: Transport) -> None:
    """Keys that say nothing on such a transport: whoever wrote them expects something that will not be."""
    kind, carries = transport.type, _CARRIES[transport.type]
    useless = (
        (kind not in _LISTENERS, _LISTENER_KEYS, f"is of no use with {kind}: nobody connects to this link"),
        (LinkFraming.LIS01 not in carries, _FRAME_LINK_KEYS, f"is about LIS01-A2, which {kind} does not carry"),
        (not isinstance(transport.endpoint, Address), _NETWORK_KEYS, f"is of no use with {kind}, which has no network"),
        (kind is TransportType.FOLDER, _SENDER_KEYS, "is of no use with folder: nothing can be said to it"),
        (LinkFraming.MLLP not in carries, _HL7_LINK_KEYS, "is of use only on a link that carries HL7 v2"),
    )
    for so, keys, why in useless:
        for key in keys:
            if so and table.has(key):
                table.problem(key, why)


def _leniencies(table: Table) -> frozenset[str]:
    names = table.texts("leniencies")
    for index, name in enumerate(names):
        if name not in list(Leniency):
            known = f"is not one of {', '.join(Leniency)}{hint(name, list(Leniency))}"
            table.problem(f"leniencies[{index}]", f'"{name}" {known}')
    return frozenset(names)


def _idle_s(table: Table) -> float:
    idle_s = table.seconds("idle_s", 86400.0, 0.0, 366 * 86400.0)
    if 0.0 < idle_s < SHORTEST_IDLE_S:
        table.problem("idle_s", f"{idle_s:g} is neither 0 (never) nor at least {SHORTEST_IDLE_S:g} seconds")
    return idle_s


def _tls(table: Table, transport: Transport | None) -> ListenTls | DialTls | None:
    if not table.has("tls"):
        return None
    inner = table.table("tls")
    if inner is None or transport is None or not isinstance(transport.endpoint, Address):
        return None
    return read_tls(inner, dials=transport.type.dials)


def _transport(table: Table | None) -> Transport | None:
    if table is None:
        return None
    kind = table.text("type", required=True)
    supported = ", ".join(TransportType)
    if kind and kind not in list(TransportType):
        table.problem("type", f'"{kind}" is not one of {supported}{hint(kind, list(TransportType))}')
    endpoint = _endpoint(table, kind)
    table.close()
    return Transport(TransportType(kind), endpoint) if endpoint and kind in list(TransportType) else None


def _endpoint(table: Table, kind: str) -> Address | SerialPort | Folder | None:
    if kind == TransportType.SERIAL:
        return _serial_port(table)
    if kind == TransportType.FOLDER:
        return _folder(table)
    if kind not in (TransportType.TCP_DIAL, TransportType.MLLP_DIAL):
        return table.address("listen")
    peer = table.address("dial")
    if peer and (not peer.port or peer.host in _ANY_ADDRESS):
        table.problem("dial", f"{peer} is not a host that can be dialled")
        return None
    return peer


def _serial_port(table: Table) -> SerialPort | None:
    default = SerialPort(Path())
    path = table.text("port", required=True)
    if path and not path.startswith("/"):
        table.problem("port", f'"{path}" must be an absolute path such as /dev/serial/by-id/…, see `labora link ports`')
        path = ""
    baud = table.whole("baud", default.baud, BAUDS[0], BAUDS[-1])
    if baud not in BAUDS:
        table.problem("baud", f"{baud} is not one of {', '.join(map(str, BAUDS))}")
    line_format = default.format
    try:
        line_format = parse_line_format(table.text("format", str(default.format)))
    except ValueError as error:
        table.problem("format", str(error))
    return SerialPort(Path(path), baud, line_format) if path else None


def _folder(table: Table) -> Folder | None:
    default = Folder(Path())
    path, pattern = table.text("path", required=True), table.text("pattern", default.pattern)
    stable_s = table.seconds("stable_s", default.stable_s, 0.0, 3600.0)
    if "/" in pattern or not pattern:
        table.problem("pattern", f'"{pattern}" is not a pattern for names of files such as *.hl7')
    if path and not path.startswith("/"):
        table.problem("path", f'"{path}" must be an absolute path')
        path = ""
    return Folder(Path(path), pattern, stable_s) if path else None


def _driver(table: Table, driver_path: tuple[Path, ...], transport: Transport | None) -> tuple[str, str]:
    """The driver's id, once its folder could be read and speaks what the transport carries, and the revision named."""
    name, revision = split_pin(table.text("driver", "", required=True))
    if not name:
        return "", ""
    known = registry.folders(driver_path)
    if name not in known:
        places = ", ".join(str(folder) for folder in registry.search_path(driver_path))
        table.problem("driver", f'there is no driver "{name}" in {places}{hint(name, sorted(known))}')
        return name, revision
    try:
        driver = registry.load(name, driver_path)
    except DriverError as error:
        table.problem("driver", str(error))
        return name, revision
    if transport and driver.link not in _CARRIES[transport.type]:
        speaks = driver.protocol if driver.link is not LinkFraming.DECLARED else "blocks of its own"
        table.problem("driver", f'"{name}" speaks {speaks}, which {transport.type} does not carry')
    return name, revision


def _encoding(table: Table) -> str:
    encoding = table.text("encoding")
    if not encoding:
        return ""
    try:
        # Frames, records and segments are split at ASCII characters, so an encoding must leave these as they are.
        if codecs.encode(_ASCII, encoding) == _ASCII.encode("ascii"):
            return encoding
    except (LookupError, UnicodeError, ValueError, TypeError):
        table.problem("encoding", f'"{encoding}" is not a character encoding Python knows')
    else:
        table.problem("encoding", f'"{encoding}" changes ASCII characters and cannot carry LIS02-A2 or HL7 v2')
    return ""


def _timezone(table: Table) -> str:
    zone = table.text("timezone", "UTC")
    if zone == "UTC":
        return zone
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, LookupError):
        if not _has_zones():
            table.problem("timezone", "this machine has no time zone database: install tzdata")
        else:
            table.problem("timezone", f'"{zone}" is not an IANA time zone such as Asia/Jakarta')
        return "UTC"
    return zone


def _has_zones() -> bool:
    try:
        ZoneInfo("Europe/Paris")
    except (OSError, LookupError):
        return False
    return True


def _allow(table: Table) -> tuple[str, ...]:
    networks = table.texts("allow")
    for index, text in enumerate(networks):
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            table.problem(f"allow[{index}]", f"is not a network such as 10.1.2.0/24: {error}")
    return networks


def unique(root: Table, api: ApiSettings, links: list[LinkSettings | None], driver_path: tuple[Path, ...]) -> None:
    """No two links share an id, and nothing shares an address, a serial port or a folder, but links with a `match`."""
    ids: dict[str, str] = {}
    taken: list[tuple[Address | SerialPort | Folder, str, str, LinkSettings | None]] = []
    taken.append((api.listen, "api.listen", "", None))
    for index, link in enumerate(links):
        if link is None:
            continue
        at = f"link[{index}]"
        if link.id and (first := ids.setdefault(link.id, at)) != at:
            root.problem(f"{at}.id", f'"{link.id}" is already the id of {first}')
        endpoint = link.transport.endpoint
        place = f"{at}.transport.{_key(link.transport)}"
        for other, path, other_at, other_link in taken:
            if not _overlap(endpoint, other):
                continue
            if other_link is not None and link.match and other_link.match and endpoint == other:
                key, text = sharing_problem(link, other_link, other_at, driver_path)
                key = f"{at}.{key}" if key else ""
            else:
                shown = endpoint if isinstance(endpoint, Address) else endpoint.path
                key, text = place, f"{shown} is already taken by {path}"
                if other_link is not None and (link.match or other_link.match):
                    text += "; links share a port where each has a match"
            if key:
                root.problem(key, text)
                break
        taken.append((endpoint, place, at, link))


def _key(transport: Transport) -> str:
    """Where in the transport's table its endpoint stands."""
    if isinstance(transport.endpoint, Address):
        return "dial" if transport.type.dials else "listen"
    return "port" if isinstance(transport.endpoint, SerialPort) else "path"


def _overlap(one: Address | SerialPort | Folder, other: Address | SerialPort | Folder) -> bool:
    if not isinstance(one, Address) and not isinstance(other, Address):
        return os.path.realpath(one.path) == os.path.realpath(other.path)  # /dev/serial/by-id/… are other names
    if not isinstance(one, Address) or not isinstance(other, Address):
        return False
    if one.port != other.port or not one.port:
        return False
    hosts = {"127.0.0.1" if host == "localhost" else host for host in (one.host, other.host)}
    return len(hosts) == 1 or bool(hosts & _ANY_ADDRESS)
