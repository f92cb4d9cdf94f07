"""What is read of reports for each page of a search goes by indexes, however many there are."""

from __future__ import annotations

from interface.store import reports
from tests.flow.laboratory import laboratory

_FILL = """
with r as (
    insert into lab.report (id, organization_id, order_id, version, status, body)
    select gen_random_uuid(), $1, gen_random_uuid(), 1, 'final', '' from generate_series(1, 20000) 
    returning id, order_id
), f as (
    insert into lab.report_file (id, organization_id, report_id, paper, language, sha1, body)
    select gen_random_uuid(), $1, id, 'a4', 'en', '', '' from r
)
insert into lab.report_due (id, organization_id, order_id) select gen_random_uuid(), $1, order_id from r
"""


async def test_no_read_of_reports_goes_through_them_all(founded_url: str) -> None:
    async with laboratory(founded_url) as lab:
        async with lab.owner.transaction():
            await lab.owner.execute("set local session_replication_role = replica")
            await lab.owner.execute(_FILL, lab.organization_id)
        await lab.owner.execute("analyze lab.report, lab.report_file, lab.report_due")
        async with lab.database.organization(lab.organization_id) as connection:
            await connection.execute("set plan_cache_mode = force_generic_plan")
            await connection.execute(f"prepare attached (uuid[], boolean) as {reports._ATTACHED}")
            of = "(array[gen_random_uuid(), gen_random_uuid()], false)"
            plan = "\n".join(row[0] for row in await connection.fetch(f"explain execute attached {of}"))
    assert "Seq Scan" not in plan, plan
