"""How an analyzer asks for work and how the host answers, or tells it: `[query]`, `[answer]`, `[download]` and `[law]`
of a `driver.toml`."""

from __future__ import annotations

from types import MappingProxyType

from interface.domain.model import Priority, Protocol, Sex
from interface.domain.table import Table
from interface.driver.defaults import DEFAULT_QUERIES
from interface.driver.dialogue import LIS2_SEXES, REASONS, Answer, Each, Line, Over, faults, line_faults
from interface.driver.download import Download
from interface.driver.law import LawDialect, Names
from interface.driver.manifest import QueryRule
from interface.driver.paths import PATH, parse_path


def read_query_rule(table: Table, protocol: Protocol) -> QueryRule:
    default = DEFAULT_QUERIES.get(protocol, QueryRule())
    own = {key: table.forms(key, PATH) for key in ("specimen_id", "patient_id", "tests", "status")}
    rule = QueryRule(
        specimen_id=default.specimen_id if own["specimen_id"] is None else own["specimen_id"],
        patient_id=default.patient_id if own["patient_id"] is None else own["patient_id"],
        tests=default.tests if own["tests"] is None else own["tests"],
        all_words=frozenset(table.texts("all_words", tuple(sorted(default.all_words)))),
        message_types=frozenset(table.texts("message_types", tuple(sorted(default.message_types)))),
        status=default.status if own["status"] is None else own["status"],
        cancels=frozenset(table.texts("cancels", tuple(sorted(default.cancels)))),
    )
    if bool(rule.status) != bool(rule.cancels):
        table.say(table.path, "status and cancels come together")
    return rule


def read_answer(root: Table, protocol: Protocol, code_join: str) -> Answer | None:
    """None when there is no `[answer]`: then the standard's."""
    table = root.table("answer")
    if not table.raw:
        return None
    if protocol is Protocol.DECLARED:
        table.say(table.path, f"is not for protocol {protocol}")
    default = Answer(sex=LIS2_SEXES) if protocol is Protocol.LIS2 else Answer()
    priority, sex, reasons = table.table("priority"), table.table("sex"), table.table("reason_codes")
    answer = Answer(
        found=_messages(table, "found", protocol),
        none=_messages(table, "none", protocol),
        test=table.text("test", default.test),
        join=table.text("join"),
        code_part=table.whole("code_part"),
        code_join=code_join,
        orders=_orders(table),
        needs=_needs(table),
        priority=MappingProxyType({one: priority.text(one, default.priority[one]) for one in Priority}),
        sex=MappingProxyType({one: sex.text(one, default.sex[one]) for one in Sex}),
        specimen_types=_specimen_types(table),
        reason_codes=MappingProxyType({one: reasons.text(one) for one in REASONS}),
        time_format=table.text("time_format", default.time_format),
        date_format=table.text("date_format", default.date_format),
    )
    for fault in line_faults(answer.test, parse_path):
        table.say(table.at("test"), fault)
    if not answer.found or not answer.none:
        table.say(table.path, "needs found and none: what is said when there is work, and when there is none")
    return answer


def read_download(root: Table, protocol: Protocol) -> Download | None:
    """None when there is no `[download]`: nothing is said to the analyzer that it has not asked for."""
    if "download" not in root.raw:
        return None
    table = root.table("download")
    lines = {key: _lines_of(table, key, protocol) for key in ("new", "again", "cancel")}
    if protocol is Protocol.DECLARED:
        table.say(table.path, f"is not for protocol {protocol}")
    if not lines["new"]:
        table.say(table.path, "needs new: what is said of work that is new")
    return Download(lines["new"], lines["again"] or lines["new"], lines["cancel"], table.flag("same_connection"))


def _lines_of(root: Table, key: str, protocol: Protocol) -> tuple[Line, ...]:
    if key not in root.raw:
        return ()
    table = root.table(key)
    lines = _lines(table)
    for fault in faults(lines, protocol, parse_path):
        table.say(table.at("lines"), fault)
    return lines


def read_law(root: Table, protocol: Protocol, code_join: str) -> LawDialect | None:
    """None when there is no `[law]`: the analyzer is answered by `[answer]`, on the connection it asked by."""
    if "law" not in root.raw:
        return None
    table, default = root.table("law"), LawDialect()
    dialect = LawDialect(
        application=table.text("application", default.application),
        query_profile=table.text("query_profile", default.query_profile),
        order_profile=table.text("order_profile", default.order_profile),
        names=table.choice("names", Names, default.names) if "names" in table.raw else default.names,
        namespace=table.text("namespace"),
        code_system=table.text("code_system", default.code_system),
        code_part=table.whole("code_part"),
        code_join=code_join,
        type_system=table.text("type_system", default.type_system),
        patient=not table.flag("anonymous"),
    )
    if protocol is not Protocol.HL7:
        table.say(table.path, f"is not for protocol {protocol}")
    if root.raw.get("answer"):
        table.say(table.path, "answers in the place of [answer]; there is one or the other")
    if dialect.namespace and dialect.names is not Names.BOTH:
        table.say(table.at("namespace"), 'is of an id in SPM-2, which needs names = "both"')
    return dialect


def _orders(root: Table) -> MappingProxyType[str, str]:
    """By the codes of results; the table has them by what orders name."""
    table, made = root.table("orders"), dict[str, str]()
    for name in table.keys():
        for code in table.texts(name):
            if made.setdefault(code, name) != name:
                table.say(table.at(name), f"{code} is ordered as {made[code]} already")
    return MappingProxyType(made)


def _needs(root: Table) -> MappingProxyType[str, str]:
    table = root.table("needs")
    return MappingProxyType({name: table.text(name) for name in table.keys()})


def _specimen_types(table: Table) -> MappingProxyType[str, str] | None:
    types = table.table("specimen_types")
    return MappingProxyType({key: types.text(key) for key in types.keys()}) if types.raw else None


def _messages(table: Table, key: str, protocol: Protocol) -> tuple[tuple[Line, ...], ...]:
    made = []
    for message in table.tables(key):
        lines = _lines(message)
        for fault in faults(lines, protocol, parse_path):
            message.say(message.at("lines"), fault)
        made.append(lines)
    return tuple(made)


def _lines(table: Table) -> tuple[Line, ...]:
    lines: list[Line] = []
    for index, item in enumerate(table.lines("lines")):
        if isinstance(item, str):
            lines.append(item)
        else:
            lines.append(_each(table.child(item, f"lines[{index}]")))
    return tuple(lines)


def _each(table: Table) -> Each:
    return Each(table.choice("each", Over, Over.SPECIMEN), _lines(table))
