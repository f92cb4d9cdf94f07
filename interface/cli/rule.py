"""`labora rule`: rule sets shown, proved and compared with people; what changes something is in `rule_change`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context, rule_change
from interface.cli.laboratory import ENVIRONMENT, INSTANT, CommandError, aware, desk, laboratory_options
from interface.domain.permissions import Permission
from interface.domain.rule_files import MAX_BYTES, RuleFileError

if TYPE_CHECKING:
    from uuid import UUID

    from interface.domain.agreement import Agreement
    from interface.domain.model import LabTest
    from interface.domain.rule_bench import Report
    from interface.domain.rule_cases import WrittenCase
    from interface.flow.rule_proof import Comparison, Proof
    from interface.settings import Settings
    from interface.store.rules import Revision, SwitchView

COLUMNS = ("version", "mode", "since", "by", "validated", "validated_by", "author", "created_at", "reason")
ROWS = ("rule", "test", "fact", "value", "action", "against")
AGREED = ("test", "both_release", "both_keep", "only_rules", "only_people", "open", "agree", "kappa", "released")


@click.group()
def rule() -> None:
    """What is checked in results, and which are released without a person. docs/rules.md is a how-to."""


def version_of(text: str) -> tuple[str, int | None]:
    """`default@3`, or `default` for its newest. Raises UsageError."""
    name, at, number = text.partition("@")
    if not name or (at and not (number.isascii() and number.isdigit() and int(number[:9]) > 0)):
        raise click.UsageError(f"{text!r} is not NAME or NAME@REVISION")
    return name, int(number[:9]) if at else None


def read_text(path: Path) -> str:
    """A file's text. Raises CommandError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CommandError(f"{path} is longer than {MAX_BYTES >> 20} MiB")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "unknown").lower() if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CommandError(f"cannot read {path}: {why}") from error


def say_problems(path: str, error: RuleFileError) -> int:
    """Every problem of a file on a line of its own."""
    for problem in error.problems:
        click.echo(f"labora: {path}: {problem}", err=True)
    return EXIT_FAILED


def revision_row(one: Revision, void: str = "", unknown: Sequence[str] = ()) -> dict[str, object]:
    """A revision as lists and JSON show it."""
    validation = one.validation
    return {
        "version": one.version, "mode": one.mode, "since": one.since, "by": one.by, "void": void,
        "unknown": list(unknown),
        "validated": validation.at if validation else None, "validated_by": validation.by if validation else "",
        "uncovered": validation.uncovered if validation else None, "author": one.author, "created_at": one.created_at,
        "source": one.source, "reason": one.reason, "digest": one.digest,
    }  # fmt: skip


def switch_row(one: SwitchView) -> dict[str, object]:
    return {
        "off": one.switch.scope.value, "what": one.switch.key, "since": one.at, "by": one.by,
        "reason": one.switch.reason,
    }  # fmt: skip


# ---- what there is --------------------------------------------------------------------------------------------------


@rule.command("list", epilog=ENVIRONMENT)
@click.option("--name", default="", help="Only the revisions of this set.")
@laboratory_options
@pass_context
def list_rules(context: Context, name: str, organization: str | None, username: str | None, as_json: bool) -> None:
    """List rule sets, newest revision first: what is in force, what runs in the shadow, what is switched off."""
    from interface.flow.rules import says_of_none

    found, off, void, unknown = asyncio.run(_list(context.settings, organization, username, name))
    rows = [revision_row(one, void.get(one.id, ""), unknown.get(one.id, ())) for one in found]
    switched = [switch_row(one) for one in off]
    if as_json:
        emit({"revisions": rows, "off": switched}, True)
        return
    emit(rows, False, COLUMNS)
    if not found:
        click.echo("no rule sets; `labora rule import` stores the one that Labora comes with", err=True)
    for version, why in [(one.version, void[one.id]) for one in found if one.id in void]:
        words = f"{version} releases nothing: {why}; `labora rule test {version} --as USER` proves it again"
        click.echo(words, err=True)
    for version, names in [(one.version, unknown[one.id]) for one in found if one.id in unknown]:
        click.echo(says_of_none(version, names), err=True)
    for one in off:
        words = " ".join(filter(None, (one.switch.scope.value, one.switch.key)))
        click.echo(f"OFF: {words}, by {one.by} at {one.at:%Y-%m-%d %H:%M} UTC: {one.switch.reason}", err=True)


async def _list(
    settings: Settings, organization: str | None, username: str | None, name: str
) -> tuple[list[Revision], list[SwitchView], dict[UUID, str], dict[UUID, list[str]]]:
    from interface.flow.rules import unknown_in_force, why_void
    from interface.store import rules

    async with desk(settings, organization, username, named=False) as at:
        at.require(Permission.RULE_READ)
        async with at.transaction() as connection:
            await at.note_read(connection, "search", "rule_set", None, (), {"query": name})
            found = await rules.read_revisions(connection, name)
            void, unknown = await why_void(connection, found), await unknown_in_force(connection, found)
            return found, await rules.read_switches(connection), void, unknown


@rule.command("show", epilog=ENVIRONMENT)
@click.argument("version", metavar="NAME[@REVISION]")
@laboratory_options
@pass_context
def show(context: Context, version: str, organization: str | None, username: str | None, as_json: bool) -> None:
    """Print a revision's document as it was written; the newest without a number."""
    found, body, void = asyncio.run(_show(context.settings, organization, username, version))
    row = revision_row(found, void)
    if as_json:
        emit({**row, "body": body}, True)
        return
    said = ", ".join(f"{key} {text}" for key, text in row.items() if text not in ("", None))
    click.echo(said, err=True)
    emit(body.removesuffix("\n"), False)


async def _show(
    settings: Settings, organization: str | None, username: str | None, version: str
) -> tuple[Revision, str, str]:
    from interface.flow import rules

    async with desk(settings, organization, username, named=False) as at:
        at.require(Permission.RULE_READ)
        async with at.transaction() as connection:
            found, body = await rules.read(connection, *version_of(version))
            await at.note_read(connection, "read", "rule_set", found.id)
            return found, body, (await rules.why_void(connection, [found])).get(found.id, "")


# ---- the bench ------------------------------------------------------------------------------------------------------


@rule.command("test", epilog=ENVIRONMENT)
@click.argument("what", metavar="[FILE|NAME[@REVISION]]", default="default")
@click.option(
    "--cases", "case_files", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="Your own cases, TOML or CSV: facts, and what must become of the result.",
)  # fmt: skip
@click.option("--vectors", is_flag=True, help="Print every case that was tried and what became of it.")
@laboratory_options
@pass_context
def test(
    context: Context,
    what: str,
    case_files: tuple[Path, ...],
    vectors: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> int:
    """Prove a rule set: below, on and above every bound, every word, every fact absent, and your own cases.

    Of a file nothing is stored, and the tests are the shipped ones. Of a stored revision, the newest of NAME without a
    number, the proof is kept when --as says for whom: only then can it be activated. Status 1 when a case fails.
    """
    cases: list[WrittenCase] = []
    for path in case_files:
        try:
            cases += _cases(path)
        except RuleFileError as error:
            return say_problems(str(path), error)
    if what.endswith(".toml") or "/" in what:
        try:
            report = _of_file(Path(what), cases)
        except RuleFileError as error:
            return say_problems(what, error)
        return _say(replace(report, version=what), vectors, as_json, "")
    proof = asyncio.run(_prove(context.settings, organization, username, what, cases))
    kept = f"{proof.revision.version} is validated by {username or 'you'}" if proof.stamped else ""
    if not kept and proof.report.passed:
        kept = "nothing was kept: --as says who validates it"
    return _say(proof.report, vectors, as_json, kept, proof.stamped)


def _cases(path: Path) -> Sequence[WrittenCase]:
    from interface.domain.rule_cases import parse_cases

    return parse_cases(read_text(path), "csv" if path.suffix == ".csv" else "toml")


def _of_file(path: Path, cases: Sequence[WrittenCase]) -> Report:
    from interface.domain.rule_bench import run
    from interface.domain.rule_files import parse_rule_set

    return run(parse_rule_set(read_text(path)), _shipped(), cases)


def _shipped() -> Mapping[str, LabTest]:
    from interface.domain.model import LabTest
    from interface.store.catalogue import shipped_tests

    return {
        one.code: LabTest(one.code, one.code, one.name, one.loinc, one.unit, one.decimals, one.kind, one.substance)
        for one in shipped_tests()
    }


async def _prove(
    settings: Settings, organization: str | None, username: str | None, what: str, cases: Sequence[WrittenCase]
) -> Proof:
    from interface.domain.views import ActorKind
    from interface.flow.rule_proof import prove

    name, revision = version_of(what)
    async with desk(settings, organization, username, named=False) as at:
        at.require(Permission.RULE_READ)
        actor = at.actor if at.actor.kind is ActorKind.USER else None
        async with at.transaction() as connection:
            proof = await prove(connection, actor, name, revision, cases)
            if not proof.stamped:
                await at.note_read(connection, "test", "rule_set", proof.revision.id)
            return proof


def _say(report: Report, vectors: bool, as_json: bool, kept: str, stamped: bool = False) -> int:
    if as_json:
        emit(report_json(report, stamped), True)
    else:
        emit([_told(one) for one in report.rows if vectors or one.wrong], False, ROWS)
        for line in report.uncovered:
            click.echo(f"not covered: {line}", err=True)
        for line in report.failures:
            click.echo(f"FAILED: {line}", err=True)
    covered = report.branches - len(report.uncovered)
    counts = f"{report.version}: {report.vectors} boundary cases, {report.cases} of your own"
    click.echo(
        f"{counts}; {covered} of {report.branches} branches covered; {len(report.failures)} failed"
        + (f"; {kept}" if kept else ""),
        err=True,
    )
    return 0 if report.passed else EXIT_FAILED


def _told(row: Any) -> dict[str, object]:
    return {name: getattr(row, name) for name in ROWS} | {"against": ", ".join(row.against)}


def report_json(report: Report, stamped: bool) -> dict[str, object]:
    """A report of the bench as the API gives it too."""
    return {
        "version": report.version, "passed": report.passed, "stamped": stamped, "vectors": report.vectors,
        "cases": report.cases, "branches": report.branches, "uncovered": report.uncovered, "failures": report.failures,
        "rows": report.rows,
    }  # fmt: skip


# ---- beside the people ----------------------------------------------------------------------------------------------


@rule.command("report", epilog=ENVIRONMENT)
@click.argument("version", metavar="NAME[@REVISION]")
@click.option("--since", type=INSTANT, help="Only what it said at or after; a date is UTC.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Of the results listed.")
@laboratory_options
@pass_context
def report(
    context: Context,
    version: str,
    since: datetime | None,
    limit: int,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """What a revision in the shadow would have done, beside what people did with the same results.

    Listed are the results that it would have released and a person rejected or changed.
    """
    work = _compare(context.settings, organization, username, version, aware(since), limit)
    found = asyncio.run(work)
    if as_json:
        emit(comparison_json(found), True)
        return
    emit([agreement_row(one) for one in (*found.tests, found.total)], False, AGREED)
    if found.missed:
        emit("", False)
        emit(list(found.missed), False, ("result_id", "test", "human", "decided_by", "decided_at"))
    if not found.total.decided:
        click.echo(f"people have decided nothing yet of what {found.revision.version} judged", err=True)


def agreement_row(one: Agreement) -> dict[str, object]:
    return {name: getattr(one, name) for name in AGREED}


def comparison_json(found: Comparison) -> dict[str, object]:
    return {
        "version": found.revision.version, "total": agreement_row(found.total),
        "tests": [agreement_row(one) for one in found.tests], "would_have_released": found.missed,
    }  # fmt: skip


async def _compare(
    settings: Settings, organization: str | None, username: str | None, version: str, since: datetime | None, limit: int
) -> Comparison:
    from interface.flow.rule_proof import compare

    name, revision = version_of(version)
    async with desk(settings, organization, username, named=False) as at:
        at.require(Permission.RULE_READ)
        async with at.transaction() as connection:
            found = await compare(connection, name, revision, since, limit)
            await at.note_read(connection, "report", "rule_set", found.revision.id)
            return found


rule_change.join(rule)
