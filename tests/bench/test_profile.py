"""A profile says our own names, counts nothing that waits, and is drawn as wide as it was often seen."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree

from tests.bench.flame import boxes, flame_graph
from tests.bench.profile import merged, shares

LOOP = "main (interface/cli/__init__.py:1);run_forever (loop.c:9)"
DECIDE = f"{LOOP};ResultWorker._decide (interface/flow/results.py:7)"
RAW = f"""\
{DECIDE};CPyPy_outcome___outcome_of (rooms.so);CPyDef_outcome___outcome_of (labora_rooms.so);malloc (libc.so.6) 30
{DECIDE.replace(":7", ":8")};Connection.fetch (asyncpg/connection.py:3);write (protocol.c:5);write (libc.so.6) 10
{LOOP};epoll_pwait (libc.so.6) 500
Thread.run (threading.py:1);_worker (concurrent/futures/thread.py:2);PyThread_acquire_lock_timed (python3.11) 500
"""


def test_a_profile_is_of_our_functions_and_of_what_works() -> None:
    decide = "results.ResultWorker._decide"
    assert merged(RAW) == {
        (decide, "outcome.outcome_of", "malloc (system)"): 30,
        (decide, "asyncpg", "write (system)"): 10,
    }
    found = {name: (whole, own) for name, whole, own in shares(merged(RAW))}
    assert found[decide] == (1.0, 0.0) and found["outcome.outcome_of"] == (0.75, 0.0)
    assert found["write (system)"] == (0.25, 0.25)


def test_a_graph_is_as_wide_as_often_and_says_no_more_than_can_be_seen() -> None:
    stacks = Counter({("a", "b<c>"): 600, ("a",): 399, ("d",): 1})
    assert [(box.name, box.start, box.share, box.depth) for box in boxes(stacks)] == [
        ("a", 0.0, 0.999, 0),
        ("b<c>", 0.0, 0.6, 1),
    ]
    picture = ElementTree.fromstring(flame_graph(stacks, "of & for"))  # noqa: S314 - ours
    titles = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["a: 99.9%", "b<c>: 60.0%"]
