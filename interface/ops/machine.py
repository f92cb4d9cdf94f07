"""What the machine itself tells: room on its disks, its clock, certificates, systemd's units.

Each function looks at one thing and takes thresholds from the table beside it; none needs the database.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from interface.domain.alerts import AlertKind, Severity, Subject
from interface.ops.findings import Finding
from interface.settings import ApiSettings, DialTls, ListenTls, Settings

GIB: Final = 1 << 30

# ---- which machine --------------------------------------------------------------------------------------------------


def name(settings: Settings) -> str:
    """Of this machine among those of the laboratory (docs/standby.md); "" where it is the only one."""
    standby = settings.standby
    return standby.name or (socket.gethostname() if standby.enabled else "")


def named(subject: Subject, machine: str) -> Subject:
    """The same of a machine, so that two that have the same units are told apart."""
    return Subject(subject.thing, f"{subject.name} on {machine}".strip()) if machine else subject


CONFIGURATION: Final = Subject("configuration", "configuration")  # of its daemon, which sees itself what it may read


def is_of(subject: Subject, machine: str) -> bool:
    """Whether it is this machine's; all is of the only one."""
    return not machine or f" {subject.name}".endswith(f" on {machine}")


# ---- disks ----------------------------------------------------------------------------------------------------------

# Less than this share free, and less than so many bytes: a large disk is not full at 15 %.
_ROOM: Final = ((Severity.URGENT, 0.05, 10 * GIB), (Severity.WARNING, 0.15, 50 * GIB))
_FEW_FILES: Final = 0.05  # free inodes


@dataclass(frozen=True, slots=True)
class Room:
    """What is left on a file system for an ordinary user. `files`: the share of inodes, 1.0 where it has no bound."""

    path: Path
    free: int
    total: int
    files: float
    device: int = 0

    @property
    def share(self) -> float:
        return self.free / self.total if self.total else 1.0


def rooms(paths: Iterable[Path]) -> Iterator[Room]:
    """One for each file system on which these lie; of what is not there, or not to be seen, its nearest folder."""
    seen: set[int] = set()
    for path in paths:
        at = next((folder for folder in (path, *path.parents) if os.path.exists(folder)), Path("/"))
        try:
            device, found = at.stat().st_dev, os.statvfs(at)
        except OSError:
            continue
        if device not in seen:
            seen.add(device)
            files = found.f_favail / found.f_files if found.f_files else 1.0
            yield Room(at, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, files, device)


def unseen(paths: Iterable[Path]) -> Iterator[Finding]:
    """Of folders that were named to be watched, those whose room cannot be looked at: nobody would be told of it."""
    for path in paths:
        try:
            os.statvfs(path)
        except (OSError, ValueError) as error:  # ValueError: it cannot be a path
            text = f"its room cannot be looked at: {getattr(error, 'strerror', None) or error}"
            yield Finding(AlertKind.DISK, Subject("disk", str(path)), Severity.WARNING, text, f"namei -l {path}")


def disk(room: Room) -> Finding:
    """Whether a file system has room enough."""
    subject = Subject("disk", str(room.path))
    text = f"{room.free / GIB:.1f} GiB of {room.total / GIB:.1f} free ({room.share:.0%})"
    command = f"du -xh --max-depth=2 {room.path} | sort -h | tail"
    for severity, share, most in _ROOM:
        if room.share < share and room.free < most:
            return Finding(AlertKind.DISK, subject, severity, text, command)
    if room.files < _FEW_FILES:
        return Finding(AlertKind.DISK, subject, Severity.WARNING, f"{room.files:.0%} of its inodes free", command)
    return Finding(AlertKind.DISK, subject, None, text)


# ---- the clock ------------------------------------------------------------------------------------------------------

_APART: Final = ((Severity.URGENT, 60.0), (Severity.WARNING, 2.0))  # seconds between this clock and the database's
_STEP_S: Final = 2.0
_STEP_TOLD_S: Final = 3600.0
_TIMESYNCD: Final = Path("/run/systemd/timesync/synchronized")
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronized
_CLOCK_COMMAND: Final = "timedatectl timesync-status || chronyc tracking"


def apart(seconds: float) -> Finding:
    """How far this machine's clock is from that of the database's server (positive: it is ahead)."""
    way = "ahead of" if seconds > 0 else "behind"
    for severity, most in _APART:
        if abs(seconds) >= most:
            text = f"the clock is {_long(abs(seconds))} {way} the database server's"
            return Finding(AlertKind.CLOCK, Subject("machine", "clock"), severity, text, _CLOCK_COMMAND)
    return Finding(AlertKind.CLOCK, Subject("machine", "clock"), None, "as the database server's")


def _long(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


class Steps:
    """Whether the clock was stepped: it and the one that only goes on should have gone the same way."""

    def __init__(self, wall_s: float, monotonic_s: float) -> None:
        self._offset = wall_s - monotonic_s
        self._step, self._at = 0.0, float("-inf")

    def look(self, wall_s: float, monotonic_s: float) -> Finding:
        """A step stands for an hour, for what was stored meanwhile may bear the wrong time."""
        step = (wall_s - monotonic_s) - self._offset
        self._offset = wall_s - monotonic_s
        if abs(step) >= _STEP_S:
            self._step, self._at = step, monotonic_s
        subject = Subject("machine", "clock")
        if monotonic_s - self._at >= _STEP_TOLD_S:
            return Finding(AlertKind.CLOCK, subject, None, "not stepped")
        way = "forward" if self._step > 0 else "back"
        text = f"the clock was stepped {way} by {_long(abs(self._step))}"
        return Finding(AlertKind.CLOCK, subject, Severity.WARNING, text, _CLOCK_COMMAND)


def synchronized() -> bool | None:
    """Whether the kernel's clock follows a time server; None where nobody tells."""

    class Timex(ctypes.Structure):  # adjtimex(2); only `modes` = 0, to read, is of interest, and what is returned
        _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_char * 252))

    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(Timex()))
    except (OSError, AttributeError):
        state = -1
    if state >= 0:
        return bool(state != _TIME_ERROR)
    return True if _TIMESYNCD.exists() else None


def time_server(state: bool | None) -> Finding:
    """Of its own subject: a clock that nobody sets is stepped all the more, and that is told apart."""
    subject = Subject("machine", "time server")
    if state is None:
        return Finding(AlertKind.CLOCK, subject, None, "whether it follows a time server is not known here")
    if state:
        return Finding(AlertKind.CLOCK, subject, None, "follows a time server")
    text = "the clock follows no time server: instants of results go astray"
    return Finding(AlertKind.CLOCK, subject, Severity.WARNING, text, "timedatectl set-ntp true")


# ---- certificates ---------------------------------------------------------------------------------------------------

_PROXY_WAIT_S: Final = 2.0
_ENDS: Final = ((Severity.URGENT, timedelta(days=7)), (Severity.WARNING, timedelta(days=30)))
_LISTS_END: Final = ((Severity.URGENT, timedelta(days=1)), (Severity.WARNING, timedelta(days=3)))  # made anew often
_LIFE: Final = timedelta(days=12)  # of a list for which that is; of one that lives shorter, in proportion
_LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
_LISTS: Final = "revoked ones in "


def certificate_files(settings: Settings) -> Iterator[tuple[str, Path, bool]]:
    """Whose a certificate is, its file, and whether it is one of authorities, of which the last to end counts."""
    owners: list[tuple[str, ListenTls | DialTls | None]] = [("api", settings.api.tls)]
    owners += [(f"link {link.id}", link.tls) for link in settings.links]
    for owner, tls in owners:
        if tls is None:
            continue
        if tls.cert is not None:
            yield owner, tls.cert, False
        authorities = tls.client_ca if isinstance(tls, ListenTls) else tls.ca
        if authorities is not None:
            yield owner, authorities, True


def ends_at(path: Path, *, authorities: bool) -> datetime:
    """When the file's first certificate (of authorities: its last) ends. Raises OSError, ValueError."""
    from cryptography import x509  # megabytes that who has no certificate does without

    found = x509.load_pem_x509_certificates(path.read_bytes())
    ends = [one.not_valid_after_utc for one in found]
    return max(ends) if authorities else min(ends)


def _first_list(path: Path) -> tuple[datetime, datetime] | None:
    """When the list of revoked certificates in the file was made that is the first to be past its next update, and when
    it is, and admits nobody any more (RFC 5280, 5.1.2.5); None where none has one. Raises OSError, ValueError."""
    from cryptography import x509  # as above

    lists = [x509.load_pem_x509_crl(one) for one in _LIST.findall(path.read_bytes())]
    found = [(one.next_update_utc, one.last_update_utc) for one in lists if one.next_update_utc is not None]
    return min(found)[::-1] if found else None


def lists_end_at(path: Path) -> datetime | None:
    """When that one is past its next update. Raises OSError, ValueError."""
    first = _first_list(path)
    return first[1] if first else None


def ends(settings: Settings) -> dict[Subject, datetime]:
    """When what lies in the files ends; without what cannot be read, of which `certificate` says so."""
    found: dict[Subject, datetime] = {}
    for owner, path, authorities in dict.fromkeys(certificate_files(settings)):
        with suppress(OSError, ValueError):
            found[_of_file(path, owner)] = ends_at(path, authorities=authorities)
            if authorities and (end := lists_end_at(path)) is not None:
                found[_of_lists(path, owner)] = end
    return found


def not_read_again(used: Mapping[Subject, datetime], there: Mapping[Subject, datetime], now: datetime) -> list[Finding]:
    """Of files that were renewed since the daemon read them, what it goes on using until it ends."""
    found = [
        _ending(one, end, now, "systemctl reload labora") for one, end in used.items() if end < there.get(one, end)
    ]
    return [
        replace(one, text=f"the one in use {one.text}; that in the file is not read before a reload")
        for one in found if one.severity is not None
    ]  # fmt: skip


def _of_file(path: Path, owner: str) -> Subject:
    return Subject("certificate", f"{path} of {owner}")


def _of_lists(path: Path, owner: str) -> Subject:
    return Subject("certificate", f"{_LISTS}{path} of {owner}")


def certificate(owner: str, path: Path, now: datetime, *, authorities: bool) -> Finding:
    """Whether a certificate is good for some time to come."""
    subject = _of_file(path, owner)
    try:
        end = ends_at(path, authorities=authorities)
    except (OSError, ValueError) as error:
        reason = (error.strerror or "") if isinstance(error, OSError) else "it is no certificate"
        return Finding(AlertKind.CERTIFICATE, subject, Severity.URGENT, f"cannot be read: {reason}", f"ls -l {path}")
    command = (
        f"openssl x509 -in {path} -noout -subject -enddate   # put the new one there, then: systemctl reload labora"
    )
    return _ending(subject, end, now, command)


def _ending(subject: Subject, end: datetime, now: datetime, command: str, life: timedelta = _LIFE) -> Finding:
    """`life`: of a list; one that is made anew each day is well with half a day left."""
    text = f"{'expired' if end <= now else 'is good until'} {end:%Y-%m-%d %H:%M} UTC"
    for severity, left in _LISTS_END if subject.name.startswith(_LISTS) else _ENDS:
        if end - now < left * min(1.0, life / _LIFE):
            return Finding(AlertKind.CERTIFICATE, subject, severity, text, command)
    return Finding(AlertKind.CERTIFICATE, subject, None, text)


def shown_by_proxy(api: ApiSettings) -> datetime | None:
    """When the certificate ends that a proxy on this machine shows to clients; None where there is none. It is asked
    for, since where its file lies is the proxy's affair, and who looks may not be allowed to read it."""
    url = urlsplit(api.base_url)
    if not api.behind_proxy or url.scheme != "https" or url.hostname is None:
        return None
    from cryptography import x509  # as above

    context = ssl._create_unverified_context()  # noqa: S323 - looked at, not trusted
    try:
        with (
            socket.create_connection(("127.0.0.1", url.port or 443), timeout=_PROXY_WAIT_S) as plain,
            context.wrap_socket(plain, server_hostname=url.hostname) as tls,
        ):
            shown = tls.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown).not_valid_after_utc if shown else None
    except (OSError, ValueError):
        return None


def certificates(settings: Settings, now: datetime | None = None) -> list[Finding]:
    at = now or datetime.now(UTC)
    lists: dict[Subject, tuple[datetime, datetime]] = {}
    for owner, path, _ in {one for one in certificate_files(settings) if one[2]}:
        with suppress(OSError, ValueError):
            if (first := _first_list(path)) is not None:
                lists[_of_lists(path, owner)] = first
    renew = "put the authority's new list into the file   # then: systemctl reload labora"
    return [
        certificate(owner, path, at, authorities=authorities)
        for owner, path, authorities in dict.fromkeys(certificate_files(settings))
    ] + [_ending(subject, end, at, renew, end - made) for subject, (made, end) in sorted(lists.items())]


def of_proxy(api: ApiSettings, now: datetime, end: datetime | None) -> list[Finding]:
    """Whether the certificate that `shown_by_proxy` has seen is good for some time to come."""
    if end is None:
        return []
    command = "grep ssl_certificate /etc/nginx/sites-enabled/*   # put the new one there, then: systemctl reload nginx"
    return [_ending(Subject("certificate", f"of {api.base_url}"), end, now, command)]


# ---- systemd --------------------------------------------------------------------------------------------------------

UNITS: Final = (
    "labora.service",
    "labora-api.socket",
    "labora-backup.timer",
    "labora-qc-due.timer",
    "labora-healthcheck.timer",
)
_JOBS: Final = ("labora-backup.service", "labora-qc-due.service")  # they run and end; only a failure says something
_SHOWN: Final = "Id,LoadState,ActiveState,Result,NRestarts,UnitFileState"


def units() -> list[Mapping[str, str]] | None:
    """What systemd says of our units, None where it does not run here."""
    program = shutil.which("systemctl")
    if program is None or not Path("/run/systemd/system").is_dir():
        return None
    try:
        said = subprocess.run(  # noqa: S603 - fixed words
            [program, "show", "--no-pager", f"--property={_SHOWN}", *UNITS, *_JOBS],
            capture_output=True, text=True, timeout=10, check=False,
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return [dict(line.partition("=")[::2] for line in part.splitlines()) for part in said.strip().split("\n\n")]


def unit(shown: Mapping[str, str]) -> Finding:
    """Whether a unit is as `scripts/install` made it."""
    name, state = shown.get("Id", ""), shown.get("ActiveState", "")
    subject = Subject("unit", name)
    if shown.get("LoadState") == "not-found":
        return Finding(AlertKind.SERVICE, subject, Severity.NOTICE, "is not installed", "scripts/install")
    if state == "failed":
        text = f"failed ({shown.get('Result', '')})"
        return Finding(AlertKind.SERVICE, subject, Severity.URGENT, text, f"journalctl -u {name} -n 50")
    if name not in _JOBS and state not in ("active", "activating", "reloading"):
        return Finding(AlertKind.SERVICE, subject, Severity.WARNING, f"is {state}", f"systemctl enable --now {name}")
    if (restarts := shown.get("NRestarts", "0")) not in ("", "0"):
        text = f"{state}; systemd has started it anew {restarts} times"
        return Finding(AlertKind.SERVICE, subject, Severity.NOTICE, text, f"journalctl -u {name} -p warning -n 50")
    return Finding(AlertKind.SERVICE, subject, None, state)


def services(shown: Sequence[Mapping[str, str]] | None) -> list[Finding]:
    if shown is None:
        return [Finding(AlertKind.SERVICE, Subject("unit", "labora.service"), None, "systemd does not run here")]
    if all(one.get("LoadState") == "not-found" for one in shown):
        subject = Subject("unit", "labora.service")
        return [
            Finding(
                AlertKind.SERVICE, subject, Severity.NOTICE, "Labora is not installed as a service", "scripts/install"
            )
        ]
    return [unit(one) for one in shown]


# ---- the daemon -----------------------------------------------------------------------------------------------------

_EVERY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where it listens, not where it can be asked


def to_daemon(api: ApiSettings, wait_s: float) -> http.client.HTTPConnection:
    """To the daemon of this machine; nothing is opened yet."""
    host = _EVERY.get(api.listen.host, api.listen.host)
    if api.tls is None:
        return http.client.HTTPConnection(host, api.listen.port, timeout=wait_s)
    # it is ourselves that we ask, by an address that its certificate need not bear
    context = ssl._create_unverified_context()  # noqa: S323
    return http.client.HTTPSConnection(host, api.listen.port, timeout=wait_s, context=context)


def daemon(api: ApiSettings) -> Finding:
    """Whether the daemon answers on this machine, and says that it is ready."""
    subject, connection = Subject("daemon", str(api.listen)), to_daemon(api, 5.0)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        said = json.loads(answer.read())
        text = str(said["text"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        text = "does not answer: is it running?"
        return Finding(AlertKind.SERVICE, subject, Severity.URGENT, text, "systemctl status labora")
    finally:
        connection.close()
    if answer.status == http.HTTPStatus.OK:
        return Finding(AlertKind.SERVICE, subject, None, "is ready")
    return Finding(AlertKind.SERVICE, subject, Severity.WARNING, f"is not ready: {text}", "labora link status")
