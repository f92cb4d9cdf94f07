"""What is certain of a value is said: critical limits where the interval is not known, and words that are numbers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from interface.domain.model import HoldReason, ResultStatus, Sex
from interface.domain.views import ResultView
from interface.flow.review import release
from interface.store.ids import uuid7
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent

OF = "(select id from lab.test where code = $2 and organization_id = $1)"
CRITICAL: dict[str, object] = {"critical_low": 2.5, "critical_high": 6.5}


async def only(lab: Laboratory) -> ResultView:
    [found] = await lab.results()
    return found


async def measured(lab: Laboratory, code: str, value: str, *, unit: bool = True) -> ResultView:
    records = [one.replace("|19800501|", "||") for one in sent("S-1", {code: value})]
    await lab.send(records if unit else [one.replace("|mg/dL|", "||") for one in records])
    await lab.settle()
    return await only(lab)


async def intervals(lab: Laboratory, code: str, *rows: dict[str, object]) -> None:
    """These and no others."""
    gone = f"delete from lab.reference_interval where test_id = {OF}"  # noqa: S608 - constants
    await lab.owner.execute(gone, lab.organization_id, code)
    for row in rows:
        names = "".join(f", {name}" for name in row)
        places = "".join(f", ${at}" for at in range(4, 4 + len(row)))
        added = (
            f"insert into lab.reference_interval (id, organization_id, test_id, unit{names})"  # noqa: S608 - constants
            f" select $3, $1, {OF}, coalesce((select unit from lab.test where id = {OF}), ''){places}"
        )
        await lab.owner.execute(added, lab.organization_id, code, uuid7(), *row.values())


async def of_unknown_collection(lab: Laboratory, born: date, at: datetime) -> None:
    await lab.order("S-1", "K", at=at, birth_date=born)
    await lab.owner.execute("update lab.specimen set collected_at = null")


async def test_limits_in_amount_judge_a_result_in_mass_of_a_substance_that_is_known(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.owner.execute("update lab.test set molar_mass = 113.12 where code = 'CREA'")
        await intervals(lab, "CREA", {"low": 50, "high": 100, "critical_high": 600})
        await lab.owner.execute("update lab.reference_interval set unit = 'umol/L' where critical_high = 600")
        await put_in_force(lab)
        await lab.order("S-1", "CREA")
        found = await measured(lab, "CREA", "9.0")  # 796 umol/L
        assert (found.flags, HoldReason.UNKNOWN_UNIT in found.held, await tasks(lab)) == (("HH",), False, 1)
        assert (found.low, found.high) == (Decimal("0.5656"), Decimal("1.1312"))


async def tasks(lab: Laboratory) -> int:
    text = "select count(*) from lab.critical_notification where organization_id = $1"
    found: int = await lab.owner.fetchval(text, lab.organization_id)
    return found


async def test_critical_limits_count_on_both_sides_of_a_change_of_the_interval(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        now = datetime.now(UTC) - timedelta(minutes=5)
        since = now - timedelta(days=1)
        same = {"high": 5.1} | CRITICAL
        await intervals(
            lab, "K", same | {"low": 3.5, "valid_to": since}, same | {"low": 3.6, "valid_from": since}
        )  # fmt: skip
        await of_unknown_collection(lab, date(1980, 5, 1), now)
        found = await measured(lab, "K", "8.1")
        assert (found.flags, found.low, await tasks(lab)) == (("HH",), None, 1)
        assert (await lab.release(found.id)).status is ResultStatus.FINAL
        assert await tasks(lab) == 1


async def test_critical_limits_count_on_both_sides_of_an_age(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        now = datetime.now(UTC) - timedelta(minutes=5)
        await intervals(
            lab, "K", {"age_high_d": 7, "low": 3.9, "high": 6.0, "use": "reference"},
            {"age_low_d": 7, "low": 3.5, "high": 5.1, "use": "reference"}, CRITICAL | {"use": "critical"},
        )  # fmt: skip
        await of_unknown_collection(lab, now.date() - timedelta(days=10), now)
        assert (await measured(lab, "K", "8.1")).flags == ("HH",)
        assert await tasks(lab) == 1


@pytest.mark.parametrize(("value", "flags", "held"), [("8.1", ("HH",), False), ("7.0", (), True), ("4.0", (), False)])
async def test_what_is_critical_at_some_ages_only_is_held(
    database_url: str, value: str, flags: tuple[str, ...], held: bool
) -> None:
    async with laboratory(database_url) as lab:
        now = datetime.now(UTC) - timedelta(minutes=5)
        both: dict[str, object] = {"low": 3.5, "high": 5.1, "critical_low": 2.5}
        await intervals(
            lab, "K", both | {"age_high_d": 7, "critical_high": 7.5}, both | {"age_low_d": 7, "critical_high": 6.5}
        )
        await of_unknown_collection(lab, now.date() - timedelta(days=10), now)
        found = await measured(lab, "K", value)
        assert (found.flags, found.held) == (flags, (HoldReason.AMBIGUOUS_INTERVAL,) if held else ())
        assert await tasks(lab) == len(flags)


async def test_critical_limits_count_beside_intervals_between_which_nothing_decides(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await intervals(
            lab, "K", {"sex": "female", "low": 3.4, "high": 4.4, "use": "reference"},
            {"age_low_d": 36 * 365, "low": 3.6, "high": 5.1, "use": "reference"}, CRITICAL | {"use": "critical"},
        )  # fmt: skip
        await lab.order("S-1", "K")
        found = await measured(lab, "K", "8.1")
        assert (found.flags, found.held) == (("HH",), (HoldReason.AMBIGUOUS_INTERVAL,))
        assert await tasks(lab) == 1
        async with lab.database.transaction(lab.organization_id) as connection:
            await release(connection, lab.director, found.id, accept_hold=True, comment="a second specimen")
        assert ((await only(lab)).flags, await tasks(lab)) == (("HH",), 1)


@pytest.mark.parametrize(("value", "flags", "held"), [("8.1", ("HH",), False), ("6.8", (), True), ("4.0", (), False)])
async def test_critical_limits_of_everybody_it_may_be_count_where_the_sex_is_not_known(
    database_url: str, value: str, flags: tuple[str, ...], held: bool
) -> None:
    async with laboratory(database_url) as lab:
        both: dict[str, object] = {"low": 3.5, "high": 5.1, "critical_low": 2.5}
        await intervals(
            lab, "K", both | {"sex": "female", "critical_high": 6.5}, both | {"sex": "male", "critical_high": 7.0}
        )
        await lab.order("S-1", "K", sex=Sex.UNKNOWN)
        found = await measured(lab, "K", value)
        assert (found.flags, found.held) == (flags, (HoldReason.AMBIGUOUS_INTERVAL,) if held else ())
        assert await tasks(lab) == len(flags)


async def test_a_newborns_specimen_was_not_collected_before_the_birth(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        now = datetime.now(UTC) - timedelta(minutes=5)
        await intervals(lab, "K", CRITICAL | {"age_high_d": 28, "use": "critical"})
        await of_unknown_collection(lab, now.date() - timedelta(days=2), now)
        assert (await measured(lab, "K", "8.1")).flags == ("HH",)
        assert await tasks(lab) == 1


@pytest.mark.parametrize(
    ("value", "flags", "held"),
    [("4", ("AA",), True), ("3", ("A",), False), ("5", (), True), ("1:640", ("AA",), True), ("1", ("N",), False)],
)
async def test_a_grade_or_titre_of_a_test_of_words_is_judged_by_its_lists(
    database_url: str, value: str, flags: tuple[str, ...], held: bool
) -> None:
    async with laboratory(database_url) as lab:
        of_words = f"update lab.test set kind = 'text', unit = '' where id = {OF}"  # noqa: S608 - constants
        await lab.owner.execute(of_words, lab.organization_id, "MG")
        await intervals(
            lab,
            "MG",
            {"normal_values": ["negative", "1"], "abnormal_values": ["2", "3"], "critical_values": ["4", "1:640"]},
        )
        await put_in_force(lab)
        await lab.order("S-1", "MG")
        found = await measured(lab, "MG", value, unit=False)
        assert (found.flags, bool(found.held)) == (flags, held)
        assert await tasks(lab) == (flags == ("AA",))


@pytest.mark.parametrize(
    ("value", "added"),
    [
        ("1:640", True), ("1/640", True), ("4.0", True), ("3", False), ("1:64", False), (">1:1280", True),
        (">1/1280", True), (">50", True), ("50", False), ("<1:1280", False),
    ],
)  # fmt: skip
async def test_a_reflex_knows_a_grade_or_titre_by_its_words(database_url: str, value: str, added: bool) -> None:
    reflex = """
[[reflex]]
name = "what a high titre asks for"
test = "MG"
kind = "reflex"
add = ["K"]
words = ["4", "1:640", ">1:1280", ">50"]
reason = "which it is"
"""
    async with laboratory(database_url) as lab:
        of_words = f"update lab.test set kind = 'text', unit = '' where id = {OF}"  # noqa: S608 - constants
        await lab.owner.execute(of_words, lab.organization_id, "MG")
        await intervals(lab, "MG")
        await put_in_force(lab, RULES + reflex)
        order = await lab.order("S-1", "MG")
        await measured(lab, "MG", value, unit=False)
        items = "select count(*) from lab.order_item where order_id = $1"
        assert await lab.owner.fetchval(items, order.id) == 1 + added


@pytest.mark.parametrize(
    ("sex", "asks", "status", "added"),
    [
        (Sex.UNKNOWN, 'flags = ["H"]', ResultStatus.REGISTERED, 0),
        (Sex.UNKNOWN, 'flags = ["U"]', ResultStatus.FINAL, 0),
        (Sex.FEMALE, 'flags = ["H"]', ResultStatus.FINAL, 1),
        (Sex.FEMALE, 'flags = ["L"]', ResultStatus.FINAL, 0),
    ],
)
async def test_a_reflex_by_a_flag_that_is_not_known_is_never_passed_over(
    database_url: str, sex: Sex, asks: str, status: ResultStatus, added: int
) -> None:
    """A creatinine has limits by sex: of whom nobody knows it is not known whether it is high, and so what it asks
    for."""
    reflex = (
        f'\n[[reflex]]\nname = "cystatin"\ntest = "CREA"\nkind = "reflex"\nadd = ["MG"]\n{asks}\nreason = "as agreed"\n'
    )
    async with laboratory(database_url) as lab:
        await put_in_force(lab, RULES + reflex)
        order = await lab.order("S-1", "CREA", sex=sex)
        await lab.send(["P|1" if record.startswith("P|") else record for record in sent("S-1", {"CREA": "4.0"})])
        await lab.settle()
        [found] = await lab.results()
        assert (found.status, found.held) == (status, () if status is ResultStatus.FINAL else (HoldReason.RULE,))
        items = "select count(*) from lab.order_item where order_id = $1"
        assert await lab.owner.fetchval(items, order.id) == 1 + added
