"""A revision of a driver never changes, and a link stays at the one it was made with until somebody names another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.domain.views import Audience
from interface.driver import registry
from interface.driver.revisions import changes, digest_of, split_pin
from interface.errors import DriverError
from interface.flow import review
from interface.flow.context import Before, LinkContext, register
from interface.flow.replay import replay
from interface.settings import LinkRole, LinkSettings, packaged
from tests.flow.laboratory import Laboratory, laboratory, message
from tests.flow.rulebook import put_in_force, sent

WBC = "R|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000"


def acme(tmp_path: Path, revision: str, more: str = "") -> None:
    """Write the driver's folder anew: the generic driver's manifest under a name of its own."""
    text = (registry.packaged_path() / "generic_lis2" / "driver.toml").read_text(encoding="utf-8")
    text = text.replace('"generic_lis2"', '"acme_one"').replace('revision = "1"', f'revision = "{revision}"')
    folder = tmp_path / "acme_one"
    folder.mkdir(exist_ok=True)
    (folder / "driver.toml").write_text(text + more, encoding="utf-8")


async def start(lab: Laboratory, tmp_path: Path, revision: str = "") -> LinkContext:
    """What a start of the daemon makes of the link, with what is in the folder now."""
    settings = replace(lab.context.settings, driver_revision=revision)
    async with lab.database.transaction(lab.organization_id) as connection:
        context = await register(connection, lab.organization_id, settings, registry.load("acme_one", [tmp_path]))
    lab.contexts[context.link_id] = context
    return context


async def test_a_link_stays_at_its_revision_until_the_configuration_names_another(
    database_url: str, tmp_path: Path
) -> None:
    acme(tmp_path, "1")
    async with laboratory(database_url, "acme_one", drivers=[tmp_path]) as lab:
        acme(tmp_path, "2", "[value]\ndecimal_comma = true\n")
        stays = await start(lab, tmp_path)
        assert (stays.driver.revision, stays.offered_revision, stays.driver_changed) == ("1", "2", False)
        assert not stays.driver.grammar.decimal_comma, "what revision 1 said, not what the folder says"
        moved = await start(lab, tmp_path, "2")
        assert (moved.driver.revision, moved.driver.grammar.decimal_comma) == ("2", True)
        assert (await start(lab, tmp_path)).driver.revision == "2", "what it was moved to is where it stays"
        back = await start(lab, tmp_path, "1")
        assert (back.driver.revision, back.driver.grammar.decimal_comma) == ("1", False), "an older one is still known"


async def test_a_start_that_finds_all_as_it_was_writes_nothing(database_url: str, tmp_path: Path) -> None:
    acme(tmp_path, "1")
    async with laboratory(database_url, "acme_one", drivers=[tmp_path]) as lab:
        context, driver = lab.context, registry.load("acme_one", [tmp_path])
        other = replace(context.settings, id="other", analyzer="twin")

        async def rows() -> list[asyncpg.Record]:
            async with lab.database.organization(lab.organization_id) as connection:
                return await connection.fetch(
                    """select 'link', xmin::text, name, role from lab.link
                       union all select 'analyzer', xmin::text, name, driver from lab.analyzer
                       union all select 'audit', '', actor_name, action from lab.audit_event where entity_kind = 'link'
                       order by 1, 3, 4"""
                )

        async def started(*links: LinkSettings) -> list[LinkContext]:
            async with lab.database.transaction(lab.organization_id) as connection:
                before = await Before.read(connection, lab.organization_id)
                return [await register(connection, lab.organization_id, one, driver, before) for one in links]

        first, was = await started(context.settings, other), await rows()
        assert [one.link_id for one in first] == [context.link_id, first[1].link_id]
        assert await started(context.settings, other) == first
        assert await rows() == was
        changed = replace(other, role=LinkRole.HOSPITAL), replace(context.settings, analyzer="twin")
        moved = await started(*changed)
        assert [one.analyzer_id for one in moved] == [first[1].analyzer_id] * 2
        now = await rows()
        assert {row["name"]: row["role"] for row in now if row[0] == "link"} == {
            context.settings.id: "analyzer",
            "other": "hospital",
        }
        assert len([row for row in now if row[0] == "audit"]) == len([row for row in was if row[0] == "audit"]) + 2


async def test_results_name_the_revision_that_decoded_them(database_url: str, tmp_path: Path) -> None:
    acme(tmp_path, "1")
    async with laboratory(database_url, "acme_one", drivers=[tmp_path]) as lab:
        acme(tmp_path, "2")
        for barcode, revision in (("S1", ""), ("S2", "2")):
            await start(lab, tmp_path, revision)
            await lab.send(message("P|1", f"O|1|{barcode}||^^^X|R", WBC, control=barcode))
            await lab.settle()
        said = await lab.owner.fetch("select driver_revision from lab.decision order by result_version_id")
        assert [row[0] for row in said] == ["acme_one 1", "acme_one 2"]


async def test_other_content_under_the_same_revision_is_told_and_not_run(database_url: str, tmp_path: Path) -> None:
    acme(tmp_path, "1")
    async with laboratory(database_url, "acme_one", drivers=[tmp_path]) as lab:
        acme(tmp_path, "1", "[value]\ndecimal_comma = true\n")
        context = await start(lab, tmp_path)
        assert context.driver_changed
        assert not context.driver.grammar.decimal_comma
        acme(tmp_path, "2", "[value]\ndecimal_comma = true\n")
        assert not (await start(lab, tmp_path, "2")).driver_changed


async def test_a_revision_that_nobody_knows_is_refused(database_url: str, tmp_path: Path) -> None:
    acme(tmp_path, "1")
    async with laboratory(database_url, "acme_one", drivers=[tmp_path]) as lab:
        with pytest.raises(DriverError, match="there is no revision '7' of acme_one: its folder has '1'"):
            await start(lab, tmp_path, "7")


async def test_the_pin_and_its_change_are_audited_with_the_contents_digest(database_url: str, tmp_path: Path) -> None:
    acme(tmp_path, "1")
    async with laboratory(database_url, "acme_one", drivers=[tmp_path]) as lab:
        digests = [registry.load("acme_one", [tmp_path]).digest]
        acme(tmp_path, "2")
        digests.append(registry.load("acme_one", [tmp_path]).digest)
        await start(lab, tmp_path)
        await start(lab, tmp_path, "2")
        rows = await lab.owner.fetch(
            "select detail->>'revision' as revision, detail->>'digest' as digest from lab.audit_event"
            " where action = 'configure' and entity_kind = 'link' order by at"
        )
        assert [tuple(row) for row in rows] == [("1", digests[0]), ("2", digests[1])]


async def test_the_application_can_change_no_revision(database_url: str, tmp_path: Path) -> None:
    acme(tmp_path, "1")
    async with laboratory(database_url, "acme_one", drivers=[tmp_path]) as lab:
        for statement in ("update lab.driver_revision set manifest = ''", "delete from lab.driver_revision"):
            async with lab.database.organization(lab.organization_id) as connection:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        async with lab.database.organization(lab.organization_id) as connection:
            row = await connection.fetchrow("select revision, digest, manifest from lab.driver_revision")
        assert row is not None
        assert (row["revision"], row["digest"]) == ("1", digest_of(row["manifest"]))


def test_a_pin_is_the_id_and_the_revision() -> None:
    assert split_pin("sysmex_xn@2") == ("sysmex_xn", "2")
    assert split_pin("sysmex_xn") == ("sysmex_xn", "")


def test_what_differs_between_revisions_is_told_by_its_place_and_comments_say_nothing() -> None:
    old = "# one\n[driver]\nrevision = '1'\n[flags]\nH = 'H'\n[[role]]\nrole = 'qc'\nequals = ['Q']\n"
    new = "# two\n[driver]\nrevision = '2'\n[flags]\n\"H*\" = 'H'\n[[role]]\nrole = 'qc'\nequals = ['Q', 'C']\n"
    assert [str(change) for change in changes(old, new)] == [
        "~ driver.revision = '1' -> '2'",
        "- flags.H = 'H'",
        "~ role[0].equals = ['Q'] -> ['Q', 'C']",
        "+ flags.'H*' = 'H'",
    ]
    assert changes(old, old.replace("# one", "# other")) == ()
    with pytest.raises(DriverError, match="cannot be read"):
        changes(old, "[")


@pytest.mark.parametrize("step", ["reject", "retract"])
async def test_a_driver_that_reads_a_message_otherwise_undoes_nothing_that_a_person_said(
    database_url: str, tmp_path: Path, step: str
) -> None:
    """The time of a result is read from another field by the next revision: to it all results of a message are new."""
    made = tmp_path / "generic_lis2"
    made.mkdir()
    text = (packaged("drivers") / "generic_lis2" / "driver.toml").read_text(encoding="utf-8")
    (made / "driver.toml").write_text(text + '\n[paths]\ninstrument_time = "R.12"\n', encoding="utf-8")
    async with laboratory(database_url) as lab:
        await lab.order("S1", "K", "NA")
        await lab.send(sent("S1", {"K": "4.9", "NA": "140"}))
        await lab.settle()
        [potassium, _] = await lab.results()
        if step == "retract":
            await lab.release(potassium.id)
        async with lab.database.transaction(lab.organization_id) as connection:
            take_back = review.reject if step == "reject" else review.retract
            await take_back(connection, lab.director, potassium.id, "clotted")
        await put_in_force(lab)
        lab.contexts[lab.context.link_id] = replace(lab.context, driver=registry.load("generic_lis2", [tmp_path]))
        assert potassium.message_id is not None
        await replay(lab.database, lab.director, potassium.message_id, lab.contexts.get, dry_run=False)
        found = [one for one in await lab.results() if one.test_code == "K" and one.id != potassium.id]
        assert [(one.value, one.status, one.held) for one in found] == [
            ("4.9", ResultStatus.REGISTERED, (HoldReason.PERSON,))
        ]
        assert [one.test_code for one in await lab.results(Audience.EMR) if one.status is ResultStatus.FINAL] == ["NA"]
