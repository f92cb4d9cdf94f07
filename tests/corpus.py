"""The corpus: real messages that nobody here wrote, with what a correct parser must find in them.

It is not part of the repository: LABORA_CORPUS, by default ../shared/corpus beside it.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

CORPUS = Path(os.environ.get("LABORA_CORPUS") or Path(__file__).resolve().parents[2] / "shared" / "corpus")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of EXPECTED.tsv: a result as the file has it."""

    file: str
    number: int
    specimen: str
    code: str
    value: str
    unit: str
    reference: str
    flag: str
    status: str


@dataclass(frozen=True, slots=True)
class Listed:
    """What MANIFEST.tsv says of a file. `specimen`: of the first message, all that a query asks for."""

    messages: int
    results: int
    specimen: str
    patient: str
    orders: int


def corpus() -> Path:
    """The corpus, or the reason why it is not looked at. On a build machine its absence is a failure."""
    if not CORPUS.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"no corpus at {CORPUS}; set LABORA_CORPUS")
        pytest.skip(f"no corpus at {CORPUS}; set LABORA_CORPUS")
    return CORPUS


def files(*kinds: str) -> list[str]:
    """The files of some folders, for parametrize: without a corpus one name, so that its test can say so."""
    if not CORPUS.is_dir():
        return ["no corpus"]
    return [f"{kind}/{path.name}" for kind in kinds for path in sorted((CORPUS / kind).iterdir())]


def read(file: str) -> bytes:
    return (corpus() / file).read_bytes()


@cache
def rows() -> dict[str, list[Row]]:
    """EXPECTED.tsv by file, in the order of the file."""
    found: dict[str, list[Row]] = {}
    for line in _table("EXPECTED.tsv"):
        texts = [line[name] or "" for name in ("sample_raw", "code_raw", "value", "units", "range", "flag", "status")]
        found.setdefault(line["file"], []).append(Row(line["file"], int(line["n"]), *texts))
    return found


@cache
def manifest() -> dict[str, Listed]:
    """MANIFEST.tsv by file."""
    return {
        line["file"]: Listed(
            int(line["n_messages"]),
            int(line["n_results"]),
            line["sample_id"],
            line["patient_id"],
            int(line["n_orders"] or 0),
        )
        for line in _table("MANIFEST.tsv")
    }


def _table(name: str) -> list[dict[str, str]]:
    with (corpus() / name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
