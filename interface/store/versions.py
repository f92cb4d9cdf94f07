"""The versions of results, by whose they are.

A result's first version has its id: so it is found by the key that it has anyway, and the index over whose a version is
holds only the later ones, and those of before migration 0045. It must be asked for in these words.
"""

from __future__ import annotations

from interface.domain.times import CLOCK_AHEAD, CLOCK_BEHIND


def versions_of(results: str) -> str:
    """All versions of the results whose id fits: `= r.id`, `= any($1)`."""
    return (
        f"(select * from lab.result_version where id {results} and id = result_id"  # noqa: S608 - words of ours
        f" union all select * from lab.result_version where result_id {results} and id <> result_id)"
    )


def last_version(result: str, version: str) -> str:
    """The highest number that any version of the result has. `version`: the number of one, such as its current one."""
    return (
        f"greatest({version}, (select max(version) from lab.result_version"  # noqa: S608 - words of ours
        f" where result_id = {result} and id <> result_id))"
    )


def was_preliminary(result: str, before: str = "true") -> str:
    """Whether a version `w` of the result, of those that are `before`, was one that an EMR sees where `[api]
    preliminary` says so: what takes it back is seen there too, for as long as the result is not released."""
    early = f"w.status = 'preliminary' and w.held = '{{}}' and {before}"
    return f"exists (select from {versions_of(f'= {result}')} w where {early})"


def shown_version(result: str) -> str:
    """The id by which the current version of the result is known to those who keep what they read: its own, or that
    of what is shown of it since the time of its collection was told (`store.specimens`)."""
    return f"case when {result}.told_of = {result}.version_id then {result}.told_id else {result}.version_id end"


def measured(version: str, result: str) -> str:
    """When a version's value was measured, by the instrument's clock where that is believed (`domain.times.believed`):
    of one that was never set, or lost its battery, the text that was sent is kept, and nothing is said to have been so
    then. `created_at` of the result: when it came, as far as is told here."""
    behind, ahead = (f"interval '{one.total_seconds():.0f} s'" for one in (CLOCK_BEHIND, CLOCK_AHEAD))
    came, at = f"{result}.created_at", f"{version}.instrument_at"
    return f"case when {at} between {came} - {behind} and {came} + {ahead} then {at} end"
