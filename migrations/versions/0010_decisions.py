"""What deciding needs beyond a catalogue: intervals by hour, pregnancy and method, runs, what follows a result."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# The subselect makes it run once per statement. No setting, or an empty one: null, which no row equals.
OWN = "organization_id = (select nullif(current_setting('labora.org', true), '')::uuid)"
FILLED = ("result", "result_version", "specimen")  # read or written here for every organization at once


def upgrade() -> None:
    _intervals()
    _results()


def _intervals() -> None:
    op.execute("""
        alter table lab.reference_interval
            add column age_low_h integer check (age_low_h >= 0),
            add column age_high_h integer check (age_high_h > 0),
            add column pregnant boolean,
            add column gestation_low_w integer check (gestation_low_w >= 0),
            add column gestation_high_w integer check (gestation_high_w > 0),
            add column method text default '' not null,
            add column analyzer text default '' not null,
            add column use text default 'both' not null check (use in ('both', 'reference', 'critical')),
            add column normal_values text[] default '{}' not null,
            add column abnormal_values text[] default '{}' not null,
            add column critical_values text[] default '{}' not null,
            alter column valid_from drop not null,
            alter column valid_from drop default
    """)
    # Validity is now asked of the day of collection. Until here `valid_from` was the moment of loading, which would
    # leave a specimen collected the day before without an interval: what never had a successor was valid ever since.
    op.execute("alter table lab.reference_interval no force row level security")
    op.execute("""
        update lab.reference_interval i set valid_from = null
         where not exists (select from lab.reference_interval o where o.test_id = i.test_id and o.valid_to is not null)
    """)
    op.execute("alter table lab.reference_interval force row level security")


def _results() -> None:
    for name in FILLED:
        op.execute(f"alter table lab.{name} no force row level security")
    ddl = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for statement in ddl.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for name in FILLED:
        op.execute(f"alter table lab.{name} force row level security")  # the owner too is held to the policies
    op.execute("grant select, insert, update on lab.follow_up to labora_app")
    op.execute("alter table lab.follow_up enable row level security")
    op.execute("alter table lab.follow_up force row level security")
    op.execute(f"create policy organization on lab.follow_up using ({OWN}) with check ({OWN})")
