"""What deciding needs beyond a catalogue: intervals by hour, pregnancy and method, runs, what follows a result."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _intervals()


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
