"""Alembic's environment, run by `interface.store.migrate` with an open connection in `config.attributes`.

Everything happens in one transaction under one lock: a second program that migrates waits and then finds nothing to do.
The roles and the schema come first: Alembic keeps its own table in the schema, and the owner role owns everything.
"""

from __future__ import annotations

from alembic import context

LOCK = 0x4C41424F5241  # "LABORA"

# Roles belong to the whole server, so another database's migration may make them at the same moment.
# From PostgreSQL 16 on, whoever creates a role may administer it but not act as it: hence the grants.
BOOTSTRAP = """
do $$
declare
    name text;
    may text := case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end;
begin
    foreach name in array array['labora_owner', 'labora_app'] loop
        begin
            if not exists (select from pg_roles where rolname = name) then
                execute format('create role %I nologin nosuperuser nobypassrls nocreatedb nocreaterole', name);
            end if;
        exception when duplicate_object or unique_violation then null;
        end;
        if not pg_has_role(current_user, name, may) then
            execute format('grant %I to current_user', name);
        end if;
    end loop;
    if not exists (select from pg_namespace where nspname = 'lab') then
        create schema lab authorization labora_owner;
    end if;
end
$$
"""


def migrate() -> None:
    connection = context.config.attributes["connection"]
    applied: list[str] = context.config.attributes["applied"]
    context.configure(
        connection=connection,
        version_table_schema="lab",
        on_version_apply=lambda **change: applied.append(change["step"].up_revision_id),
    )
    with context.begin_transaction():
        connection.exec_driver_sql(f"select pg_advisory_xact_lock({LOCK})")
        connection.exec_driver_sql(BOOTSTRAP)
        connection.exec_driver_sql("set local role labora_owner")
        context.run_migrations()


migrate()
