"""Work of an analyzer that each command of `labora dispatch` can be run with."""

from __future__ import annotations

from uuid import uuid4

from interface.store.ids import uuid7
from tests.cli.desk import Shell


async def refused(shell: Shell) -> str:
    """The work id of work that an analyzer has refused."""
    barcode = uuid4().hex[:12]
    flags = ("--test", "HGB", "--barcode", barcode, "--family", "Muster", "--received", "2026-01-02T08:00Z")
    made = await shell.run("order", "create", "--as", "vera", "--json", *flags)
    assert made.status == 0, made.err
    [item] = made.json["items"]
    organization_id = shell.organization.id
    async with shell.laboratory.database.transaction(organization_id) as connection:
        analyzer_id = await connection.fetchval("select analyzer_id from lab.link where name = 'hema-1'")
        work_id: int = await connection.fetchval(
            """insert into lab.dispatch (id, organization_id, analyzer_id, order_item_id, specimen_id, work_id, code,
                                         state, answer, sent_at)
               select $1, $2, $3, id, specimen_id, nextval('lab.dispatch_work_id_seq'), 'HB', 'refused', 'no reagent',
                      now() from lab.order_item where id = $4 returning work_id""",
            uuid7(), organization_id, analyzer_id, item["id"],
        )  # fmt: skip
    return str(work_id)


async def dispatch_arguments(shell: Shell, name: str) -> dict[str, tuple[str, ...]]:
    """`dispatch …`."""
    work, by = await refused(shell), ("--reason", "because", "--as", "vera")
    if name == "dispatch up":
        assert (await shell.run("dispatch", "down", "hema", *by)).status == 0
    return {
        "dispatch list": (),
        "dispatch show": (work,),
        "dispatch resend": (work, *by),
        "dispatch cancel": (work, *by),
        "dispatch routes": (),
        "dispatch route": ("HGB", "hema", "--reason", "because", "--as", "ada"),
        "dispatch down": ("hema", *by),
        "dispatch up": ("hema", *by),
    }
