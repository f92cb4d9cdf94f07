"""Run inside a booted Debian on which scripts/install has run: what the service does there, as JSON in /report.

Nothing but the standard library, and nothing of ours imported: what is asked here is asked of systemd and of ports.
Each check gives what it saw; a check that raises gives the reason, and the others go on.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

REPORT = Path("/report")
PAGES = Path("/pages.json")  # commands of the documentation
CONFIG = Path("/etc/labora/config.toml")
PORT, HOST = 4001, "lab.example.org"
LINK = f"""
[[link]]
id = "hema-1"
organization = "main"
driver = "generic_lis2"
transport = {{ type = "tcp-listen", listen = "127.0.0.1:{PORT}" }}
"""
PATIENCE_S = 120.0  # beside much else
seen: dict[str, object] = {}


def run(*command: str, status: int | None = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if status is not None and done.returncode != status:
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done.stdout


def show(what: str, unit: str = "labora.service") -> str:
    return run("systemctl", "show", "--property", what, "--value", unit).strip()


def until(probe: Callable[[], bool], what: str) -> float:
    """Wait for what another process does; how long it took, in seconds."""
    began = time.monotonic()
    while not probe():
        if time.monotonic() - began > PATIENCE_S:
            raise RuntimeError(f"{what} did not happen")
        time.sleep(0.02)
    return round(time.monotonic() - began, 2)


def connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5.0).close()
    except OSError:
        return False
    return True


def enquire() -> bool:
    """ENQ of LIS01-A2 is answered with ACK: the link serves, and does not only listen."""
    with socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE_S) as analyzer:
        analyzer.sendall(b"\x05")
        answered = analyzer.recv(1) == b"\x06"
        analyzer.sendall(b"\x04")
        return answered


def page(path: str) -> str:
    """A whole answer of the API's."""
    with socket.create_connection(("127.0.0.1", 8080), timeout=PATIENCE_S) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b"")).decode()


def http(path: str) -> int:
    return int(page(path).split()[1])


class Load:
    """Connections one after the other to a link and to the API, for as long as the block takes."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.made, self.refused, self.longest_s = 0, 0, 0.0
        self._threads = [threading.Thread(target=self._go, args=(port,)) for port in (PORT, 8080)]

    def _go(self, port: int) -> None:
        while not self.ended.is_set():
            began = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as peer:
                    if port == PORT:
                        peer.sendall(b"\x05")
                        peer.recv(1)
                self.made += 1
            except ConnectionRefusedError:
                self.refused += 1
            except OSError:  # cut in mid-conversation: it had been taken
                self.made += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            time.sleep(0.002)

    def __enter__(self) -> Load:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for each in self._threads:
            each.join()

    def report(self) -> dict[str, object]:
        return {"made": self.made, "refused": self.refused, "longest_s": round(self.longest_s, 2)}


# ---- the checks, in this order --------------------------------------------------------------------------------------


def start() -> object:
    """multi-user.target wanted the service; the start is over when the daemon has said READY."""
    until(lambda: show("ActiveState") == "active", "the start")
    until(lambda: http("/ready") == 200, "being ready")  # a starved machine beats its leases late, and says so
    timers = run("systemctl", "list-timers", "--no-legend", "labora-*").splitlines()
    return {
        "type": show("Type"), "user": show("User"), "status": http("/ready"),
        "sockets": run("systemctl", "is-active", "labora-api.socket").strip(),
        "timers": sorted(line.split()[-2] for line in timers if line),
        "failed": run("systemctl", "list-units", "--failed", "--no-legend", "--plain").split("\n")[:-1],
    }  # fmt: skip


def check() -> object:
    return run("labora", "check")


def reload() -> object:
    """A link that was written into the configuration is there after `systemctl reload`, in the same process."""
    pid = show("MainPID")
    CONFIG.write_text(CONFIG.read_text() + LINK)
    run("systemctl", "reload", "labora")
    until(lambda: connects(PORT), "the link")  # on a busy machine systemd hears RELOADING only after it has returned
    return {"serves": enquire(), "same process": pid == show("MainPID"), "stored": show("NFileDescriptorStore")}


def restart() -> object:
    pid = show("MainPID")
    with Load() as load:
        until(lambda: load.made > 20, "load")
        run("systemctl", "restart", "labora")
        before = load.made
        until(lambda: load.made > before + 20, "load")
    return {**load.report(), "other process": pid != show("MainPID"), "serves": enquire()}


def killed() -> object:
    pid = int(show("MainPID"))
    with Load() as load:
        until(lambda: load.made > 20, "load")
        os.kill(pid, signal.SIGKILL)
        back_s = until(
            lambda: show("ActiveState") == "active" and show("MainPID") not in ("0", str(pid)), "the restart"
        )
        before = load.made
        until(lambda: load.made > before + 20, "load")
    return {**load.report(), "back_s": back_s, "serves": enquire()}


def database_killed() -> object:
    """Debian's unit leaves a server lying that died, as one does whose disk was full."""
    unit = run("systemctl", "list-units", "--no-legend", "--plain", "postgresql@*").split()[0]
    pid = int(show("MainPID", unit))
    os.kill(pid, signal.SIGKILL)
    until(lambda: show("MainPID", unit) not in ("0", str(pid)), "the restart of PostgreSQL")
    until(lambda: http("/ready") == 200, "being ready")
    return {"serves": enquire()}


def watchdog() -> object:
    """A daemon that does nothing any more is ended and started anew."""
    drop_in = Path("/run/systemd/system/labora.service.d/watchdog.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text("[Service]\nWatchdogSec=2\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "labora")
    pid, since = int(show("MainPID")), time.time()
    time.sleep(2.5)  # it feeds
    fed = int(show("MainPID")) == pid
    os.kill(pid, signal.SIGSTOP)
    until(lambda: show("MainPID") not in ("0", str(pid)) and show("ActiveState") == "active", "the watchdog's restart")
    drop_in.unlink()
    run("systemctl", "daemon-reload")
    said = run("journalctl", "-u", "labora", "--since", f"@{int(since)}", "-o", "cat")
    return {"fed": fed, "result": "Failed with result 'watchdog'" in said, "serves": enquire()}


def health() -> object:
    run("systemctl", "start", "labora-healthcheck.service", status=None)
    said = run("journalctl", "-u", "labora-healthcheck", "-o", "cat", "--no-pager")
    return {
        "result": show("Result", "labora-healthcheck.service"),
        "status": show("ExecMainStatus", "labora-healthcheck.service"),
        "said": said.splitlines()[-12:],
    }


def due() -> object:
    run("systemctl", "start", "labora-qc-due.service")
    return show("Result", "labora-qc-due.service")


def backup() -> object:
    run("systemctl", "start", "labora-backup.service")
    return len(json.loads(run("labora", "backup", "list", "--json")))


def proxy() -> object:
    """nginx speaks TLS, passes on, and logs neither what was asked for nor of whom."""
    context = ssl.create_default_context(cafile="/etc/labora/tls/server.pem")
    with (
        socket.create_connection(("127.0.0.1", 443), timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="lab.example.org") as client,
    ):
        client.sendall(
            b"GET /fhir/Patient/canary-id?family=Canary-Name HTTP/1.1\r\nHost: lab.example.org\r\n"
            b"Referer: https://canary-referrer/\r\nConnection: close\r\n\r\n"
        )
        status = int(client.recv(4096).split()[1])

    def logged() -> str:
        return "".join(each.read_text() for each in Path("/var/log/nginx").iterdir())

    until(lambda: '"GET ' in logged(), "the line of nginx's log")  # it writes after it has answered
    logs = logged()
    return {"status": status, "log": logs.splitlines()[-1].split("] ", 1)[-1], "canary": "canary" in logs.lower()}


def frame(number: int, text: str, end: str) -> bytes:
    """A frame of LIS01-A2 with its checksum."""
    inside = f"{number}{text}\r{end}".encode()
    return b"\x02" + inside + f"{sum(inside) % 256:02X}\r\n".encode()


def transmit(word: Callable[[], str]) -> None:
    """A result over the link, its first frame once with a checksum that is none."""
    w = word
    records = (
        rf"H|\^&|{w()}||{w()}|||||||P|LIS2-A2|20260102030405", f"P|1|{w()}|{w()}||{w()}^{w()}||19310317|F||{w()}",
        f"O|1|{w()}|{w()}|^^^{w()}|R", f"R|1|^^^{w()}|{w()}|{w()}|{w()}||||{w()}||20260102030000", f"C|1|I|{w()}|G",
        "L|1|N",
    )  # fmt: skip
    bad = frame(1, rf"H|\^&|{w()}", "\x03")[:-4] + b"ZZ\r\n"
    with socket.create_connection(("127.0.0.1", PORT), timeout=PATIENCE_S) as analyzer:
        for said in (b"\x05", bad, *(frame(at % 8, one, "\x03") for at, one in enumerate(records, 1))):
            analyzer.sendall(said)
            if analyzer.recv(1) not in (b"\x06", b"\x15"):
                raise RuntimeError("neither ACK nor NAK")
        analyzer.sendall(b"\x04")


def knock(word: Callable[[], str]) -> list[int]:
    """Requests to nginx that it or the API refuses, and two without TLS, by its name and an address; the statuses."""
    w, form = word, "application/x-www-form-urlencoded"
    tries = [
        ("GET", f"/fhir/Patient/{w()}?family={w()}", f"Authorization: Bearer {w()}", ""),
        ("GET", f"/{w()}/{w()}", f"Referer: https://{w()}/", ""),
        ("POST", "/api/login", "Content-Type: application/json", json.dumps({"organization": w(), "username": w()})),
        ("POST", "/oauth/token", f"Content-Type: {form}", f"client_id={w()}&{w()}=1"),
        ("POST", f"/api/orders/{w()}", "Content-Type: application/json", json.dumps({"family": w()})[:-1]),
        (w(), f"/fhir/{w()}", f"X-{w()}: 1", ""),
    ]
    plain = [(host, ("GET", f"/fhir/Patient?family={w()}", "Accept: */*", "")) for host in (HOST, "127.0.0.1")]
    context = ssl.create_default_context(cafile="/etc/labora/tls/server.pem")
    statuses: list[int] = []
    for host, (method, path, header, body) in [*((HOST, one) for one in tries), *plain]:
        tls = len(statuses) < len(tries)
        with ExitStack() as stack:
            address = "127.0.0.1", 443 if tls else 80
            client = stack.enter_context(socket.create_connection(address, timeout=PATIENCE_S))
            if tls:
                client = stack.enter_context(context.wrap_socket(client, server_hostname=host))
            client.sendall(
                f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{header}\r\nContent-Length: {len(body)}\r\n"
                f"Connection: close\r\n\r\n{body}".encode()
            )
            statuses.append(int(client.recv(4096).split()[1]))
    return statuses


def canary() -> object:
    """Words that occur nowhere else come in over a link and through nginx; then every log of the whole boot, of any
    program's, and the metrics are searched for them."""
    given: list[str] = []

    def word() -> str:
        given.append(f"QZX{chr(65 + len(given) // 26)}{chr(65 + len(given) % 26)}CANARYXZQ")  # a method is of letters
        return given[-1]

    transmit(word)
    statuses = knock(word)
    # Not by the whole word: the journal keeps the command line of whoever says something in it, runuser's too.
    stored = "select count(*) from lab.result_version where specimen_as_sent like 'QZX%XZQ'"
    until(lambda: _names(stored, "labora") == ["1"], "the result")
    metrics = page("/metrics")
    run("systemctl", "stop", "labora.service")  # all that it has to say has been said
    logs = {"metrics": metrics, "the journal": run("journalctl", "-b", "-a", "-o", "verbose", "--no-pager")}
    for folder in ("/var/log/nginx", "/var/log/postgresql"):
        logs |= {str(path): path.read_text(errors="replace") for path in Path(folder).iterdir()}
    run("systemctl", "start", "labora-api.socket", "labora.service")
    return {
        "statuses": statuses, "journal": "message.sealed" in logs["the journal"], "logs": len(logs),
        "found": sorted(f"{word} in {name}" for name, text in logs.items() for word in given if word in text),
    }  # fmt: skip


def jail() -> object:
    run("systemctl", "is-active", "fail2ban")
    line = '192.0.2.7 [2026-01-02T03:04:05+00:00] "POST /api/login" 401 120 0.004\n'
    Path("/tmp/log").write_text(line)  # noqa: S108
    found = run("fail2ban-regex", "/tmp/log", "/etc/fail2ban/filter.d/labora.conf", status=None)  # noqa: S108
    return {"jails": run("fail2ban-client", "status").split("Jail list:")[-1].split(), "matches": "1 matched" in found}


# What a release is made of that has a migration more; it is named after every other.
MIGRATION = """
from alembic import op
revision, down_revision, branch_labels, depends_on = "9999", "{head}", None, None

def upgrade() -> None:
    op.execute("create table lab.of_the_new_release ()")
    {then}
"""


def checkout(name: str, *, fails: bool = False, migrates: str = "") -> Path:
    """Another release: this one with something of its own."""
    folder = Path("/srv") / name
    shutil.copytree(
        "/opt/labora/current", folder, symlinks=True, ignore=shutil.ignore_patterns(".venv", ".whole", "__pycache__")
    )
    (folder / "CHANGELOG.md").write_text(name)
    if fails:
        daemon = folder / "interface" / "daemon.py"
        daemon.write_text(daemon.read_text() + "\nraise SystemExit(3)\n")
    if migrates:
        versions = folder / "migrations" / "versions"
        head = sorted(path.name for path in versions.glob("[0-9]*_*.py"))[-1].split("_")[0]
        (versions / "9999_new.py").write_text(MIGRATION.format(head=head, then=migrates))
    return folder


def upgrade_to(folder: Path) -> dict[str, object]:
    """`scripts/upgrade` of it, under load; what it said, and what is true afterwards."""
    before, backups = os.readlink("/opt/labora/current"), len(json.loads(run("labora", "backup", "list", "--json")))
    environ = {**os.environ, "PIP_NO_INDEX": "1"}
    with Load() as load:
        until(lambda: load.made > 20, "load")
        done = subprocess.run(
            ["sh", "-ec", json.loads(PAGES.read_text())["upgrade"]],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env=environ,
            timeout=900,
        )
        made = load.made
        until(lambda: load.made > made + 20, "load")
    schema = json.loads(run("labora", "db", "status", "--json", status=None))["schema"]
    return {
        **load.report(), "status": done.returncode, "said": done.stdout.splitlines()[-6:],
        "changed": os.readlink("/opt/labora/current") != before, "schema": schema, "databases": _names(_DATABASES),
        "backups": len(json.loads(run("labora", "backup", "list", "--json"))) - backups, "serves": enquire(),
        "left": Path("/run/systemd/system/labora.service.d/upgrade.conf").exists(),
    }  # fmt: skip


def upgrade() -> object:
    return upgrade_to(checkout("next"))


def upgrade_fails() -> object:
    return upgrade_to(checkout("broken", fails=True))


def upgrade_fails_after_migrating() -> object:
    return upgrade_to(checkout("broken-later", fails=True, migrates="pass"))


def upgrade_fails_in_migrating() -> object:
    return upgrade_to(checkout("broken-migration", migrates="op.execute('select 1 / 0')"))


def upgrade_migrates() -> object:
    return upgrade_to(checkout("migrating", migrates="pass"))


def pages() -> object:
    """What the pages say to root, in their order: the status of each block, and what it said where that is not 0."""
    run("systemctl", "start", "labora-backup.service")
    said = {}
    for where, text in json.loads(PAGES.read_text())["blocks"]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd="/root", stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900,
        )  # fmt: skip
        said[where] = [done.returncode, done.stdout[-1500:] if done.returncode else ""]
    active = show("ActiveState") == "active"
    return {"said": said, "serves": active and enquire(), "ready": http("/ready") if active else 0}


def misconfigured() -> object:
    """A configuration that is wrong stays wrong: nothing starts the daemon again, neither systemd nor who knocks at its
    port. The health check sees it; mended, `systemctl start` is all that it takes."""
    text, since = CONFIG.read_text(), time.time()
    CONFIG.write_text(text.replace("[api]", "[apy]"))
    run("systemctl", "restart", "labora", status=1)
    with suppress(OSError), socket.create_connection(("127.0.0.1", 8080), timeout=5.0) as client:
        client.sendall(b"GET /ready HTTP/1.1\r\n")
        client.recv(1)  # answered by nobody, and closed
    until(lambda: show("ActiveState", "labora-api.socket") == "inactive" and show("ActiveState") == "failed", "the end")
    said = run("journalctl", "-u", "labora", "--since", f"@{int(since)}", "-o", "cat")
    run("systemctl", "start", "labora-healthcheck", status=1)
    seen = run("journalctl", "-u", "labora-healthcheck", "--since", f"@{int(since)}", "-o", "cat")
    CONFIG.write_text(text)
    run("systemctl", "start", "labora")
    return {
        "starts": said.count("Starting "),
        "ready": http("/ready"),
        "seen": "apy: is not a key" in seen,
    }


def stop() -> object:
    """Stopped is stopped: nothing listens, and nobody who knocks starts it again."""
    run("systemctl", "stop", "labora.service")
    until(lambda: show("ActiveState", "labora-api.socket") == "inactive", "the end of the socket")
    return {
        "refused": not connects(PORT) and not connects(8080),
        "state": show("ActiveState"),
        "result": show("Result"),
    }


def credential() -> object:
    """A secret is passed to the service, and only there can it be read."""
    secret = Path("/etc/labora/credentials/database-url")
    secret.write_text("postgresql:///labora?host=/run/postgresql&user=labora_app&application_name=by-credential")
    secret.chmod(0o600)
    run("/opt/labora/current/scripts/install", "--host", "lab.example.org", "--without-nginx")
    run("systemctl", "restart", "labora")
    return {
        "names": os.listdir("/run/credentials/labora.service"), "status": http("/ready"),
        "by the account": run("runuser", "-u", "labora", "--", "cat", str(secret), status=1),
    }  # fmt: skip


def _left() -> list[str]:
    kept = ("/etc/labora", "/var/lib/labora", "/var/backups/labora", "/opt/labora", "/usr/local/bin/labora",
            "/etc/systemd/system/labora.service", "/etc/nginx/sites-enabled/labora")  # fmt: skip
    return [each for each in kept if os.path.lexists(each)]


def _names(query: str, database: str = "postgres") -> list[str]:
    return run("runuser", "-u", "postgres", "--", "psql", "-d", database, "-Atqc", query).split()


_DATABASES = "select datname from pg_database where datname ~ 'labora'"
_ROLES = "select rolname from pg_roles where rolname ~ 'labora' order by 1"


def uninstall() -> object:
    """The service goes, what it knows stays, and goes too when that is asked for."""
    shutil.copytree("/opt/labora/current", "/srv/last", symlinks=True, ignore=shutil.ignore_patterns(".venv", ".whole"))
    run("/opt/labora/current/scripts/uninstall")
    first = {"left": _left(), "databases": _names(_DATABASES), "roles": _names(_ROLES), "refused": not connects(8080)}
    run("/srv/last/scripts/uninstall", "--purge")
    return {
        "first": first, "left": _left(), "databases": _names(_DATABASES), "roles": _names(_ROLES),
        "account": run("getent", "passwd", "labora", status=2),
        "access": run("grep", "-r", "labora", "/etc/postgresql", status=1),
        "PostgreSQL": run("pg_lsclusters", "-h").split()[3],
    }  # fmt: skip


CHECKS = (
    start, check, reload, restart, killed, database_killed, watchdog, due, backup, health, proxy, canary, jail, pages,
    upgrade, upgrade_fails, upgrade_fails_after_migrating, upgrade_fails_in_migrating, upgrade_migrates, credential,
    misconfigured, stop, uninstall,
)  # fmt: skip


def main(names: list[str]) -> None:
    began = time.monotonic()
    for each in CHECKS:
        if not names or each.__name__ in names:
            at = time.monotonic()
            try:
                seen[each.__name__] = each()
            except Exception as error:
                seen[each.__name__] = f"{type(error).__name__}: {error}"
            seen[f"{each.__name__} took"] = round(time.monotonic() - at, 2)
            REPORT.write_text(json.dumps(seen, indent=1))  # as far as we got
    with suppress(Exception):
        seen["journal"] = run("journalctl", "-b", "-u", "labora*", "-o", "short-monotonic", "--no-pager")[-20000:]
    seen["seconds"] = round(time.monotonic() - began, 1)
    REPORT.write_text(json.dumps(seen, indent=1))


main(sys.argv[1:])
