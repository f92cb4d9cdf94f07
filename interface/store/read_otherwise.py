"""Which results would be another test, or another number, had they come now. In the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from uuid import UUID

from interface.domain.model import Step
from interface.store.catalogue import SITE
from interface.store.db import Connection
from interface.store.surroundings import Waited

# `was`: the row that decided; `now`: the one that would, looked for as `read_code_map` and `Catalogue.mapping` do. What
# was sent with a unit of its own has that, whatever the map says. A row that somebody had made to hold, or to end, from
# a time on is another test from then on, and says nothing of what was decided before.
_OTHERWISE = f"""
SELECT k.id, coalesce(t.code, '') AS test, CASE WHEN t.id IS NOT NULL THEN n.unit ELSE '' END AS unit
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS k (id, row, measured_on)
CROSS JOIN LATERAL (SELECT result_id, message_id, code, raw_unit FROM lab.result_version w WHERE w.id = k.id OFFSET 0) v
JOIN lab.code_map was ON was.id = k.row
JOIN lab.message m ON m.id = v.message_id
JOIN lab.result r ON r.id = v.result_id
LEFT JOIN lab.specimen s ON s.id = r.specimen_id
LEFT JOIN LATERAL (
    SELECT c.test_id, c.unit, c.valid_from > h.created_at AS for_later FROM lab.code_map c
    LEFT JOIN lab.map_change h ON h.id = c.change_id
    WHERE c.driver = was.driver AND c.code = v.code AND (c.link_id IS NULL OR c.link_id = m.link_id)
      AND c.specimen_type IN ('', coalesce(nullif(s.type, ''), nullif(k.measured_on, ''), was.specimen_type))
      AND c.ended_at IS NULL
      AND c.valid_from <= now() AND (c.valid_to IS NULL OR c.valid_to > now())
    ORDER BY c.specimen_type <> '' DESC, c.origin = '{SITE}' DESC, c.link_id IS NOT NULL DESC, c.revision DESC,
        c.id DESC LIMIT 1) n ON true
LEFT JOIN lab.test t ON t.id = n.test_id
LEFT JOIN lab.test b ON b.id = was.test_id
WHERE (n.test_id IS DISTINCT FROM was.test_id OR (
        v.raw_unit = '' AND coalesce(nullif(n.unit, ''), t.unit) <> coalesce(nullif(was.unit, ''), b.unit)))
  AND n.for_later IS NOT TRUE AND NOT (was.ended_at IS NULL AND coalesce(was.valid_to <= now(), false))
"""  # noqa: S608 - a constant


_CONVERTED = """
SELECT k.id FROM unnest($1::uuid[], $2::numeric[], $3::int[]) AS k (id, molar_mass, valence)
CROSS JOIN LATERAL (SELECT result_id FROM lab.result_version w WHERE w.id = k.id OFFSET 0) v
JOIN lab.result r ON r.id = v.result_id JOIN lab.test t ON t.id = r.test_id
WHERE (t.molar_mass, t.valence) IS DISTINCT FROM (k.molar_mass, k.valence)
"""


async def read_otherwise(connection: Connection, versions: Mapping[UUID, Waited]) -> dict[UUID, str]:
    """By version what was changed since it was decided, and makes another test or number of it: what its code stands
    for, or the substance by which it was converted. Left out are those of which the same is said as before, and what a
    person has corrected: that is the person's word."""
    own = {id_: one.steps for id_, one in versions.items() if all(step.step != "correct" for step in one.steps)}
    found: dict[UUID, str] = {}
    maps = {id_: _said(steps, "map") for id_, steps in own.items()}
    if by := {id_: UUID(text) for id_, one in maps.items() if (text := one.get("row"))}:
        types = [maps[id_].get("measured_on", "") for id_ in by]  # as the analyzer says, where nobody else does
        for row in await connection.fetch(_OTHERWISE, list(by), list(by.values()), types):
            words = _words(row["test"], row["unit"])
            found[row["id"]] = f"the map of its code was changed since it was decided: {words} now"
    units = {id_: _said(steps, "unit") for id_, steps in own.items()}
    if by_substance := {id_: one for id_, one in units.items() if one.get("molar_mass") or one.get("valence")}:
        masses = [Decimal(mass) if (mass := one.get("molar_mass")) else None for one in by_substance.values()]
        valences = [int(number) if (number := one.get("valence")) else None for one in by_substance.values()]
        said = "the molar mass or valence of its test was changed since it was converted"
        converted = await connection.fetch(_CONVERTED, list(by_substance), masses, valences)
        found = {row["id"]: said for row in converted} | found
    return found


def _said(steps: Iterable[Step], name: str) -> Mapping[str, str]:
    return next((step.inputs for step in steps if step.step == name), {})


def _words(test: str, unit: str) -> str:
    if not test:
        return "held"
    return f"{test} in {unit}" if unit else test
