"""Rule sets: their validations, which revision is in force, what switches them off, what they would have done."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# The subselect makes it run once per statement. No setting, or an empty one: null, which no row equals.
OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
NEW = ("rule_validation", "rule_use", "rule_switch", "shadow_verdict")
ENDED = ("rule_use", "rule_switch")  # that a row was ended, by whom and why, is all that is ever added to it

# What is in force, for a transaction that decides: it keeps the lock until it ends, so that whoever switches something
# off knows when nothing that was decided before is still on its way. The function is volatile: what it reads after it
# waited for the lock is what was committed by then.
IN_FORCE = """
create function lab.rules_in_force() returns table (
    kind text, id uuid, name text, key text, revision int, digest text, engine text, catalogue text
) language plpgsql volatile set search_path = pg_catalog as $$
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('labora rules ' || current_setting('labora.org'), 0));
    return query
    select u.mode, s.id, s.name, '', s.revision, s.digest, v.engine, v.catalogue
      from lab.rule_use u join lab.rule_set s on s.id = u.rule_set_id
      left join lateral (select v.engine, v.catalogue from lab.rule_validation v
                          where v.rule_set_id = s.id and v.digest = s.digest order by v.id desc limit 1) v on true
     where u.ended_at is null
    union all
    select 'off', w.id, w.scope, w.key, 0, '', '', '' from lab.rule_switch w where w.ended_at is null;
end $$
"""


def upgrade() -> None:
    ddl = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for statement in ddl.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute("revoke update on lab.rule_set from labora_app")
    for name in NEW:
        op.execute(f"grant select, insert on lab.{name} to labora_app")
        op.execute(f"alter table lab.{name} enable row level security")
        op.execute(f"alter table lab.{name} force row level security")  # the owner too is held to the policies
        op.execute(f"create policy organization on lab.{name} using ({OWN}) with check ({OWN})")
    for name in ENDED:
        op.execute(f"grant update (ended_at, ended_by, ended_by_name, end_reason) on lab.{name} to labora_app")
    op.execute(IN_FORCE)
    op.execute("revoke execute on function lab.rules_in_force() from public")
    op.execute("grant execute on function lab.rules_in_force() to labora_app")
