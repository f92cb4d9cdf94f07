from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.merges import root, survivors

RECORDS = range(8)


@st.composite
def forests(draw: st.DrawFn) -> dict[int, int]:
    """Merges in force: each record into one with a higher number, so that none goes in a circle."""
    priors = draw(st.sets(st.sampled_from(RECORDS[:-1])))
    return {prior: draw(st.integers(prior + 1, RECORDS[-1])) for prior in sorted(priors)}


def test_chains_lead_to_their_end() -> None:
    assert survivors({1: 2, 2: 3, 4: 3}, range(1, 6)) == {1: 3, 2: 3, 3: None, 4: 3, 5: None}


@pytest.mark.parametrize("parents", [{1: 1}, {1: 2, 2: 1}, {1: 2, 2: 3, 3: 2}])
def test_a_circle_is_refused(parents: dict[int, int]) -> None:
    with pytest.raises(ValueError, match="circle"):
        root(parents, 1)


@given(forests(), st.data())
def test_a_merge_that_is_taken_back_leaves_what_was(parents: dict[int, int], data: st.DataObject) -> None:
    roots = [record for record in RECORDS if record not in parents]
    before = survivors(parents, RECORDS)
    prior = data.draw(st.sampled_from(roots))
    others = [record for record in roots if record != prior]
    if not others:
        return
    merged = {**parents, prior: data.draw(st.sampled_from(others))}
    after = survivors(merged, RECORDS)
    assert all(survivor is None or after[survivor] is None for survivor in after.values()), "chains are flat"
    assert after[prior] is not None
    merged.pop(prior)
    assert survivors(merged, RECORDS) == before


@given(forests(), st.data())
def test_only_the_branch_is_cut_off(parents: dict[int, int], data: st.DataObject) -> None:
    if not parents:
        return
    cut = data.draw(st.sampled_from(sorted(parents)))
    before = {record: root(parents, record) for record in RECORDS}
    left = {prior: survivor for prior, survivor in parents.items() if prior != cut}
    for record in RECORDS:
        path, place = [record], record
        while place in parents:
            place = parents[place]
            path.append(place)
        assert root(left, record) == (cut if cut in path else before[record])
