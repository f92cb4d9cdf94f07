"""Planted hazards: nothing that must not be released is, and what must be is, as it was planted."""

from __future__ import annotations

import os

import pytest

from tests.hazards.generator import plan
from tests.hazards.report import lines
from tests.hazards.runner import run
from tests.hazards.verdict import Verdict, compare

SEED = int(os.environ.get("LABORA_HAZARD_SEED", "20261126"))


async def _verdict(url: str, seed: int, results: int) -> Verdict:
    planned = plan(seed, results)
    assert planned.sent == results
    verdict = compare(planned, await run(url, planned))
    print("\n".join(lines(planned, verdict)))
    assert not verdict.faults, "\n".join(map(str, verdict.faults[:20]))
    assert verdict.released >= 0.6 * results
    return verdict


@pytest.mark.timeout(180)
async def test_a_thousand_results_with_planted_hazards(database_url: str) -> None:
    await _verdict(database_url, SEED, 1000)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_ten_thousand_results_with_planted_hazards(database_url: str) -> None:
    await _verdict(database_url, SEED, 10_000)
