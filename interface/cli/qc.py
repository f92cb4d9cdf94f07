"""`labora qc`: quality control. Each noun below it is a module of its own, imported only when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import cast

import click

COMMANDS: Mapping[str, tuple[str, str]] = {  # noun: (its module's attribute, one line for --help)
    "material": ("interface.cli.qc_lot:material", "Control materials."),
    "lot": ("interface.cli.qc_lot:lot", "Lots of control materials, a level each; import and export them."),
    "target": ("interface.cli.qc_target:target", "What controls should measure: set, end, establish."),
    "reagent": ("interface.cli.qc_reagent:reagent", "Reagent and calibrator lots in use."),
    "result": ("interface.cli.qc_result:result", "List, enter and assign results of controls."),
    "status": ("interface.cli.qc_gate:status", "The state of each test on each analyzer, and what is due."),
    "action": ("interface.cli.qc_gate:action", "Say what was done about a failure."),
    "lookback": ("interface.cli.qc_gate:lookback", "Patients' results since the last acceptable control."),
    "plan": ("interface.cli.qc_gate:plan", "Which rules judge, and how often controls are wanted."),
    "chart": ("interface.cli.qc_chart:chart", "Draw a Levey-Jennings chart."),
    "report": ("interface.cli.qc_chart:report", "Write a month's report."),
    "pbrtqc": ("interface.cli.qc_pbrtqc:pbrtqc", "Quality control by the patients' own results."),
    "peer": ("interface.cli.qc_peer:peer", "Compare with what other laboratories measure."),
}


class _Nouns(click.Group):
    """A group that knows its commands by table and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (place, _) in COMMANDS.items() if find_spec(place.partition(":")[0])]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        return cast(click.Command, getattr(importlib.import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=_Nouns)
def qc() -> None:
    """Control materials, what they measure, and whether patients' results may be released. docs/qc.md is a how-to."""
