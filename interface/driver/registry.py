"""Finding drivers: site folders first, then the packaged `drivers/`. Reads files and is otherwise pure."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import interface
from interface.domain.model import DecodedMessage, Protocol
from interface.driver import decode_declared, decode_hl7, decode_lis02
from interface.driver.around_hl7 import read_path
from interface.driver.capture import CapturedMessage, CaptureError, read_capture, read_declared
from interface.driver.manifest import Driver
from interface.driver.parse import parse_manifest
from interface.driver.rules import TEXT_PATH
from interface.errors import DriverError, RecordError, SegmentError
from interface.wire import hl7, lis02

MANIFEST = "driver.toml"
_ENGINES = {
    Protocol.LIS2: decode_lis02.decode,
    Protocol.HL7: decode_hl7.decode,
    Protocol.DECLARED: decode_declared.decode,
}
GENERIC = {Protocol.LIS2: "generic_lis2", Protocol.HL7: "generic_hl7"}


@dataclass(frozen=True, slots=True)
class Vector:
    """One vector of a driver folder: the trace's text and what decoding it must give."""

    name: str
    trace: Path
    expected: Path


def packaged_path() -> Path:
    """`drivers/` of the checkout, or of the installed package."""
    root = Path(interface.__file__).parent.parent
    if (root / "pyproject.toml").is_file():
        return root / "drivers"
    return Path(str(importlib.resources.files("interface"))) / "_data" / "drivers"


def search_path(site: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Where drivers are looked for, first match wins."""
    return (*site, packaged_path())


def folders(site: Sequence[Path] = ()) -> dict[str, Path]:
    """Every driver folder by its name; a site's hides a packaged one of the same name."""
    found: dict[str, Path] = {}
    for root in search_path(site):
        if root.is_dir():
            for folder in sorted(root.iterdir()):
                if (folder / MANIFEST).is_file():
                    found.setdefault(folder.name, folder)
    return found


def load(driver_id: str, site: Sequence[Path] = ()) -> Driver:
    """The driver `driver_id`. Raises DriverError when there is none or it cannot be used."""
    manifest = _folder(driver_id, site) / MANIFEST
    return _read(manifest, manifest.stat().st_mtime_ns)


def _folder(driver_id: str, site: Sequence[Path]) -> Path:
    for root in search_path(site):
        folder = root / driver_id
        # The id comes from configuration and users: it names a folder here and nothing elsewhere.
        if folder.parent == root and (folder / MANIFEST).is_file():
            return folder
    known = ", ".join(sorted(folders(site)))
    raise DriverError(f"there is no driver {driver_id!r}; known are {known or 'none'}")


def find_all(site: Sequence[Path] = ()) -> tuple[Driver, ...]:
    """All drivers by id. Raises DriverError for the first that cannot be used."""
    return tuple(load(driver_id, site) for driver_id in sorted(folders(site)))


def vectors(driver_id: str, site: Sequence[Path] = ()) -> tuple[Vector, ...]:
    """The vectors of a driver folder, by name. Raises DriverError where there is none."""
    folder = _folder(driver_id, site)
    return tuple(
        Vector(trace.stem, trace, trace.with_suffix(".expected.json"))
        for trace in sorted((folder / "vectors").glob("*.trace"))
    )


def sniff(protocol: Protocol, header: bytes, site: Sequence[Path] = ()) -> Driver:
    """The driver whose `match` fits the header (the message's first bytes will do), else the generic one.

    Two drivers that both fit are no answer: generic. Raises DriverError where the protocol has no generic one: records
    that a driver lays out itself say nothing to another.
    """
    fitting = [driver for driver in _candidates(protocol, site) if recognises(driver, header)]
    if len(fitting) == 1:
        return fitting[0]
    if protocol not in GENERIC:
        raise DriverError("no driver, or more than one, knows these records; say which one is to read them")
    return load(GENERIC[protocol], site)


def read(data: bytes, driver: Driver | None = None, site: Sequence[Path] = ()) -> tuple[CapturedMessage, ...]:
    """Every message of a capture, in order; `driver`: whose framing it has, else what fits. Raises CaptureError.

    A driver's own framing is taken only where every block of it is good and is of that driver alone.
    """
    if driver is not None:
        return read_declared(data, driver.blocks, driver.protocol) if driver.blocks else read_capture(data)
    fitting = []
    for one in find_all(site):
        if one.blocks is not None and not (one.generic or one.named_only) and one.match:
            try:
                messages = read_declared(data, one.blocks, one.protocol)
            except CaptureError:
                continue
            if all(message.whole and recognises(one, message.text) for message in messages):
                fitting.append(messages)
    return fitting[0] if len(fitting) == 1 else read_capture(data)


def recognises(driver: Driver, header: bytes) -> bool:
    """Whether the message's header is of the analyzer that the driver is written for. A generic driver takes all."""
    if driver.generic:
        return True
    try:
        if driver.protocol is Protocol.LIS2:
            record = lis02.parse(header, driver.encoding or lis02.DEFAULT_ENCODING).header
            return driver.recognises(decode_lis02.sniffed_header(driver, record))
        if driver.protocol is Protocol.DECLARED:
            return driver.recognises({TEXT_PATH: decode_declared.read_text(driver, header)})
        segments = {"MSH": hl7.header_of(header, driver.encoding)}
    except (RecordError, SegmentError):
        return False
    return driver.recognises({rule.path: read_path(segments, rule.path) for rule in driver.match})


def decode(driver: Driver, text: bytes, encoding: str = "") -> DecodedMessage:
    """Decode one assembled message, HL7 block or declared block by the driver's protocol. Never raises on any bytes."""
    return _ENGINES[driver.protocol](driver, text, encoding)


def _candidates(protocol: Protocol, site: Sequence[Path]) -> Iterator[Driver]:
    return (
        driver for driver in find_all(site) if driver.protocol is protocol and not (driver.generic or driver.named_only)
    )


@cache
def _read(file: Path, changed_ns: int) -> Driver:
    """One manifest, read again when its file has changed (`changed_ns` is part of the cache's key)."""
    del changed_ns
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DriverError(f"{file}: cannot be read: {error}") from error
    return parse_manifest(text, str(file), file.parent.name)
