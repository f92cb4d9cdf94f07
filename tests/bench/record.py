"""What is wanted of Labora (PERFORMANCE P1 to P15) and what was measured: `note` writes a figure down.

LABORA_BENCH_RECORD names the file that figures are added to, a JSON object a line; where it is not set, they are only
printed. `scripts/bench all` sets it and makes docs/performance.md of it; what a part found that was run by itself, for
longer than a full run may take, is added to that page by `scripts/bench all --enter FILE`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

FILE = "LABORA_BENCH_RECORD"


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that is wanted: `least` or `most`, in a `unit` or as a share of something."""

    what: str
    unit: str
    least: float | None = None
    most: float | None = None
    stretch: float | None = None

    @property
    def wanted(self) -> float:
        """The bound, whichever it is."""
        bound = self.most if self.least is None else self.least
        assert bound is not None, self.what
        return bound

    def met(self, value: float, bound: float | None = None) -> bool:
        """Whether a figure is as good as wanted, or as another bound."""
        bound = self.wanted if bound is None else bound
        return value <= bound if self.least is None else value >= bound


_GROUP, _FULL, _HTTP = "of limit-pg-group", "of limit-pg-full", "of limit-http-pg"
# Two readings of "half of P7's rate": of what a run reaches, and of what P7 demands.
_REACHED, _WANTED = "half of the reads that this run reached", "half of the reads that P7 wants"
_BESIDE = "API while a quarter of P1's comes in, at"
TARGETS = {
    "P1-ack": Target("MLLP, 16 connections: acknowledged after the journal's commit", _GROUP, 0.6, stretch=0.9),
    "P1-sustained": Target("the same, from the first byte to the last decision, nothing ordered", _FULL, 0.3),
    "P1-decided": Target("what waits is decided: orders, intervals, earlier results, rules, release", _FULL, 0.3),
    "P2": Target("MLLP, one connection: acknowledged after the journal's commit", _GROUP, 0.6, stretch=0.9),
    "P3-p99": Target("acknowledgement at half of P1's rate, open loop: p99", "ms", most=25.0, stretch=15.0),
    "P3-ratio": Target("the same: p99", "times limit-pg-full's at that rate", most=3.0, stretch=2.0),
    "P3-p99.9": Target("the same: p99.9", "ms", most=100.0),
    "P5-1": Target("ASTM sessions, every frame durable before its ACK, one connection", f"{_GROUP} / 29", 0.8),
    "P5-16": Target("the same, 16 connections", f"{_GROUP} / 29", 0.8),
    "P6-hl7": Target("reading a message of 25 OBX: CPU", "of python-hl7's", most=0.1, stretch=1 / 15),
    "P6-hl7apy": Target("the same", "of hl7apy's", most=0.01),
    "P7": Target("FHIR read by id, 16 connections, token and audit", _HTTP, 0.5, stretch=0.65),
    "P8": Target("search of 25 Observations, 16 connections", f"{_HTTP}, Bundle of 25", 0.35, stretch=0.5),
    "P8-p95": Target("the same: p95", "ms", most=15.0),
    "P8-p99": Target("the same: p99", "ms", most=40.0),
    "P9-p95": Target(f"{_BESIDE} {_REACHED}: p95", "ms", most=20.0, stretch=10.0),
    "P9-p99": Target("the same: p99", "ms", most=60.0, stretch=30.0),
    "P9-wanted-p95": Target(f"{_BESIDE} {_WANTED}: p95", "ms", most=20.0, stretch=10.0),
    "P9-wanted-p99": Target("the same: p99", "ms", most=60.0, stretch=30.0),
    "P10-read": Target("P7 with many observations stored", "of the rate with few", 0.8, stretch=0.9),
    "P10-search": Target("P8 with many observations stored", "of the rate with few", 0.8, stretch=0.9),
    "P11-p95": Target("from the acknowledgement to the API: p95", "ms", most=250.0, stretch=50.0),
    "P11-p99": Target("the same: p99", "ms", most=1000.0),
    "P12": Target(
        f"a backlog of 27,000 messages is decided, reads beside it at {_REACHED}", "s", most=60.0, stretch=30.0
    ),
    "P12-p95": Target("API meanwhile: p95", "ms", most=20.0, stretch=10.0),
    "P12-wanted": Target(f"the same, beside it {_WANTED}", "s", most=60.0, stretch=30.0),
    "P12-wanted-p95": Target("API meanwhile: p95", "ms", most=20.0, stretch=10.0),
    "P13-rss": Target("memory of a daemon of 64 links", "MB", most=150.0, stretch=100.0),
    "P13-growth": Target("its growth over a million messages, at an even load", "MB", most=5.0),
    "P13-idle": Target("of each connection more that is idle", "kB", most=50.0),
    "P14": Target("CPU a message, PostgreSQL included", "times limit-pg-full's", most=2.0, stretch=1.5),
    "P15-syncs": Target("WAL syncs a message, 16 connections", "a message", most=0.5, stretch=0.2),
    "P15-bytes": Target("WAL a message, 16 connections", "kB", most=8.0),
    "query-p99": Target("answer to an analyzer's query, 16 ask at once: p99", "ms", most=50.0),
    "ready": Target("a daemon's start to READY, warm: p95", "s", most=1.5),
    "next-ack": Target("from kill -9 to the next acknowledgement: p95", "s", most=1.0),
}


def note(name: str, value: float, how: str = "") -> bool:
    """Write down what was measured of a target, `how`: rates, ceilings, rounds, noise. Gives whether it is met."""
    if file := os.environ.get(FILE):
        with open(file, "a", encoding="utf-8") as record:
            record.write(json.dumps({"name": name, "value": round(value, 4), "how": how}) + "\n")
    return TARGETS[name].met(value)
