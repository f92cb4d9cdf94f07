"""`labora result verify|release|reject|…`: the steps of reviewing results, as the API takes them too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import UUID

import click

from interface.cli import EXIT_FAILED, Context, emit, pass_context
from interface.cli.laboratory import ENVIRONMENT, desk, laboratory_options
from interface.cli.result_words import result_table
from interface.domain.model import RELEASED
from interface.domain.permissions import Permission
from interface.domain.views import Actor, Audience, LookAgain, ResultView

if TYPE_CHECKING:
    from interface.settings import Settings
    from interface.store.db import Connection
    from interface.store.review import Policy

Take: TypeAlias = "Callable[[Connection, Actor, UUID, int | None], Awaitable[ResultView]]"
_Command = TypeVar("_Command", bound=Callable[..., Any])


class Seen(click.ParamType[tuple[UUID, int | None]]):
    """A result's id, and with `:` behind it the version that was looked at, as queues show it."""

    name = "id[:version]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[UUID, int | None]:
        id, colon, version = str(value).partition(":")
        if colon and not (version.isascii() and version.isdigit() and 0 < int(version[:18])):
            self.fail(f"{value!r} is no id with a version behind it", param, ctx)
        return click.UUID.convert(id, param, ctx), int(version[:18]) if colon else None


_ids = click.argument("result_ids", type=Seen(), nargs=-1, required=True)
_id = click.argument("result_id", type=Seen())
_comment = click.option("--comment", default="", help="Becomes part of the result's note.")
_why = click.option("--comment", required=True, help="Says why; becomes part of the result's note.")
_version = click.option("--version", "version", type=click.IntRange(1), help="Only if it is still this version.")
_accept = click.option(
    "--accept-hold", is_flag=True, help="Also when it is held for a reason that a person may accept; needs --comment."
)
_every = click.option("--all-or-none", is_flag=True, help="Nothing is done when one of the results refuses.")


def _many(command: _Command) -> _Command:
    """Several results, or one of a version."""
    return _ids(_version(_every(laboratory_options(command))))


def _one(command: _Command) -> _Command:
    return _id(_version(laboratory_options(command)))


@click.command(epilog=ENVIRONMENT)
@_many
@_comment
@_accept
@pass_context
def verify(context: Context, /, comment: str, accept_hold: bool, **asked: Any) -> int:
    """Verify results: final where one person is enough, else ready for a second one.

    Each is decided for itself: status 1 when one could not be.
    """
    from interface.flow import review

    return _take(
        context,
        lambda at, who, id, seen: review.verify(at, who, id, comment, seen, accept_hold, follow=False),
        **asked,
    )


@click.command(epilog=ENVIRONMENT)
@_many
@_comment
@_accept
@pass_context
def release(context: Context, /, comment: str, accept_hold: bool, **asked: Any) -> int:
    """Release results. Each is decided for itself: status 1 when one could not be released."""
    from interface.flow import review

    return _take(
        context,
        lambda at, who, id, seen: review.release(at, who, id, comment, seen, accept_hold, follow=False),
        **asked,
    )


@click.command(epilog=ENVIRONMENT)
@_many
@_why
@pass_context
def reject(context: Context, /, comment: str, **asked: Any) -> int:
    """Do not use results that were never released: they are cancelled, and their order items are open again."""
    from interface.flow import review

    return _take(context, lambda at, who, id, seen: review.reject(at, who, id, comment, seen, follow=False), **asked)


@click.command(epilog=ENVIRONMENT)
@_many
@_why
@pass_context
def hold(context: Context, /, comment: str, **asked: Any) -> int:
    """Hold results that are not released, for another person to look at."""
    from interface.flow import review

    return _take(context, lambda at, who, id, seen: review.hold(at, who, id, comment, seen, follow=False), **asked)


@click.command("accept-change", epilog=ENVIRONMENT)
@_one
@_comment
@_accept
@pass_context
def accept_change(context: Context, /, comment: str, accept_hold: bool, **asked: Any) -> int:
    """Put the change that waits in the place of the released version. --version is the change's."""
    from interface.flow import review

    return _take(
        context,
        lambda at, who, id, seen: review.accept_change(at, who, id, comment, seen, accept_hold, follow=False),
        **asked,
    )


@click.command("reject-change", epilog=ENVIRONMENT)
@_one
@_comment
@pass_context
def reject_change(context: Context, /, comment: str, **asked: Any) -> int:
    """Leave the released version as it is. --version is the change's."""
    from interface.flow import review

    return _take(context, lambda at, who, id, seen: review.reject_change(at, who, id, comment, seen), **asked)


@click.command(epilog=ENVIRONMENT)
@_one
@_comment
@click.option("--dilution", metavar="FACTOR", help="Diluted by this factor, such as 10.")
@pass_context
def rerun(context: Context, /, comment: str, dilution: str | None, **asked: Any) -> int:
    """Ask for another run of the test on the specimen. What is not released is held for it."""
    from interface.flow import review

    try:
        factor = Decimal(dilution) if dilution else None
    except InvalidOperation:
        raise click.UsageError("--dilution is a number") from None
    return _take(
        context,
        lambda at, who, id, seen: review.rerun(at, who, id, comment, seen, dilution=factor),
        says="another run of {} is asked for",  # of what is released nothing else changes
        **asked,
    )


@click.command(epilog=ENVIRONMENT)
@_one
@click.option("--comment", default="", help="The comment in words.")
@click.option("--code", default="", help="A comment by its code; `labora result comments` lists them.")
@pass_context
def comment(context: Context, /, comment: str, code: str, **asked: Any) -> int:
    """Put a comment on a result; on a released one that makes a new version, which an EMR gets."""
    from interface.flow import review

    return _take(context, lambda at, who, id, seen: review.comment(at, who, id, comment, seen, code=code), **asked)


@click.command(epilog=ENVIRONMENT)
@_one
@click.option("--value", required=True, help="As it is to be reported, such as 4.1 or '<0.5'.")
@click.option("--unit", default="", help="The value's unit.  [default: the test's]")
@_why
@_accept
@pass_context
def correct(context: Context, /, value: str, unit: str, comment: str, accept_hold: bool, **asked: Any) -> int:
    """Put a value in the place of what was measured. The versions before are kept."""
    from interface.flow import review
    from interface.flow.correction import NewValue

    new = NewValue(value, unit)
    return _take(
        context,
        lambda at, who, id, seen: review.correct(at, who, id, new, comment, seen, accept_hold, follow=False),
        **asked,
    )


@click.command(epilog=ENVIRONMENT)
@_one
@_why
@pass_context
def retract(context: Context, /, comment: str, **asked: Any) -> int:
    """Take back a released result: it was entered in error. An EMR sees that, and no value."""
    from interface.flow import review

    return _take(context, lambda at, who, id, seen: review.retract(at, who, id, comment, seen, follow=False), **asked)


@click.command(epilog=ENVIRONMENT)
@_one
@pass_context
def recalculate(context: Context, /, **asked: Any) -> int:
    """Calculate a calculated result anew, of what is known now. Of a released one the new value waits as a change."""
    from interface.flow import recalculation

    return _take(context, recalculation.recalculate, **asked)


STEPS: tuple[click.Command, ...] = (
    verify, release, accept_change, reject_change, reject, hold, rerun, comment, correct, retract, recalculate,
)  # fmt: skip


# ---- taking a step --------------------------------------------------------------------------------------------------


def _take(
    context: Context,
    step: Take,
    *,
    version: int | None,
    organization: str | None,
    username: str | None,
    as_json: bool,
    result_id: tuple[UUID, int | None] | None = None,
    result_ids: Sequence[tuple[UUID, int | None]] = (),
    all_or_none: bool = False,
    says: str = "",
) -> int:
    """`says`: of each that was done, in place of whether it was so already."""
    results = list(dict.fromkeys([result_id] if result_id else result_ids))
    if version is not None:
        if len(results) > 1 or results[0][1] not in (None, version):
            raise click.UsageError("--version is of one result; name several as ID:VERSION")
        results = [(results[0][0], version)]
    if len({id for id, _ in results}) < len(results):
        raise click.UsageError("a result is named with several versions")
    work = _decide(context.settings, organization, username, results, step, all_or_none)
    done, failures, notes, look = asyncio.run(work)
    if as_json or done:
        emit(done if as_json else result_table(done), as_json)
    for line in [says.format(view.id) for view in done] if says else notes:
        click.echo(line, err=True)
    for one in look:
        text = f"{one.barcode} {one.test_code} {one.value} was compared with {one.other_value}"
        click.echo(f"look again: {text}, which it is not any more (result {one.result_id})", err=True)
    for line in failures:
        click.echo(f"labora: {line}", err=True)
    return EXIT_FAILED if failures else 0


async def _decide(
    settings: Settings,
    organization: str | None,
    username: str | None,
    results: Sequence[tuple[UUID, int | None]],
    step: Take,
    all_or_none: bool,
) -> tuple[list[ResultView], list[str], list[str], list[LookAgain]]:
    """What was done, what refused, what was so already, and what was compared with what is not so any more."""
    from interface.domain.review import InputsWait
    from interface.flow.review_many import NotAll, many
    from interface.store import lab
    from interface.store.look_again import compared_with

    groups = [results] if all_or_none else [[one] for one in results]
    done: list[ResultView] = []
    failures: list[str] = []
    notes: list[str] = []
    look: list[LookAgain] = []
    async with desk(settings, organization, username, named=True) as at:
        while groups:
            wait: list[tuple[Sequence[tuple[UUID, int | None]], str]] = []  # for another that is named after it
            for group in groups:
                try:
                    async with at.transaction() as connection:
                        before = {id: await lab.get_result(connection, id, Audience.STAFF) for id, _ in group}
                        answers = await many(
                            connection, at.actor, group, lambda id, seen: step(connection, at.actor, id, seen),
                            all_or_none=all_or_none,
                        )  # fmt: skip
                except NotAll as refused:
                    failures += [f"{one.result_id}: {one.error}" for one in refused.answers if one.error]
                    failures.append("nothing was done")
                    continue
                for answer in answers:
                    if answer.view is None:
                        text = str(answer.error) if len(results) == 1 else f"{answer.result_id}: {answer.error}"
                        if isinstance(answer.error, InputsWait):
                            wait.append((group, text))
                        else:
                            failures.append(text)
                        continue
                    done.append(answer.view)
                    if _is_another(before[answer.result_id], answer.view):
                        async with at.transaction() as connection:
                            look += await compared_with(connection, answer.result_id)
                    if _as_it_was(before[answer.result_id], answer.view):
                        already = "released" if answer.view.status in RELEASED else str(answer.view.status)
                        notes.append(f"{answer.result_id} was {already} already")
            if len(wait) == len(groups):
                failures += [text for _, text in wait]
                break
            groups = [group for group, _ in wait]
    return done, failures, notes, look


def _as_it_was(was: ResultView | None, now: ResultView) -> bool:
    return was is not None and was.version_id == now.version_id and was.pending == now.pending


def _is_another(was: ResultView | None, now: ResultView) -> bool:
    """Whether what was released is not so any more; or this is, it may be in place of another run that was."""
    if was is None or was.status not in RELEASED:
        return now.status in RELEASED
    return now.status not in RELEASED or (was.comparator, was.value, was.unit) != (now.comparator, now.value, now.unit)


# ---- beside the steps -----------------------------------------------------------------------------------------------


@click.command("comments")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def list_comments(as_json: bool) -> None:
    """List the comments that have a code."""
    from interface.flow.coded_comments import coded_comments

    emit([{"code": code, "text": text} for code, text in coded_comments().items()], as_json)


@click.command(epilog=ENVIRONMENT)
@click.option("--test", default="", metavar="CODE", help="Of one test.  [default: of the organization]")
@click.option("--people", type=click.Choice(["1", "2"]), help="How many verify a result before it is released.")
@click.option(
    "--critical-minutes", metavar="MIN,MIN…", help="Until somebody must have been told of a critical result, and until "
    "each escalation, such as 15,30,60.",
)  # fmt: skip
@click.option("--unset", is_flag=True, help="As the organization, or the default, says.")
@laboratory_options
@pass_context
def policy(
    context: Context,
    test: str,
    people: str | None,
    critical_minutes: str | None,
    unset: bool,
    organization: str | None,
    username: str | None,
    as_json: bool,
) -> None:
    """Show how results are reviewed, or say it: who may is who may write rules. What is not given stays."""
    from interface.store.review import Policy

    changes = people is not None or critical_minutes is not None
    if unset and changes:
        raise click.UsageError("--unset stands alone, or with --test")
    minutes = None
    if critical_minutes is not None:
        parts = critical_minutes.split(",")
        if not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
            raise click.UsageError("--critical-minutes are whole numbers, with commas between them")
        minutes = tuple(map(int, parts))
    wanted = Policy(test, None if people is None else people == "2", minutes) if changes or unset else None
    found = asyncio.run(_policies(context.settings, organization, username, wanted, whole=unset))
    emit(found, as_json, () if as_json else ("test", "two_steps", "critical_minutes"))
    if not found:
        click.echo("one person releases; a critical result may wait 15, 30 and 60 minutes (the default)", err=True)


async def _policies(
    settings: Settings, organization: str | None, username: str | None, wanted: Policy | None, *, whole: bool
) -> list[Policy]:
    from interface.flow.review_policy import change_policy, set_policy
    from interface.store import review

    async with desk(settings, organization, username, named=wanted is not None) as at:
        at.require(Permission.RESULT_READ)
        async with at.transaction() as connection:
            if wanted is None:
                await at.note_read(connection, "read", "review_policy")
                return await review.policies(connection)
            return await (set_policy if whole else change_policy)(connection, at.actor, wanted)
