"""Configuration: one TOML file and three environment variables become `Settings`, or every problem at once.

A problem names its TOML path, counted from 0 as TOML tools do: `link[1].transport.listen` is in the second `[[link]]`.
Secrets come from the environment only, so a password in the file is a problem and no problem ever repeats one.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from interface.config.alerts import read_alerts
from interface.config.api import read_api
from interface.config.backup import read_backup
from interface.config.credentials import credential, unusable
from interface.config.links import read_link, unique
from interface.config.retention import read_retention
from interface.config.roster import read_roster
from interface.config.standby import read_standby
from interface.config.table import Table, parse_address, parse_line_format
from interface.errors import ConfigError, ConfigProblem
from interface.settings import (
    DatabaseSettings,
    LimitSettings,
    Settings,
    packaged,
)

__all__ = ["find_config", "load", "parse", "parse_address", "parse_line_format"]

SYSTEM_CONFIG = Path("/etc/labora/config.toml")
SYSTEM_DRIVERS = Path("/etc/labora/drivers")
CREDENTIAL = "labora.database-url"  # systemd.exec(5) LoadCredential=, in place of LABORA_DATABASE_URL
ENVIRONMENT = ("LABORA_CONFIG", "LABORA_DATABASE_URL", "LABORA_STATE_DIR")

_EVERYBODYS = ("", "postgres", "password", "labora", "admin", "changeme", "secret", "test")
_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


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
    settings = _settings(Table(document, "", problems), source, environ)
    roster = read_roster(settings.alerts, problems)
    if len(settings.laboratories) > 1:
        text = "is missing: the configuration has several laboratories; of whose orders does it tell?"
        unclear = [at for at, wish in enumerate(roster.wishes) if not wish.organization]
        problems += [ConfigProblem(f"roster.notice[{at}].organization", text) for at in unclear]
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


def _settings(root: Table, source: Path, environ: Mapping[str, str]) -> Settings:
    state_dir = _state_dir(root, environ)
    driver_path = _driver_path(root)
    organizations = root.texts("organizations")
    database = _database(root.table("database"), environ, root, source)
    api = read_api(root.table("api"))
    limits = _limits(root.table("limits"))
    backup = read_backup(root.table("backup"), environ)
    standby = read_standby(root.table("standby"), database)
    alerts = read_alerts(root.table("alerts"), environ)
    retention = read_retention(root.table("retention"))
    links = [read_link(table, driver_path) for table in root.tables("link")]
    unique(root, api, links, driver_path)
    root.close()
    found = tuple(link for link in links if link)
    return Settings(
        state_dir, database, api, limits, found, driver_path, source, backup, alerts, retention, standby, organizations
    )  # fmt: skip


def _state_dir(root: Table, environ: Mapping[str, str]) -> Path:
    written = root.text("state_dir")
    key, value = ("LABORA_STATE_DIR", environ["LABORA_STATE_DIR"]) if environ.get("LABORA_STATE_DIR") else ("", written)
    if not value:
        return default_state_dir(environ)
    path = Path(os.path.expanduser(value))
    if not path.is_absolute():
        root.problem(key or "state_dir", f'"{value}" must be an absolute path')
    return path


def _driver_path(root: Table) -> tuple[Path, ...]:
    folders = []
    # By functions that raise for no name: a path may be too long, behind a folder of others, or of a user who is not.
    for index, text in enumerate(root.texts("driver_path")):
        path = Path(os.path.expanduser(text))
        if not path.is_absolute():
            root.problem(f"driver_path[{index}]", f'"{text}" must be an absolute path')
        elif not os.path.isdir(path):
            root.problem(f"driver_path[{index}]", f'"{text}" is not a folder')
            continue
        folders.append(path)
    return (*folders, SYSTEM_DRIVERS) if SYSTEM_DRIVERS.is_dir() else tuple(folders)


def _handed_beside(source: Path) -> str | None:
    """What scripts/install has systemd hand to the services (docs/install.md), for who is none, such as root's shell;
    None: it may not be seen."""
    try:
        return (source.parent / "credentials" / "database-url").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError):
        return None


def _database(table: Table | None, environ: Mapping[str, str], root: Table, source: Path) -> DatabaseSettings:
    if table is None:
        return DatabaseSettings()
    url = table.text("url", "embedded")
    if has_password(url):
        table.problem("url", "carries a password: secrets come from the environment only, set LABORA_DATABASE_URL")
    elif text := _url_problem(url):
        table.problem("url", text)
    named = environ.get("LABORA_DATABASE_URL")
    if not named and (text := unusable(CREDENTIAL, environ)):  # what is in the file would be another database
        root.problem(CREDENTIAL, f"the credential that systemd hands over {text}")
    handed = credential(CREDENTIAL, environ)
    daemon_url = ""
    if named and (known := handed or _handed_beside(source)) is not None:
        daemon_url = known or url
    if named := named or handed:
        url = named
        if text := _url_problem(url):
            root.problem("LABORA_DATABASE_URL", text)
    bin_dir = table.text("bin_dir")
    if bin_dir and not os.path.isfile(Path(bin_dir) / "postgres"):
        table.problem("bin_dir", f'"{bin_dir}" does not hold the program postgres')
    folders = table.texts("folders")
    for index, text in enumerate(folders):
        if not text.startswith("/"):
            table.problem(f"folders[{index}]", f'"{text}" must be an absolute path')
    table.close()
    return DatabaseSettings(url, Path(bin_dir) if bin_dir else None, tuple(map(Path, folders)), daemon_url)


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
    if parts.password is not None and parts.password.lower() in (*_EVERYBODYS, (parts.username or "").lower()):
        return "carries a password that everybody knows: give the login another one"
    parameters = dict(parse_qsl(parts.query))
    if "sslmode" in parameters and parameters["sslmode"] not in _TLS_MODES:
        return f"has an unknown sslmode: it must be one of {', '.join(_TLS_MODES)}"
    if not parts.path.strip("/") and not parameters.keys() & {"dbname", "database"}:
        return "names no database: postgresql://user@host/database"
    return ""


def _limits(table: Table | None) -> LimitSettings:
    default = LimitSettings()
    if table is None:
        return default
    limits = LimitSettings(
        # LIS01-A2 gives the receiver 15 s for its reply; a slower commit could only be told to a sender that has gone.
        commit_wait_s=table.seconds("commit_wait_s", default.commit_wait_s, 0.1, 14.0),
        reply_s=table.seconds("reply_s", default.reply_s, 0.1, 60.0),
        drain_s=table.seconds("drain_s", default.drain_s, 0.0, 300.0),
        resend_window_s=table.seconds("resend_window_s", default.resend_window_s, 0.0, 366 * 86400.0),
        max_attempts=table.whole("max_attempts", default.max_attempts, 1, 100),
        workers=table.whole("workers", default.workers, 1, 64),
    )
    table.close()
    return limits
