"""The gate: what the controls of some analyzers say of patients' results, by the history of each stream. Pure.

Which streams speak of a result:

| the result's module | speak |
| --- | --- |
| is known | that module's; one of no module as well while it is out of control |
| is not known | every stream of the analyzer's test: the worst of them |

A reagent lot that is known and was never controlled acceptably is not known to be in control.

Where none speaks of a result nothing is known of it; and what held it, the controls of no module while they were out of
control or the patients' own results, holds it no more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from interface.domain.facts import QcState
from interface.domain.judging import QC_UNKNOWN, NoQc, QcGate, QcSays
from interface.domain.model import Step
from interface.domain.qc_state import IN_CONTROL, NOT_KNOWN, SILENT, WORST, At, History

_VERDICTS = {QcState.OK: "ok", QcState.WARN: "ok", QcState.UNKNOWN: "none"}  # all others hold
MOST_LANES = 4096
_HOLDING = frozenset({QcState.FAIL, QcState.EXPIRED})


@dataclass(frozen=True, slots=True)
class GateStream:
    """One stream of a test. `plan`: what it is controlled by, and its version."""

    module: str
    history: History
    plan: str = ""


class _Lane:
    """What is said of results of one test, module and reagent lot, by time: thousands ask, and it changes seldom."""

    __slots__ = ("begins", "said")

    def __init__(self, streams: Sequence[GateStream]) -> None:
        changes = {at for stream in streams for at in stream.history.changes()}
        self.begins = tuple(sorted(changes))
        self.said: list[QcSays | None] = [None] * (len(self.begins) + 1)


class StreamGate:
    """A `QcGate`: of the streams by analyzer (its name) and test (its code). `says` gives the same object for the same
    words."""

    def __init__(self, streams: Mapping[tuple[str, str], Sequence[GateStream]]) -> None:
        self._streams = streams
        self._lanes: dict[tuple[str, str, str, str], _Lane] = {}
        self._said: dict[tuple[str, At], QcSays] = {}

    def says(self, analyzer: str, test: str, at: datetime | None, module: str = "", reagent_lot: str = "") -> QcSays:
        if not self._streams:
            return QC_UNKNOWN
        key = analyzer, test, module, reagent_lot
        lane = self._lanes.get(key)
        if lane is None:
            if (analyzer, test) not in self._streams:
                return QC_UNKNOWN
            lane = self._lane(key)
        if at is None:
            return QC_UNKNOWN
        index = bisect_right(lane.begins, at)
        said = lane.said[index]
        if said is None:
            said = lane.said[index] = self._words(self.at(analyzer, test, at, module, reagent_lot), analyzer, test)
        return said

    def state(self, analyzer: str, test: str, at: datetime | None, module: str = "", reagent_lot: str = "") -> QcState:
        return self.says(analyzer, test, at, module, reagent_lot).state

    def at(self, analyzer: str, test: str, at: datetime, module: str = "", reagent_lot: str = "") -> At:
        """What the controls say of that time, in the words of a history."""
        found = self._streams.get((analyzer, test), ())
        speaking = [said for one in found if (said := _speaks(one, module, at, reagent_lot, found)) is not None]
        if found and not speaking:  # those of no module held it perhaps, and may not know any more that it is to be so
            return SILENT if all(one.history.at(at).opens for one in found if not one.module) else NOT_KNOWN
        # Of two that are as bad the one counts that opens nothing.
        return min(speaking, key=lambda one: (WORST.index(one.state), one.opens), default=NOT_KNOWN)

    def _lane(self, key: tuple[str, str, str, str]) -> _Lane:
        if len(self._lanes) >= MOST_LANES:  # an analyzer that says another lot in each result
            self._lanes.clear()
        lane = self._lanes[key] = _Lane(self._streams[key[:2]])
        return lane

    def _words(self, at: At, analyzer: str, test: str) -> QcSays:
        plan = self._streams[analyzer, test][0].plan
        return self._said.setdefault((plan, at), _says(at, plan))


def _speaks(stream: GateStream, module: str, at: datetime, reagent_lot: str, beside: Sequence[GateStream]) -> At | None:
    """What a stream says of a result; None where it has no say in it."""
    said = stream.history.at(at)
    if not stream.history.spans and said.state is QcState.UNKNOWN and len(beside) > 1:
        return None  # it was only ever spoken of by the patients' own results
    if module and stream.module != module:
        return said if not stream.module and said.state in _HOLDING else None
    if reagent_lot and said.state in IN_CONTROL and reagent_lot not in stream.history.lots:
        return At(QcState.UNKNOWN)
    return said


def _says(at: At, plan: str) -> QcSays:
    inputs = {"state": at.state.value}
    if at.point:
        inputs["point"] = at.point
    if at.action:
        inputs["action"] = at.action
    step = Step("qc", _VERDICTS.get(at.state, "hold"), f"quality control is {at.state.value}", plan, inputs)
    return QcSays(at.state, step, at.opens)


@dataclass(frozen=True, slots=True)
class JoinedGate:
    """A `QcGate`: several gates, of different analyzers, as one."""

    gates: tuple[StreamGate, ...] = field(default=())

    def says(self, analyzer: str, test: str, at: datetime | None, module: str = "", reagent_lot: str = "") -> QcSays:
        for gate in self.gates:
            said = gate.says(analyzer, test, at, module, reagent_lot)
            if said is not QC_UNKNOWN:
                return said
        return QC_UNKNOWN

    def state(self, analyzer: str, test: str, at: datetime | None, module: str = "", reagent_lot: str = "") -> QcState:
        return self.says(analyzer, test, at, module, reagent_lot).state

    def at(self, analyzer: str, test: str, at: datetime, module: str = "", reagent_lot: str = "") -> At:
        """As `StreamGate.at`."""
        said = [gate.at(analyzer, test, at, module, reagent_lot) for gate in self.gates]
        return next((one for one in said if one != At(QcState.UNKNOWN)), At(QcState.UNKNOWN))


def joined(gates: Iterable[QcGate]) -> JoinedGate:
    """One gate of several that `flow.qc_gate` has made. Of those that know nothing there is nothing to ask."""
    found: list[StreamGate] = []
    for gate in gates:
        if isinstance(gate, JoinedGate):
            found += gate.gates
        elif isinstance(gate, StreamGate):
            found.append(gate)
        elif not isinstance(gate, NoQc):
            raise TypeError(f"{type(gate).__name__} is no gate of quality control")
    return JoinedGate(tuple(found))
