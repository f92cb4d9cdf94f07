"""What laboratories, analyzers and subscriptions were before: versions, as of the records of migration 0034.

What an analyzer's driver says of maker and model becomes the analyzer's own: a version must not change because a
revision of a driver is looked at. Laboratories and analyzers have a version only where they say something else when a
transaction ends than the version before; a start that writes the same, or the worklist's switch, makes none.

A subscription's version counts what its client sees of it, and that a header has another value, which nobody sees: in
a version there are the names of headers only. How far it has been told, and what a sender notes for itself, is none.
"""

from __future__ import annotations

import tomllib

from alembic import op
from sqlalchemy import text

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

VERSIONED = ("organization", "analyzer")
READ = ("analyzer", "driver_revision", "subscription", "record_version")  # of every organization, hence unforced
OWN = {"organization": "new.id", "analyzer": "new.organization_id"}
BODIES = {
    "organization": "jsonb_build_object('name', t.name, 'title', t.title)",
    "analyzer": "jsonb_build_object('name', t.name, 'serial', t.serial, 'manufacturer', t.manufacturer,"
    " 'model', t.model)",
    "subscription": """jsonb_build_object('status', t.status, 'reason', t.reason, 'criteria', t.criteria,
        'endpoint', t.endpoint, 'payload', t.payload, 'ends_at', t.ends_at, 'error', t.error,
        'ended', t.ended_at is not null, 'headers', (
            select coalesce(jsonb_agg(split_part(h.header, ':', 1) order by h.place), '[]')
              from unnest(t.headers) with ordinality as h (header, place)))""",
}
# At the end of the transaction: what was changed and changed back has not changed. Whoever administers the database
# acts for no organization and sees all; the version is the organization's own.
KEEP = """
create function lab.keep_{kind}() returns trigger language plpgsql set search_path = pg_catalog as $$
declare
    said jsonb;
    before record;
begin
    perform set_config('labora.org', {own}::text, true);
    select {body} into said from lab.{kind} t where t.id = new.id;
    select k.version, k.updated_at, k.body into before from lab.record_version k
     where k.organization_id = {own} and k.kind = '{kind}' and k.record_id = new.id
     order by k.updated_at desc, k.version desc limit 1;
    if said is null or said = before.body then
        return null;
    end if;
    if before.version is not null then
        update lab.{kind} set version = before.version + 1, updated_at = greatest(now(), before.updated_at)
         where id = new.id;
    end if;
    insert into lab.record_version (organization_id, kind, record_id, updated_at, version, body)
        select {own}, '{kind}', t.id, t.updated_at, t.version, said from lab.{kind} t where t.id = new.id;
    return null;
end $$
"""
SHOWN = {"organization": "name, title", "analyzer": "name, serial, manufacturer, model"}
KEEP_SUBSCRIPTION = f"""
create function lab.keep_subscription() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    insert into lab.record_version (organization_id, kind, record_id, updated_at, version, body)
        select t.organization_id, 'subscription', t.id, t.updated_at, t.version, {BODIES["subscription"]}
          from lab.subscription t where t.organization_id = new.organization_id and t.id = new.id
        on conflict do nothing;
    return null;
end $$
"""  # noqa: S608 - words of ours
COUNT_SUBSCRIPTION = """
create function lab.count_subscription() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
    new.version := old.version + 1;
    new.updated_at := greatest(now(), old.updated_at);
    return new;
end $$
"""
SAID = ("status", "criteria", "endpoint", "payload", "headers", "reason", "ends_at", "error", "ended_at")
TRIGGER = """
create constraint trigger {name} after {when} on lab.{table} deferrable initially deferred
    for each row {condition}execute function lab.keep_{table}()
"""


def upgrade() -> None:
    for name in READ:
        op.execute(f"alter table lab.{name} no force row level security")
    for table in VERSIONED:
        op.execute(f"alter table lab.{table} add column version integer default 1 not null")
        op.execute(f"alter table lab.{table} add column updated_at timestamptz default now() not null")
        op.execute(f"update lab.{table} set updated_at = created_at")  # noqa: S608 - words of ours
    for column in ("manufacturer", "model"):
        op.execute(f"alter table lab.analyzer add column {column} text default '' not null")
    made_by_drivers()
    for kind, body in BODIES.items():
        organization = "t.id" if kind == "organization" else "t.organization_id"
        op.execute(
            "insert into lab.record_version (organization_id, kind, record_id, updated_at, version, body)"  # noqa: S608
            f" select {organization}, '{kind}', t.id, t.updated_at, t.version, {body} from lab.{kind} t"
        )
    for name in READ:
        op.execute(f"alter table lab.{name} force row level security")
    for kind in VERSIONED:
        op.execute(KEEP.format(kind=kind, own=OWN[kind], body=BODIES[kind]))
        op.execute(
            TRIGGER.format(name=f"{kind}_version", when=f"insert or update of {SHOWN[kind]}", table=kind, condition="")
        )
    op.execute(COUNT_SUBSCRIPTION)
    op.execute(KEEP_SUBSCRIPTION)
    before, after = (", ".join(f"{row}.{name}" for name in SAID) for row in ("old", "new"))
    op.execute(
        "create trigger subscription_counted before update on lab.subscription for each row"
        f" when (({before}) is distinct from ({after})) execute function lab.count_subscription()"
    )
    kept = {"table": "subscription", "name": "subscription_made", "when": "insert", "condition": ""}
    op.execute(TRIGGER.format(**kept))
    changed = {"name": "subscription_version", "when": "update"}
    op.execute(TRIGGER.format(**kept | changed | {"condition": "when (old.version is distinct from new.version) "}))


def made_by_drivers() -> None:
    """Maker and model as they were shown until now: as the newest revision of the driver says that was used."""
    connection = op.get_bind()
    newest = connection.execute(
        text(
            "select distinct on (organization_id, driver) organization_id, driver, manifest, first_used_at"
            " from lab.driver_revision order by organization_id, driver, first_used_at desc"
        )
    )
    write = text(
        "update lab.analyzer set manufacturer = :maker, model = :model, updated_at = greatest(updated_at, :at)"
        " where organization_id = :of and driver = :driver"
    )
    for of, driver, manifest, at in list(newest):
        try:
            said = tomllib.loads(manifest).get("driver", {})
        except tomllib.TOMLDecodeError:
            continue
        names = {"maker": str(said.get("vendor", "")), "model": str(said.get("model", ""))}
        if any(names.values()):
            connection.execute(write, {**names, "at": at, "of": of, "driver": driver})
