"""A version's explanation in its own row, and less of it.

Explanations were rows beside the versions of results, each with its own header, key and place in an index: a fifth of
what deciding writes. Now a version has it. Those that are there stay where they are, in `decision_before`, which is
not written to any more: rows that never change need not be written anew, and adding columns with a default changes no
row, so that this migration takes as long with ten million results as with none. `decision` is a view of both.

Results of the same test are mostly explained by the same words, with other numbers in them. Such words are kept once
(migration 0024), now also with holes, which `lab.explained` fills: an array among the steps is the id of the words and
what is in the holes.
"""

from __future__ import annotations

from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

# A view reads with the rights of its owner, who on the server of our own is above row-level security.
OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
SEEN = "({own} or not row_security_active('lab.{table}'))"
DECISION = f"""
create view lab.decision as
    select id as result_version_id, organization_id, steps, driver_revision, map_revision, created_at
      from lab.result_version where steps <> '' and {SEEN.format(own=OWN, table="result_version")}
    union all
    select result_version_id, organization_id, steps, driver_revision, map_revision, created_at
      from lab.decision_before where {SEEN.format(own=OWN, table="decision_before")}
"""  # noqa: S608 - words of ours
# Words with holes are cut at them, and what is in each hole follows the piece before it.
EXPLAINED = """
create or replace function lab.explained(steps text) returns text language sql stable parallel safe as $$
    select '[' || coalesce(string_agg(case json_typeof(s.step) when 'object' then s.step::text else coalesce(
        (select case json_typeof(s.step) when 'string' then e.steps else (
                    select string_agg(p.piece || coalesce((s.step -> p.place::int)::text, ''), '' order by p.place)
                    from unnest(string_to_array(e.steps, chr(1))) with ordinality as p (piece, place)) end
         from lab.explanation e
         where e.id = (case json_typeof(s.step) when 'string' then s.step #>> '{}' else s.step ->> 0 end)::uuid),
        '{"step":"lost","verdict":"hold","text":"this part of the explanation is not there"}'
    ) end, ',' order by s.place), '') || ']'
    from json_array_elements(steps::json) with ordinality as s (step, place)
$$
"""


def upgrade() -> None:
    op.execute("alter table lab.decision rename to decision_before")
    op.execute("alter table lab.decision_before rename constraint decision_pkey to decision_before_pkey")
    op.execute(
        "alter table lab.result_version add column steps text default '' not null,"
        " add column driver_revision text default '' not null, add column map_revision integer default 0 not null"
    )
    op.execute(DECISION)
    op.execute("grant select on lab.decision to labora_app")
    op.execute(EXPLAINED)
    for added in ("explanation text", "driver_revision text", "map_revision int"):
        op.execute(f"alter type lab.version_row add attribute {added}")
    op.execute("drop type lab.decision_row")
