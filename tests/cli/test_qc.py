"""`labora qc`: its nouns are there once their modules are, and each explains itself."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.util import find_spec

import click
import pytest

from interface.cli import qc


@pytest.mark.parametrize("name", sorted(qc.COMMANDS))
def test_a_noun_is_there_when_its_module_is(name: str) -> None:
    context = click.Context(qc.qc)
    module, _, attribute = qc.COMMANDS[name][0].partition(":")
    command = qc.qc.get_command(context, name)
    if find_spec(module) is None:
        assert command is None
        assert name not in qc.qc.list_commands(context)
        return
    assert command is getattr(importlib.import_module(module), attribute)
    assert command.name == name
    assert command.help, f"labora qc {name} --help says nothing"


def test_the_group_imports_no_noun() -> None:
    script = (
        "import sys; from interface.cli import run_command; status = run_command(['qc', '--help']); "
        "print(status, [m for m in sys.modules if m.startswith('interface.cli.qc_')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"
