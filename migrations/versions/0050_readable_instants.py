"""Instants that no program can read are taken out: those before the year 1 or after the year 9999 in UTC.

A specimen whose time of collection was one, which clients could say, made every list that it stood in unreadable, and
its results undecidable. Nothing of a specimen or a patient was before 1900: what says so is a time that nobody knows.
Versions that were kept say what they said; they are read without it.
"""

from __future__ import annotations

from alembic import op

revision = "0050"
down_revision = "0049"
branch_labels = None
depends_on = None

EARLIEST, LAST, END = (f"timestamptz '{day} 00:00+00'" for day in ("1900-01-01", "9999-12-31", "10000-01-01"))
UNKNOWN = {"specimen": ("collected_at", "received_at"), "patient": ("birth_at",)}
# What else a client, or a person by a command, could say; these are cut to the first and the last that there are.
CUT = {
    "reference_interval": ("valid_from", "valid_to"),
    "code_map": ("valid_from", "valid_to"),
    "value_map": ("valid_from", "valid_to"),
    "qc_target": ("valid_from", "valid_to"),
    "analyzer_lot": ("from_at", "ended_at"),
    "alert_silence": ("begins_at", "ends_at"),
    "subscription": ("ends_at",),
}
ORDERED = """
update lab.lab_order o
   set version = version + 1, updated_at = greatest(now(), updated_at), ordered_at = coalesce(
           (select min(k.updated_at) from lab.record_version k
             where k.organization_id = ours and k.kind = 'lab_order' and k.record_id = o.id), updated_at)
 where organization_id = ours and ({wrong})
"""
HAPPENED = "update lab.specimen_event set happened_at = created_at where organization_id = ours and ({wrong})"


def statements() -> list[str]:
    """Of one laboratory."""
    found = []
    for table, columns in UNKNOWN.items():
        each = ", ".join(f"{name} = case when not ({wrong(name)}) then {name} end" for name in columns)
        found.append(
            f"update lab.{table} set {each}, version = version + 1, updated_at = greatest(now(), updated_at)"  # noqa: S608
            f" where organization_id = ours and ({wrong(*columns)})"
        )
    found += [ORDERED.format(wrong=wrong("ordered_at")), HAPPENED.format(wrong=wrong("happened_at"))]
    for table, columns in CUT.items():
        each = ", ".join(
            f"{name} = case when {name} < {EARLIEST} then {EARLIEST} when {name} >= {END} then {LAST} else {name} end"
            for name in columns
        )
        found.append(f"update lab.{table} set {each} where organization_id = ours and ({wrong(*columns)})")  # noqa: S608
    return found


def wrong(*columns: str) -> str:
    return " or ".join(f"{name} < {EARLIEST} or {name} >= {END}" for name in columns)


# Laboratory by laboratory, as each: its policies stay in force, and the versions that triggers keep are its own.
READABLE = f"""
do $$
declare
    ours uuid;
begin
    for ours in select id from lab.organization loop
        perform set_config('labora.org', ours::text, true);
        {"; ".join(statements())};
        set constraints all immediate;
        set constraints all deferred;
    end loop;
    perform set_config('labora.org', '', true);
end $$
"""  # noqa: S608 - words of ours


def upgrade() -> None:
    op.execute(READABLE)
