"""`labora qc`: each of its nouns is there and explains itself, and is imported only when it is called."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from interface.cli import qc


@pytest.mark.parametrize("name", sorted(qc.COMMANDS))
def test_every_noun_exists_and_explains_itself(name: str) -> None:
    command = qc.qc.get_command(click.Context(qc.qc), name)
    assert command is not None
    assert command.name == name
    assert command.help, f"labora qc {name} --help says nothing"


def test_the_group_imports_no_noun() -> None:
    script = (
        "import sys; from interface.cli import run_command; status = run_command(['qc', '--help']); "
        "print(status, [m for m in sys.modules if m.startswith('interface.cli.qc_')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"
