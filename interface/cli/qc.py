"""`labora qc`: quality control. Each noun below it is a module of its own, imported only when it is called."""

from __future__ import annotations

from collections.abc import Mapping

import click

from interface.cli import Nouns

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


@click.group(cls=Nouns, table=COMMANDS)
def qc() -> None:
    """Control materials, what they measure, and whether patients' results may be released. docs/qc.md is a how-to."""
