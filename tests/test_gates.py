"""Every gate of scripts/test fails on a planted fault; one that cannot fail guards nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYPROJECT = ROOT / "pyproject.toml"
WITHOUT_CACHES = shutil.ignore_patterns("__pycache__")


def run(*command: str | Path, cwd: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return subprocess.run(command, cwd=cwd, input=text, capture_output=True, text=True, timeout=100, env=environ)


# ---- import-linter ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The package and its contracts, to plant faults in."""
    shutil.copytree(ROOT / "interface", tmp_path / "interface", ignore=WITHOUT_CACHES)
    shutil.copy(PYPROJECT, tmp_path)
    return tmp_path


def test_the_package_keeps_its_import_contracts(tree: Path) -> None:
    done = run(BIN / "lint-imports", "--no-cache", cwd=tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("wire/planted.py", "import asyncio", "the core is pure"),
        ("domain/planted.py", "import time", "the core is pure"),
        ("driver/planted.py", "import sqlalchemy", "the core is pure"),
        ("wire/planted.py", "from interface.domain import model", "layers"),
        ("store/planted.py", "from interface.flow import planted", "layers"),
        ("link/planted.py", "from interface.store import tables", "a link knows its intake by protocol only"),
        ("domain/planted.py", "from interface import telemetry", "pure rooms do not log or measure"),
        ("render/planted.py", "from interface.wire import planted", "render sees the domain only"),
    ],
)
def test_an_import_across_the_rooms_is_caught(tree: Path, module: str, line: str, contract: str) -> None:
    for room in ("wire", "flow"):
        (tree / "interface" / room / "planted.py").write_text('"""Planted."""\n')
    (tree / "interface" / module).write_text(f"{line}\n")
    done = run(BIN / "lint-imports", "--no-cache", cwd=tree)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"^{re.escape(contract)} BROKEN$", done.stdout, re.MULTILINE), done.stdout


# ---- ruff ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        ("E711", "x = 1\ny = x == None\n"),
        ("F401", "import os\n"),
        ("I001", "import sys\nimport os\n\nprint(os, sys)\n"),
        ("B006", "def f(x=[]):\n    return x\n"),
        ("UP006", "from typing import List\n\nx: List[int] = []\n"),
        ("RUF005", "x = [1]\ny = [*x] + [2]\n"),
        ("ASYNC251", "import time\n\n\nasync def f():\n    time.sleep(1)\n"),
        ("DTZ005", "from datetime import datetime\n\nx = datetime.now()\n"),
        ("S608", 'def f(x):\n    return f"SELECT * FROM t WHERE a = {x}"\n'),
        ("E501", f'x = "{"x" * 120}"\n'),
    ],
)
def test_lint_catches_a_planted_fault(rule: str, source: str) -> None:
    command = (
        BIN / "ruff",
        "check",
        "--no-cache",
        "--output-format=concise",
        "--stdin-filename",
        "interface/planted.py",
        "-",
    )
    done = run(*command, cwd=ROOT, text=source)
    assert done.returncode == 1
    assert f" {rule} " in done.stdout


def test_the_formatter_catches_a_planted_fault() -> None:
    command = (BIN / "ruff", "format", "--check", "--no-cache", "--stdin-filename", "interface/planted.py", "-")
    assert run(*command, cwd=ROOT, text="x = {'a':1}\n").returncode == 1


# ---- mypy ------------------------------------------------------------------------------------------------------------


def test_the_type_checker_is_strict(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def f(x):\n    return x\n\n\ndef g() -> int:\n    return 'a'\n")
    done = run(BIN / "mypy", "--config-file", PYPROJECT, "--cache-dir", tmp_path / "cache", planted, cwd=tmp_path)
    assert done.returncode == 1
    assert "[no-untyped-def]" in done.stdout
    assert "[return-value]" in done.stdout


def test_the_type_checker_lets_nobody_change_a_record(tmp_path: Path) -> None:
    """Nothing does at run time (docs/decisions/records.md)."""
    planted = tmp_path / "planted.py"
    planted.write_text("from interface.domain.model import Step\n\nStep('map', 'ok', 'x').text = 'y'\n")
    done = run(BIN / "mypy", "--config-file", PYPROJECT, "--cache-dir", tmp_path / "cache", planted, cwd=ROOT)
    assert done.returncode == 1
    assert 'Property "text" defined in "Step" is read-only' in done.stdout


# ---- pytest ----------------------------------------------------------------------------------------------------------


def test_a_warning_fails_a_test(tmp_path: Path) -> None:
    planted = tmp_path / "test_planted.py"
    planted.write_text("import warnings\n\n\ndef test_it():\n    warnings.warn('planted', stacklevel=1)\n")
    command = (BIN / "pytest", "-c", PYPROJECT, "--rootdir", tmp_path, "-n0", "-p", "no:cacheprovider", planted)
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert "UserWarning: planted" in done.stdout


# ---- scripts/test ----------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """scripts/test and the locks beside programs that all succeed."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "test", tmp_path / "scripts")
    for lock in ("requirements.lock", "requirements-test.lock"):
        shutil.copy(ROOT / lock, tmp_path)
    for program in (".venv/bin/ruff", ".venv/bin/mypy", ".venv/bin/lint-imports", "scripts/prepare"):
        plant(tmp_path / program, "exit 0")
    plant(tmp_path / ".venv/bin/pytest", 'echo "3 passed: $*"')
    return tmp_path


def plant(program: Path, body: str) -> None:
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


def test_all_gates_passing_is_status_0_and_pytest_has_the_last_word(checkout: Path) -> None:
    done = run(checkout / "scripts" / "test", "-k", "some", cwd=checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "3 passed: -m not long -k some"
    assert "FAILED" not in done.stdout


def test_the_long_tests_run_when_asked_for(checkout: Path) -> None:
    done = run(checkout / "scripts" / "test", "--long", cwd=checkout)
    assert done.stdout.splitlines()[-1].strip() == "3 passed:"


@pytest.mark.parametrize("program", ["ruff", "mypy", "lint-imports"])
def test_a_failing_gate_is_named_and_fails_the_run_though_tests_pass(checkout: Path, program: str) -> None:
    plant(checkout / ".venv" / "bin" / program, "echo planted; exit 1")
    done = run(checkout / "scripts" / "test", cwd=checkout)
    assert done.returncode == 1
    assert re.search(rf"^failed gates: .*{program}", done.stdout, re.MULTILINE)
    assert "planted" in done.stdout


def test_failing_tests_fail_the_run(checkout: Path) -> None:
    plant(checkout / ".venv/bin/pytest", "exit 1")
    assert run(checkout / "scripts" / "test", cwd=checkout).returncode == 1


@pytest.mark.parametrize(
    "line", ["--index-url https://pypi.example.org/simple", "--find-links /srv/wheels", "x @ file:///srv/x.whl"]
)
def test_a_lock_tied_to_one_machine_is_caught(checkout: Path, line: str) -> None:
    with (checkout / "requirements-test.lock").open("a") as lock:
        lock.write(f"{line}\n")
    done = run(checkout / "scripts" / "test", cwd=checkout)
    assert done.returncode == 1
    assert "failed gates: locks" in done.stdout
    assert line in done.stdout


# ---- the repository --------------------------------------------------------------------------------------------------


def test_everything_the_project_asks_for_is_locked_with_hashes() -> None:
    project = tomllib.loads(PYPROJECT.read_text())
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["embedded"]]
    wanted += project["build-system"]["requires"]
    wanted += [line for line in (ROOT / "requirements.in").read_text().splitlines() if line and line[0] != "#"]
    lock = (ROOT / "requirements.lock").read_text()
    locked = {
        re.sub(r"[-_.]+", "-", name).lower()
        for name in re.findall(r"^([A-Za-z0-9_.-]+)(?:\[.*\])?==", lock, re.MULTILINE)
    }
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~ ;]", entry)[0]).lower() for entry in wanted}
    assert names <= locked
    assert lock.count("--hash=sha256:") >= len(locked)


def test_modules_stay_under_600_lines() -> None:
    files = [
        file for folder in ("interface", "tests", "migrations", "drivers") for file in (ROOT / folder).rglob("*.py")
    ]
    long = {
        str(file.relative_to(ROOT)): lines for file in files if (lines := len(file.read_text().splitlines())) >= 600
    }
    assert not long
