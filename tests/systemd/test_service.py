"""The service as an administrator has it: installed on a Debian by scripts/install, booted, disturbed, stopped."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.systemd.installed import PASSWORD, Installed, Report, boot, installed

UNITS = Path(__file__).parent.parent.parent / "systemd"
MOST_EXPOSED = 20  # tenths
DEFAULT = (
    "start", "check", "reload", "restart", "killed", "database_killed", "due", "backup", "health", "proxy", "canary",
    "misconfigured", "stop",
)  # fmt: skip
LONG = (
    "start", "reload", "watchdog", "jail", "pages", "upgrade", "upgrade_fails", "upgrade_fails_after_migrating",
    "upgrade_fails_in_migrating", "upgrade_migrates", "credential", "uninstall",
)  # fmt: skip


# ---- the units ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", sorted(UNITS.glob("*.service")), ids=lambda path: path.name)
def test_a_service_is_shut_in(unit: Path) -> None:
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-400:] + judged.stderr


def test_nothing_is_deleted_in_a_night_without_a_backup() -> None:
    unit = (UNITS / "labora-backup.service").read_text()
    runs = re.findall(r"^(Exec\w+)=.*/labora (.*)$", unit, re.MULTILINE)
    assert runs == [
        ("ExecStartPre", "db maintain --keep"), ("ExecStart", "backup create"), ("ExecStartPost", "db maintain"),
    ]  # fmt: skip


def test_serial_ports_stay_usable_and_cores_are_never_written() -> None:
    unit = (UNITS / "labora.service").read_text()
    directives = re.findall(r"^([A-Za-z]+)=(.*)$", unit, re.MULTILINE)
    assert not {"PrivateUsers", "PrivateDevices"} & {name for name, _ in directives}
    assert {f"char-{name} rw" for name in ("ttyS", "ttyUSB", "ttyACM")} == {
        value for name, value in directives if name == "DeviceAllow"
    }
    assert {("DevicePolicy", "closed"), ("SupplementaryGroups", "dialout"), ("LimitCORE", "0"), ("Type", "notify"),
            ("RestartPreventExitStatus", "78")} <= set(directives)  # fmt: skip


# The root is made once and booted once: what follows is judged by two tests at the end.


def systemd_takes_the_units_as_they_are_installed(system: Installed) -> None:
    names = sorted(path.name for path in UNITS.iterdir())
    said = system.run("sh", "-c", f"cd /etc/systemd/system && systemd-analyze verify --man=no {' '.join(names)} 2>&1")
    assert [line for line in said.splitlines() if "labora" in line] == []


# ---- scripts/install ------------------------------------------------------------------------------------------------


def every_step_is_a_line_and_the_last_ones_are_a_check_and_what_to_do_next(system: Installed) -> None:
    said = system.said.splitlines()
    assert all(re.match(r"(user|role|database|schema|laboratory|certificate) ", f"{each} ") is None or "(new)" in each
               for each in said)  # fmt: skip
    at = said.index("check")
    assert said[at + 1 :][:1] == ["ok       /etc/labora/config.toml: read"]
    assert all(each.startswith("ok ") for each in said[at + 1 : -1])
    assert any("database: reached" in each for each in said[at:])
    assert "Next: describe your analyzers" in system.said
    assert PASSWORD not in system.said


def without_a_compiler_it_says_so_and_goes_on(system: Installed) -> None:
    (line,) = [each for each in system.said.splitlines() if each.startswith("machine code ")]
    assert "none, without a C compiler" in line and "gcc" in line


def run_again_it_changes_nothing(system: Installed) -> None:
    assert "(new)" not in system.again
    assert "\n0 changes." in system.again


def secrets_and_patients_data_are_nobody_elses(system: Installed) -> None:
    found = system.run(
        "stat", "-c", "%n %U:%G %a", "/etc/labora", "/etc/labora/config.toml", "/etc/labora/owner.env",
        "/etc/labora/credentials", "/etc/labora/tls/server.key", "/var/lib/labora", "/var/backups/labora",
        "/opt/labora/current/.venv/bin/labora",
    )  # fmt: skip
    assert found.splitlines() == [
        "/etc/labora root:labora 750",
        "/etc/labora/config.toml root:labora 640",
        "/etc/labora/owner.env root:root 600",
        "/etc/labora/credentials root:root 700",
        "/etc/labora/tls/server.key root:root 600",
        "/var/lib/labora labora:labora 750",
        "/var/backups/labora root:labora 2750",
        "/opt/labora/current/.venv/bin/labora root:root 755",
    ]


# ---- the service, booted --------------------------------------------------------------------------------------------


def it_starts_with_the_machine(seen: Report) -> None:
    start = seen["start"]
    assert (start["type"], start["user"], start["status"], start["sockets"]) == ("notify", "labora", 200, "active")
    assert start["timers"] == ["labora-backup.timer", "labora-healthcheck.timer", "labora-qc-due.timer"]
    assert start["failed"] == []


def the_check_is_green_beside_it(seen: Report) -> None:
    assert all(line.startswith("ok ") for line in seen["check"].splitlines())


def a_reload_opens_a_new_link_in_the_same_process(seen: Report) -> None:
    assert seen["reload"] == {"serves": True, "same process": True, "stored": "1"}


def nobody_is_refused_while_it_starts_anew(seen: Report, how: str) -> None:
    found = seen[how]
    assert found["refused"] == 0
    assert found["made"] > 40
    assert found["serves"]


def a_database_that_died_is_started_anew(seen: Report) -> None:
    assert seen["database_killed"] == {"serves": True}


def its_jobs_run(seen: Report) -> None:
    assert seen["due"] == "success"
    assert seen["backup"] == 1
    # It looks at everything and may find that there was no backup until a moment ago, but nothing worse.
    said = "\n".join(seen["health"]["said"])
    assert seen["health"]["status"] in ("0", "1"), said
    assert "Health check of Labora" in said
    assert re.search(r"urgent|unexpected|cannot|denied|not permitted|Traceback", said) is None, said


def nginx_passes_on_and_logs_nothing_of_patients(seen: Report) -> None:
    proxy = seen["proxy"]
    assert proxy["status"] == 401
    assert re.fullmatch(r'"GET /fhir/Patient" 401 \d+ [0-9.]+', proxy["log"])
    assert proxy["canary"] is False


def no_word_of_a_patient_is_in_any_log_of_the_machine(seen: Report) -> None:
    found = seen["canary"]
    assert found["found"] == []
    assert found["journal"] and found["logs"] >= 4, found
    *refused, by_name, by_address = found["statuses"]
    assert all(400 <= status < 500 for status in refused), found
    assert (by_name, by_address) == (301, 301)


def a_wrong_configuration_is_not_tried_again_until_it_is_mended(seen: Report) -> None:
    found = seen["misconfigured"]
    assert found["starts"] in (1, 2), found  # once by who asked for it, and once by who knocked before the port closed
    assert (found["seen"], found["ready"]) == (True, 200)


def stopped_it_stays_stopped(seen: Report) -> None:
    assert seen["stop"] == {"refused": True, "state": "inactive", "result": "success"}


# ---- what takes longer ----------------------------------------------------------------------------------------------


def a_daemon_that_hangs_is_ended_and_started_anew(seen: Report) -> None:
    assert seen["watchdog"] == {"fed": True, "result": True, "serves": True}


def who_guesses_passwords_is_kept_away(seen: Report) -> None:
    assert "labora," in seen["jail"]["jails"]
    assert seen["jail"]["matches"]


def what_the_pages_say_to_root_is_done(seen: Report) -> None:
    assert len(seen["pages"]["said"]) >= 4
    assert [where for where, (status, _) in seen["pages"]["said"].items() if status] == [], seen["pages"]
    assert (seen["pages"]["serves"], seen["pages"]["ready"]) == (True, 200)


def an_upgrade_refuses_nobody(seen: Report) -> None:
    found = seen["upgrade"]
    assert (found["status"], found["changed"], found["refused"]) == (0, True, 0), found
    assert (found["backups"], found["serves"], found["left"]) == (1, True, False)


def a_release_that_does_not_run_is_taken_back_with_its_schema(seen: Report, how: str) -> None:
    found = seen[how]
    assert (found["status"], found["changed"]) == (1, False), found
    assert (found["schema"], found["databases"]) == (seen["upgrade"]["schema"], ["labora"])
    assert (found["serves"], found["left"], found["refused"]) == (True, False, 0), found
    assert "nothing that was acknowledged is lost" in found["said"][-1]


def an_upgrade_migrates_the_schema(seen: Report) -> None:
    found = seen["upgrade_migrates"]
    assert (found["status"], found["schema"], found["databases"]) == (0, "9999", ["labora"]), found
    assert found["refused"] == 0


def a_secret_is_passed_to_the_service_and_read_nowhere_else(seen: Report) -> None:
    assert seen["credential"] == {"names": ["labora.database-url"], "status": 200, "by the account": ""}


def uninstalled_it_leaves_what_it_knows_until_that_is_purged(seen: Report) -> None:
    found = seen["uninstall"]
    assert found.pop("first") == {
        "left": ["/etc/labora", "/var/lib/labora", "/var/backups/labora"],
        "databases": ["labora"],
        "roles": ["labora_app", "labora_backup", "labora_owner"],
        "refused": True,
    }
    nothing: dict[str, object] = {"left": [], "databases": [], "roles": [], "account": "", "access": ""}
    assert found == {**nothing, "PostgreSQL": "online"}


@pytest.mark.timeout(600)  # where the root is made, which is kept
def test_installed_on_a_debian_it_boots_serves_refuses_nobody_and_stops() -> None:
    with installed() as system:
        systemd_takes_the_units_as_they_are_installed(system)
        every_step_is_a_line_and_the_last_ones_are_a_check_and_what_to_do_next(system)
        without_a_compiler_it_says_so_and_goes_on(system)
        run_again_it_changes_nothing(system)
        secrets_and_patients_data_are_nobody_elses(system)
        seen = boot(system, *DEFAULT)
    it_starts_with_the_machine(seen)
    the_check_is_green_beside_it(seen)
    a_reload_opens_a_new_link_in_the_same_process(seen)
    nobody_is_refused_while_it_starts_anew(seen, "restart")
    nobody_is_refused_while_it_starts_anew(seen, "killed")
    a_database_that_died_is_started_anew(seen)
    its_jobs_run(seen)
    nginx_passes_on_and_logs_nothing_of_patients(seen)
    no_word_of_a_patient_is_in_any_log_of_the_machine(seen)
    a_wrong_configuration_is_not_tried_again_until_it_is_mended(seen)
    stopped_it_stays_stopped(seen)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_it_survives_a_standstill_and_releases_that_do_not_run() -> None:
    with installed() as system:
        seen = boot(system, *LONG)
    a_daemon_that_hangs_is_ended_and_started_anew(seen)
    who_guesses_passwords_is_kept_away(seen)
    what_the_pages_say_to_root_is_done(seen)
    an_upgrade_refuses_nobody(seen)
    for how in ("upgrade_fails", "upgrade_fails_after_migrating", "upgrade_fails_in_migrating"):
        a_release_that_does_not_run_is_taken_back_with_its_schema(seen, how)
    an_upgrade_migrates_the_schema(seen)
    a_secret_is_passed_to_the_service_and_read_nowhere_else(seen)
    uninstalled_it_leaves_what_it_knows_until_that_is_purged(seen)
