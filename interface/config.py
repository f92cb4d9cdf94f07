"""Configuration: one TOML file and three environment variables become `Settings`, or every problem at once.

A problem names its TOML path, counted from 0 as TOML tools do: `link[1].transport.listen` is in the second `[[link]]`.
Secrets come from the environment only, so a password in the file is a problem and no problem ever repeats one.
"""

from __future__ import annotations

import codecs
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

from interface.domain.model import Protocol
from interface.driver import registry
from interface.errors import ConfigError, ConfigProblem, DriverError
from interface.settings import (
    Address,
    ApiSettings,
    DatabaseSettings,
    LimitSettings,
    LineFormat,
    LinkRole,
    LinkSettings,
    OnStoreFailure,
    Parity,
    Preliminary,
    SerialPort,
    Settings,
    Transport,
    TransportType,
    Unsolicited,
    packaged,
)

SYSTEM_CONFIG = Path("/etc/labora/config.toml")
SYSTEM_DRIVERS = Path("/etc/labora/drivers")
ENVIRONMENT = ("LABORA_CONFIG", "LABORA_DATABASE_URL", "LABORA_STATE_DIR")

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_CARRIES = {
    TransportType.TCP_LISTEN: Protocol.LIS2,
    TransportType.MLLP_LISTEN: Protocol.HL7,
    TransportType.SERIAL: Protocol.LIS2,
}
_LATER_TRANSPORTS = ("tcp-dial", "mllp-dial", "folder")
_LATER_LINK_KEYS = ("tls", "match")
_NETWORK_LINK_KEYS = ("allow", "max_connections")
_LINE_FORMAT = re.compile(r"([78])([NEO])([12])")
BAUDS = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400)
_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104  compared with, never bound
_ASCII = "".join(map(chr, range(0x20, 0x7F)))

_Choice = TypeVar("_Choice", bound=StrEnum)


def find_config(explicit: Path | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """The configuration file to use: `--config`, LABORA_CONFIG, /etc/labora/config.toml, the one Labora comes with."""
    environ = os.environ if environ is None else environ
    if explicit is not None:
        return explicit
    if named := environ.get("LABORA_CONFIG"):
        return Path(named)
    return SYSTEM_CONFIG if SYSTEM_CONFIG.is_file() else packaged("config.toml")


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read, check and return the settings. Raises ConfigError with every problem found."""
    environ = os.environ if environ is None else environ
    source = find_config(path, environ)
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([ConfigProblem(str(source), f"cannot be read: {error.strerror or error}")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([ConfigProblem(str(source), f"is not UTF-8 at byte {error.start}")]) from None
    return parse(text, source, environ)


def parse(text: str, source: Path, environ: Mapping[str, str]) -> Settings:
    """The settings in `text`; `source` is the file it came from. Raises ConfigError with every problem found."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([ConfigProblem(str(source), f"is not TOML: {error}")]) from None
    problems: list[ConfigProblem] = []
    settings = _settings(_Table(document, "", problems), source, environ)
    if problems:
        raise ConfigError(problems)
    return settings


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """The default state directory: /var/lib/labora for root, else labora in the user's state home."""
    if os.geteuid() == 0:
        return Path("/var/lib/labora")  # every parent can be entered by the account that runs the embedded PostgreSQL
    # XDG base directories: a relative XDG_STATE_HOME is to be ignored.
    home = environ.get("XDG_STATE_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".local" / "state") / "labora"


def has_password(url: str) -> bool:
    """Whether a database URL carries a secret, in its authority or among its parameters."""
    try:
        parts = urlsplit(url)
        return parts.password is not None or any("password" in key.lower() for key, _ in parse_qsl(parts.query))
    except ValueError:
        return "password" in url.lower()


class _Table:
    """A TOML table read key by key; what is wrong is collected under its path, what was never asked for is unknown."""

    def __init__(self, values: Mapping[str, object], path: str, problems: list[ConfigProblem]) -> None:
        self._values, self._path, self._problems = values, path, problems
        self._known: dict[str, None] = {}

    def at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def problem(self, key: str, text: str) -> None:
        self._problems.append(ConfigProblem(self.at(key) if key else self._path, text))

    def has(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> object:
        self._known[key] = None
        return self._values.get(key)

    def text(self, key: str, default: str = "", required: bool = False) -> str:
        value = self.get(key)
        if value is None:
            if required:
                self.problem(key, "is missing")
            return default
        if not isinstance(value, str):
            self.problem(key, f"must be text in quotes, not {_toml_type(value)}")
            return default
        if required and not value:
            self.problem(key, "must not be empty")
        return value

    def name(self, key: str, default: str = "", required: bool = False) -> str:
        value = self.text(key, default, required)
        if value and not _NAME.fullmatch(value):
            self.problem(key, f'"{value}" is not a name: lower-case letters, digits, - _ and . only, at most 63')
            return ""
        return value

    def choice(self, key: str, default: _Choice) -> _Choice:
        value = self.text(key, default.value)
        kind = type(default)
        try:
            return kind(value)
        except ValueError:
            self.problem(key, f'"{value}" is not one of {", ".join(kind)}{_hint(value, list(kind))}')
            return default

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.problem(key, f"must be a whole number, not {_toml_type(value)}")
        elif not low <= value <= high:
            self.problem(key, f"{value} is not between {low} and {high}")
        else:
            return value
        return default

    def seconds(self, key: str, default: float, low: float, high: float) -> float:
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.problem(key, f"must be a number of seconds, not {_toml_type(value)}")
        elif not low <= value <= high:
            self.problem(key, f"{value} is not between {low:g} and {high:g} seconds")
        else:
            return float(value)
        return default

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            self.problem(key, "must be a list of texts")
            return ()
        return tuple(value)

    def address(self, key: str, default: Address | None = None) -> Address | None:
        value = self.text(key, str(default) if default else "", required=default is None)
        if not value:
            return default
        try:
            return parse_address(value)
        except ValueError as error:
            self.problem(key, str(error))
            return None

    def table(self, key: str, required: bool = False) -> _Table | None:
        value = self.get(key)
        if value is None:
            if required:
                self.problem(key, "is missing")
                return None
            value = {}
        if not isinstance(value, dict):
            self.problem(key, f"must be a table, not {_toml_type(value)}")
            return None
        return _Table(value, self.at(key), self._problems)

    def tables(self, key: str) -> list[_Table]:
        value = self.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self.problem(key, f"must be written as [[{key}]]")
            return []
        return [_Table(entry, f"{self.at(key)}[{index}]", self._problems) for index, entry in enumerate(value)]

    def close(self, known: tuple[str, ...] = ()) -> None:
        """Every key that was not asked for is a problem."""
        names = [*self._known, *known]
        for key in self._values:
            if key not in names:
                self.problem(key, f"is not a key Labora knows{_hint(key, names)}")


def parse_address(text: str) -> Address:
    """`host:port` or `[v6]:port`. Raises ValueError with a sentence."""
    host, separator, port = text.rpartition(":")
    if not separator:
        raise ValueError(f'"{text}" is not an address: it must be host:port')
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f'"{text}" is not an address: an IPv6 host stands in brackets, [::1]:4001')
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f'"{text}" is not an address: the port must be between 0 and 65535')
    if not _is_host(host):
        raise ValueError(f'"{text}" is not an address: "{host}" is neither an IP address nor a host name')
    return Address(host, int(port))


def parse_line_format(text: str) -> LineFormat:
    """`8N1`, `7E1` and their like. Raises ValueError with a sentence."""
    match = _LINE_FORMAT.fullmatch(text)
    if not match:
        rule = "data bits 7 or 8, parity N, E or O, stop bits 1 or 2"
        raise ValueError(f'"{text}" is not the format of a serial line such as 8N1: {rule}')
    return LineFormat(int(match[1]), Parity(match[2]), int(match[3]))


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # Digits and dots alone are a mistyped IPv4 address, never a host name.
        return bool(_HOST.fullmatch(host)) and not re.fullmatch(r"[0-9.]+", host)
    return True


def _hint(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f' (did you mean "{near[0]}"?)' if near else ""


def _toml_type(value: object) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
    return "text" if isinstance(value, str) else names.get(type(value), "a date or time")


def _settings(root: _Table, source: Path, environ: Mapping[str, str]) -> Settings:
    state_dir = _state_dir(root, environ)
    driver_path = _driver_path(root)
    database = _database(root.table("database"), environ, root)
    api = _api(root.table("api"))
    limits = _limits(root.table("limits"))
    links = [_link(table, driver_path) for table in root.tables("link")]
    _unique(root, api, links)
    root.close()
    return Settings(state_dir, database, api, limits, tuple(link for link in links if link), driver_path, source)


def _state_dir(root: _Table, environ: Mapping[str, str]) -> Path:
    written = root.text("state_dir")
    key, value = ("LABORA_STATE_DIR", environ["LABORA_STATE_DIR"]) if environ.get("LABORA_STATE_DIR") else ("", written)
    if not value:
        return default_state_dir(environ)
    path = Path(value).expanduser()
    if not path.is_absolute():
        root.problem(key or "state_dir", f'"{value}" must be an absolute path')
    return path


def _driver_path(root: _Table) -> tuple[Path, ...]:
    folders = []
    for index, text in enumerate(root.texts("driver_path")):
        path = Path(text).expanduser()
        if not path.is_absolute():
            root.problem(f"driver_path[{index}]", f'"{text}" must be an absolute path')
        elif not path.is_dir():
            root.problem(f"driver_path[{index}]", f'"{text}" is not a folder')
        folders.append(path)
    return (*folders, SYSTEM_DRIVERS) if SYSTEM_DRIVERS.is_dir() else tuple(folders)


def _database(table: _Table | None, environ: Mapping[str, str], root: _Table) -> DatabaseSettings:
    if table is None:
        return DatabaseSettings()
    url = table.text("url", "embedded")
    if has_password(url):
        table.problem("url", "carries a password: secrets come from the environment only, set LABORA_DATABASE_URL")
    elif text := _url_problem(url):
        table.problem("url", text)
    if named := environ.get("LABORA_DATABASE_URL"):
        url = named
        if text := _url_problem(url):
            root.problem("LABORA_DATABASE_URL", text)
    bin_dir = table.text("bin_dir")
    if bin_dir and not (Path(bin_dir) / "postgres").is_file():
        table.problem("bin_dir", f'"{bin_dir}" does not hold the program postgres')
    table.close()
    return DatabaseSettings(url, Path(bin_dir) if bin_dir else None)


def _url_problem(url: str) -> str:
    """What is wrong with a database URL, never repeating it: it may hold a secret."""
    if url == "embedded":
        return ""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("postgresql", "postgres"):
            return 'must be "embedded" or postgresql://user@host/database'
        if parts.port is not None and not 0 < parts.port <= 65535:
            return "has a port that is not between 1 and 65535"
    except ValueError:
        return "is not a URL: check the host and the port"
    parameters = dict(parse_qsl(parts.query))
    if "sslmode" in parameters and parameters["sslmode"] not in _TLS_MODES:
        return f"has an unknown sslmode: it must be one of {', '.join(_TLS_MODES)}"
    if not parts.path.strip("/") and not parameters.keys() & {"dbname", "database"}:
        return "names no database: postgresql://user@host/database"
    return ""


def _api(table: _Table | None) -> ApiSettings:
    default = ApiSettings()
    if table is None:
        return default
    base_url = table.text("base_url")
    if base_url and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", base_url):
        table.problem("base_url", "is not an http:// or https:// URL without user, query and fragment")
    listen = table.address("listen", default.listen) or default.listen
    preliminary = table.choice("preliminary", Preliminary.HIDDEN)
    lifetime = table.whole("token_lifetime_s", default.token_lifetime_s, 60, 86400)
    table.close()
    return ApiSettings(listen, base_url.rstrip("/"), preliminary, lifetime)


def _limits(table: _Table | None) -> LimitSettings:
    default = LimitSettings()
    if table is None:
        return default
    limits = LimitSettings(
        # LIS01-A2 gives the receiver 15 s for its reply; a slower commit could only be told to a sender that has gone.
        commit_wait_s=table.seconds("commit_wait_s", default.commit_wait_s, 0.1, 14.0),
        drain_s=table.seconds("drain_s", default.drain_s, 0.0, 300.0),
        resend_window_s=table.seconds("resend_window_s", default.resend_window_s, 0.0, 366 * 86400.0),
        max_attempts=table.whole("max_attempts", default.max_attempts, 1, 100),
        workers=table.whole("workers", default.workers, 1, 64),
    )
    table.close()
    return limits


def _link(table: _Table, driver_path: tuple[Path, ...]) -> LinkSettings | None:
    default_bytes = 16 * 1024 * 1024
    for key in _LATER_LINK_KEYS:
        if table.has(key):
            table.problem(key, "is not available in this version")
    role = table.choice("role", LinkRole.ANALYZER)
    if role is LinkRole.HOSPITAL:
        table.problem("role", 'a hospital link is not available in this version: role must be "analyzer"')
    transport = _transport(table.table("transport", required=True))
    if transport and transport.type is TransportType.SERIAL:
        for key in _NETWORK_LINK_KEYS:
            if table.has(key):
                table.problem(key, "is of no use on a serial link, which has one peer and no network")
    link = LinkSettings(
        id=table.name("id", required=True),
        organization=table.name("organization", required=True),
        driver=_driver(table, driver_path, transport),
        transport=transport or Transport(TransportType.TCP_LISTEN, Address("127.0.0.1", 0)),
        role=role,
        analyzer=table.name("analyzer"),
        encoding=_encoding(table),
        timezone=_timezone(table),
        unsolicited=table.choice("unsolicited", Unsolicited.HOLD),
        on_store_failure=table.choice("on_store_failure", OnStoreFailure.AR),
        allow=_allow(table),
        max_connections=table.whole("max_connections", 32, 1, 1024),
        max_message_bytes=table.whole("max_message_bytes", default_bytes, 64 * 1024, 256 * 1024 * 1024),
    )
    table.close(_LATER_LINK_KEYS)
    return link


def _transport(table: _Table | None) -> Transport | None:
    if table is None:
        return None
    kind = table.text("type", required=True)
    supported = ", ".join(TransportType)
    if kind in _LATER_TRANSPORTS:
        table.problem("type", f'"{kind}" is not available in this version, which has {supported}')
        return None  # its other keys belong to that type
    if kind and kind not in list(TransportType):
        table.problem("type", f'"{kind}" is not one of {supported}{_hint(kind, list(TransportType))}')
    endpoint = _serial_port(table) if kind == TransportType.SERIAL else table.address("listen")
    table.close()
    return Transport(TransportType(kind), endpoint) if endpoint and kind in list(TransportType) else None


def _serial_port(table: _Table) -> SerialPort | None:
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


def _driver(table: _Table, driver_path: tuple[Path, ...], transport: Transport | None) -> str:
    """The driver's id, once its folder could be read and speaks what the transport carries."""
    name = table.name("driver", required=True)
    if not name:
        return ""
    known = registry.folders(driver_path)
    if name not in known:
        places = ", ".join(str(folder) for folder in registry.search_path(driver_path))
        table.problem("driver", f'there is no driver "{name}" in {places}{_hint(name, sorted(known))}')
        return name
    try:
        driver = registry.load(name, driver_path)
    except DriverError as error:
        table.problem("driver", str(error))
        return name
    if transport and _CARRIES[transport.type] is not driver.protocol:
        table.problem("driver", f'"{name}" speaks {driver.protocol}, which {transport.type} does not carry')
    return name


def _encoding(table: _Table) -> str:
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


def _timezone(table: _Table) -> str:
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


def _allow(table: _Table) -> tuple[str, ...]:
    networks = table.texts("allow")
    for index, text in enumerate(networks):
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            table.problem(f"allow[{index}]", f"is not a network such as 10.1.2.0/24: {error}")
    return networks


def _unique(root: _Table, api: ApiSettings, links: list[LinkSettings | None]) -> None:
    """No two links share an id, and nothing shares an address or a serial port."""
    ids: dict[str, str] = {}
    taken: list[tuple[Address | SerialPort, str]] = [(api.listen, "api.listen")]
    for index, link in enumerate(links):
        if link is None:
            continue
        at = f"link[{index}]"
        if link.id and (first := ids.setdefault(link.id, at)) != at:
            root.problem(f"{at}.id", f'"{link.id}" is already the id of {first}')
        endpoint = link.transport.endpoint
        place = f"{at}.transport.{'port' if isinstance(endpoint, SerialPort) else 'listen'}"
        for other, path in taken:
            if _overlap(endpoint, other):
                shown = endpoint.path if isinstance(endpoint, SerialPort) else endpoint
                root.problem(place, f"{shown} is already taken by {path}")
                break
        taken.append((endpoint, place))


def _overlap(one: Address | SerialPort, other: Address | SerialPort) -> bool:
    if isinstance(one, SerialPort) and isinstance(other, SerialPort):
        return os.path.realpath(one.path) == os.path.realpath(other.path)  # /dev/serial/by-id/… are other names
    if isinstance(one, SerialPort) or isinstance(other, SerialPort):
        return False
    if one.port != other.port or not one.port:
        return False
    hosts = {"127.0.0.1" if host == "localhost" else host for host in (one.host, other.host)}
    return len(hosts) == 1 or bool(hosts & _ANY_ADDRESS)
