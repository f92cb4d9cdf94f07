"""The table of the types that FHIR searches find, and of their parameters: what of a row each looks at.

A type is a row of `_KINDS`, made for an audience: what it may not see is in no expression. What is rendered of a row is
said by `api.fhir.types` and `render.fhir`; a parameter finds exactly what the resource shows, and a test compares.
A parameter without codings or targets is one that no resource of ours has a value for: it finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Final

from interface.domain.model import RELEASED, TAKEN_BACK
from interface.domain.systems import (
    BARCODE_SYSTEM,
    LOINC,
    ORDER_SYSTEM,
    SNOMED,
    SPECIMEN_TYPE_SYSTEM,
    TERMINOLOGY,
    TEST_SYSTEM,
)
from interface.domain.views import Audience
from interface.store.lab import item_shown, report_changed, specimen_visible, visible
from interface.store.search.cover import OBSERVATION
from interface.store.search.engine import Join, Kind
from interface.store.search.evidence import EVIDENCE
from interface.store.search.fields import (
    Coded,
    Identified,
    Instant,
    Link,
    NoAddress,
    Numbered,
    Numbers,
    Pairs,
    Parameter,
    PatientName,
    Quantity,
    Text,
)
from interface.store.versions import measured

HL7 = "http://hl7.org/fhir/"
_NONE = "; none is kept"
BY_CHANGE: Final[Mapping[str, None]] = {"_lastUpdated": None}  # `Kind.walks` of a table with an index of `updated_at`
NEVER_SAID: Final = frozenset({"_tag", "_security", "_profile", "_source"})  # parameters of every type


def _subject(column: str) -> tuple[Parameter, ...]:
    return (
        Parameter(
            "patient", Link({"Patient": column}), "the patient, under whichever of the merged records", "subject"
        ),
        Parameter(
            "subject", Link({"Patient": column}), "the patient, under whichever of the merged records", "subject"
        ),
    )


def _codes(code: str, loinc: str, name: str) -> Coded:
    """A test, as `render.fhir` puts it: its LOINC code and the laboratory's own, and its name."""
    return Coded((LOINC, loinc), (TEST_SYSTEM, code), label=f"coalesce(nullif({name}, ''), {code})")


# ---- patients -------------------------------------------------------------------------------------------------------


def _patient(audience: Audience) -> Kind:
    identifiers = "p.id in (select i.patient_id from lab.patient_identifier i where i.ended_at is null and {})"
    return Kind(
        name="Patient",
        table="lab.patient p",
        id="p.id",
        updated="p.updated_at",
        parameters=(
            Parameter("identifier", Identified("i.authority", "i.value", "i.type", identifiers),
                      "an identifier of the patient", "identifier"),
            Parameter("family", PatientName("family"), "how a word of the family name begins", "name.family"),
            Parameter("given", PatientName("given"), "how a word of the given names begins", "name.given"),
            Parameter("name", PatientName(), "how a word of any name begins", "name"),
            Parameter("birthdate", Instant("p.birth_date", day=True), "the date of birth", "birthDate"),
            Parameter("gender", Coded((HL7 + "administrative-gender", "p.sex")), "administrative gender", "gender"),
            Parameter("active", Coded(("", "(p.active and p.merged_into_id is null)::text")),
                      "whether the record is in use: true or false", "active"),
            Parameter("telecom", Coded(), "a way to reach the patient" + _NONE, "telecom"),
            Parameter("phone", Coded(), "a telephone number" + _NONE, "telecom.where(system='phone')"),
            Parameter("email", Coded(), "an e-mail address" + _NONE, "telecom.where(system='email')"),
            Parameter("link", Link({"Patient": Pairs(_LINKS)}), "a record of the same patient", "link.other"),
        ),
        sorts={"birthdate": ("p.birth_date", "date"), "family": ("p.family", "text"), "given": ("p.given", "text")},
        walks=BY_CHANGE,
    )  # fmt: skip


_LINKS = """select id as f, merged_into_id as t from lab.patient where merged_into_id is not null
    union all select merged_into_id, id from lab.patient where merged_into_id is not null"""


# ---- results --------------------------------------------------------------------------------------------------------

# When a result was so: Observation.effective. A version is looked up only where no collection is known.
TAKEN = f"""coalesce(s.collected_at,
    (select {measured("w", "r")} from lab.result_version w where w.id = r.version_id))"""  # noqa: S608
# What a result was that was retracted or taken back is not told (`store.lab`): neither may it be found by it.
_SHOWN = "v.status not in ('entered-in-error', 'registered', 'cancelled')"


# An item's results are found among its order's: an index of their own would be written with every result.
_ANSWERS = """select w.id as f, i.id as t from lab.order_item i
    join lab.result w on w.order_id = i.order_id and w.order_item_id = i.id"""


def _value(*kinds: str) -> str:
    named = ", ".join(f"'{kind}'" for kind in kinds)
    return f"case when v.kind in ({named}) and {_SHOWN} then btrim(v.value) else '' end"


def _observation(audience: Audience) -> Kind:
    code = _codes("v.test_code", "v.loinc", "v.test_name")
    number = f"(v.kind = 'numeric' and v.number is not null and {_SHOWN})"
    return Kind(
        name="Observation",
        table="lab.result r",
        id="r.id",
        updated="r.updated_at",
        visible=visible(audience),
        joins={
            "v": Join("lab.result_version v", "v.id = r.version_id"),
            "s": Join("lab.specimen s", "s.id = r.specimen_id", always=False),
        },
        parameters=(
            *_subject("r.patient_id"),
            Parameter("identifier", Coded(), "an identifier of the result" + _NONE, "identifier"),
            Parameter("status", Coded((HL7 + "observation-status", "r.status")), "the status of the result", "status"),
            Parameter("category", Coded((TERMINOLOGY + "observation-category", "'laboratory'")),
                      "laboratory", "category"),
            Parameter("code", code, "the test: LOINC code, or the laboratory's own", "code"),
            Parameter("combo-code", code, "as code: no result has components", "code"),
            Parameter("date", Instant(TAKEN), "when the specimen was taken, else measured", "effective"),
            Parameter("specimen", Link({"Specimen": "r.specimen_id"}), "the specimen", "specimen"),
            Parameter("based-on", Link({"ServiceRequest": Pairs(_ANSWERS)}), "the request", "basedOn"),
            Parameter("device", Link({"Device": "r.analyzer_id"}, few=False), "the analyzer", "device"),
            Parameter("performer", Link({"Organization": "r.organization_id"}, few=False), "the laboratory",
                      "performer"),
            Parameter("has-member", Link({}), "a member of a group" + _NONE, "hasMember"),
            Parameter("value-quantity", Quantity("v.number", "v.comparator", "v.unit", number),
                      "a numeric value; units are UCUM codes and are not converted", "value"),
            Parameter("value-concept", Coded(label=_value("coded")), "a coded value, by its text", "value"),
            Parameter("value-string", Text(_value("text")), "a value in words", "value"),
        ),
        sorts={"date": (TAKEN, "timestamptz"), "code": ("v.test_code", "text"), "status": ("r.status", "text")},
        cover=OBSERVATION,
        walks=BY_CHANGE,
    )  # fmt: skip


# ---- orders and reports ---------------------------------------------------------------------------------------------

# What the audience sees of the results of an order, in one row; their specimens and versions, which are more, apart
_TOLD = """left join lateral (
    select count(*) filter (where r.status not in ({taken_back})) as results,
           count(*) filter (where r.status not in ({taken_back}, 'entered-in-error')) as said,
           count(*) filter (where r.status in ({released})) as released,
           count(*) filter (where r.status = 'preliminary') as preliminary,
           count(*) filter (where r.status = 'corrected') as corrected,
           count(*) filter (where r.status = 'amended') as amended
    from lab.result r where r.order_id = o.id and {visible}
) t on true"""
_TAKEN_OF = """left join lateral (
    select min({taken}) as taken from lab.result r left join lab.specimen s on s.id = r.specimen_id
    where r.order_id = o.id and {visible}
) d on true"""
# When the results changed that it sees; of their versions nothing is read.
_CHANGED = """left join lateral (
    select max(r.updated_at) as at, count(*) filter (where {visible}) as results from lab.result r
    where r.order_id = o.id and {changed}
) c on true"""
# Every change of an order or of a result of one, which are two indexes in the order of time; a report stands where it
# changed last. Of results that changed together the last one says so, and none where the order did at that moment. Each
# index is put in order by itself: below a union the planner does not see that it is, for row-level security.
_CHANGES = """(
    (select n.id, n.updated_at as at, n.id as source from lab.lab_order n order by n.updated_at {turn}, n.id {turn})
    union all
    (select w.order_id, w.updated_at, w.id from lab.result w order by w.updated_at {turn}, w.order_id {turn})) e
    join lateral (select * from lab.lab_order o where o.id = e.id offset 0) o on true"""
_CHANGED_SINCE = """o.id = any(array(select n.id from lab.lab_order n where n.updated_at >= {at}
    union select w.order_id from lab.result w where w.updated_at >= {at}))"""
_LAST_CHANGE = """case when e.source = e.id
    then not exists (select from lab.result r where r.order_id = e.id and r.updated_at > e.at and {changed})
    else o.updated_at < e.at and exists (select from lab.result r where r.id = e.source and {changed})
        and not exists (select from lab.result r where r.order_id = e.id and (r.updated_at, r.id) > (e.at, e.source)
                        and {changed}) end"""
# `render.fhir.report_status`, in SQL
_REPORT_STATUS = """(case
    when o.cancelled_at is not null and t.released = 0 then 'cancelled'
    when t.said = 0 then case when t.results > 0 then 'entered-in-error' else 'registered' end
    when t.released = 0 then case when t.preliminary > 0 then 'preliminary' else 'registered' end
    when t.released < t.said or exists (
        select from lab.order_item i where i.order_id = o.id and i.status not in ('cancelled', 'rejected')
        and not exists (select from lab.result r where r.order_id = o.id and r.order_item_id = i.id
                        and r.status in ({released}) and {visible})) then 'partial'
    when t.said < t.results or t.corrected > 0 then 'corrected'
    when t.amended > 0 then 'amended' else 'final' end)"""
_RELEASED = ", ".join(f"'{status.value}'" for status in sorted(RELEASED))
_TAKEN_BACK = ", ".join(f"'{status.value}'" for status in sorted(TAKEN_BACK))
_SPECIMENS = "select order_id as f, specimen_id as t from lab.order_item where specimen_id is not null"
_OWN_NUMBER = Numbers("select n.id from lab.lab_order n", "n.number", system=ORDER_SYSTEM)
_NUMBERS = Numbered(
    "o.id",
    (
        _OWN_NUMBER,
        Numbers("select n.id from lab.lab_order n", "n.placer_number", authority="n.placer_authority"),
        Numbers("select n.order_id from lab.placer_order n", "n.number", authority="n.authority"),
    ),
)


# A request's are those that it shows (`lab.known_by`): an order may be several services.
_OF_ITEMS = "select y.id from lab.order_item y join lab.lab_order n on n.id = y.order_id"
_ASKS = """join lab.placer_item w on w.placer_order_id = {n}.id join lab.order_item {y} on {y}.id = w.order_item_id
     and (w.dropped_at is null and {n}.ended_at is null or {y}.status in ('cancelled', 'rejected'))"""
_BY_ORDER = f"""(not exists (select from lab.placer_item w where w.order_item_id = y.id) or not exists (
    select from lab.placer_order q where q.number = n.placer_number and q.authority = n.placer_authority)
    and exists (select from lab.placer_order q {_ASKS.format(n="q", y="x")} where x.id = y.id
                and q.group_number = n.placer_number and q.group_authority = n.placer_authority))"""  # noqa: S608 - words of ours
_OF_SERVICES = f"select y.id from lab.placer_order n {_ASKS.format(n='n', y='y')}"  # noqa: S608 - words of ours
_REQUEST_NUMBERS = Numbered(
    "i.id",
    (
        Numbers(_OF_ITEMS, "n.number", system=ORDER_SYSTEM),
        Numbers(f"{_OF_ITEMS} and {_BY_ORDER}", "n.placer_number", authority="n.placer_authority"),
        Numbers(_OF_SERVICES, "n.number", authority="n.authority"),
    ),
)


def _report(audience: Audience) -> Kind:
    seen = {
        "visible": visible(audience), "changed": report_changed(audience), "released": _RELEASED,
        "taken_back": _TAKEN_BACK, "taken": TAKEN,
    }  # fmt: skip
    status = _REPORT_STATUS.format(**seen)

    def issued(at: str) -> Parameter:
        return Parameter("issued", Instant(at, present="c.results > 0"), "its last change", "issued")

    updated = "greatest(o.updated_at, c.at)"
    made = Kind(
        name="DiagnosticReport",
        table="lab.lab_order o",
        id="o.id",
        updated=updated,
        joins={name: text.format(**seen) for name, text in (("t", _TOLD), ("d", _TAKEN_OF), ("c", _CHANGED))},
        parameters=(
            *_subject("o.patient_id"),
            Parameter("identifier", _NUMBERS, "the order's number, the laboratory's or the placer's", "identifier"),
            Parameter("status", Coded((HL7 + "diagnostic-report-status", status)), "how far it is", "status"),
            Parameter("category", Coded((TERMINOLOGY + "v2-0074", "'LAB'")), "LAB", "category"),
            Parameter("code", Coded((LOINC, "'11502-2'"), label="'Laboratory report'"),
                      "11502-2, laboratory report", "code"),
            Parameter("date", Instant("d.taken"), "when the first specimen was taken, else measured", "effective"),
            issued(updated),
            Parameter("based-on", Link({"ServiceRequest": Pairs("select order_id as f, id as t from lab.order_item")}),
                      "the request", "basedOn"),
            Parameter("result", Link({"Observation": Pairs("select order_id as f, id as t from lab.result")}),
                      "a result in it", "result"),
            Parameter("specimen", Link({"Specimen": Pairs(_SPECIMENS)}), "a specimen of the order", "specimen"),
            Parameter("performer", Link({"Organization": "o.organization_id"}, few=False), "the laboratory",
                      "performer"),
            Parameter("conclusion", Coded(), "a coded conclusion" + _NONE, "conclusionCode"),
        ),
        sorts={"date": ("d.taken", "timestamptz")},
    )  # fmt: skip
    others = tuple(one for one in made.parameters if one.name != "issued")
    along = replace(
        made, id="e.id", updated="e.at", visible=_LAST_CHANGE.format(**seen), parameters=(*others, issued("e.at")),
        sorts={**made.sorts, "issued": ("e.at", "timestamptz")},
    )  # fmt: skip
    up, down = (replace(along, table=_CHANGES.format(turn=turn)) for turn in ("asc", "desc"))
    walks = {"_lastUpdated": (up, down), "issued": (up, down)}
    # one without results was not issued yet: it comes where its last change puts it
    return replace(made, walks=walks, since=_CHANGED_SINCE, sorts={**made.sorts, "issued": (updated, "timestamptz")})


_REQUEST_STATUS = """(case when o.cancelled_at is not null or i.status in ('cancelled', 'rejected') then 'revoked'
    when {shown} = 'verified' then 'completed' else 'active' end)"""
_PRIORITY = """(case o.priority when 'stat' then 'stat' when 'asap' then 'asap' when 'routine' then 'routine'
    else 'urgent' end)"""


def _request(audience: Audience) -> Kind:
    return Kind(
        name="ServiceRequest",
        table="lab.order_item i join lab.lab_order o on o.id = i.order_id",
        id="i.id",
        updated="o.updated_at",
        joins={
            "m": Join("lab.test m", "m.id = i.test_id"),
            "s": Join("lab.specimen s", "s.id = i.specimen_id", always=False),
        },
        parameters=(
            *_subject("o.patient_id"),
            Parameter("identifier", _REQUEST_NUMBERS, "the order's number, or the placer's of the request",
                      "identifier"),
            Parameter("requisition", Numbered("o.id", (_OWN_NUMBER,)), "the laboratory's number of the order",
                      "requisition"),
            Parameter("status", Coded((HL7 + "request-status", _REQUEST_STATUS.format(shown=item_shown(audience)))),
                      "the status of the request", "status"),
            Parameter("intent", Coded((HL7 + "request-intent", "'order'")), "order", "intent"),
            Parameter("priority", Coded((HL7 + "request-priority", _PRIORITY)), "how soon", "priority"),
            Parameter("code", _codes("m.code", "m.loinc", "m.name"), "the test: LOINC code, or the laboratory's own",
                      "code"),
            Parameter("category", Coded((SNOMED, "'108252007'")), "laboratory procedure", "category"),
            Parameter("authored", Instant("o.ordered_at"), "when it was ordered", "authoredOn"),
            Parameter("occurrence", Instant("null::timestamptz"), "when it is to be done" + _NONE, "occurrence"),
            Parameter("requester", Link({"Practitioner": "o.requester_id"}), "who asks", "requester"),
            Parameter("specimen", Link({"Specimen": "i.specimen_id"}), "the specimen", "specimen"),
            Parameter("based-on", Link({}), "what it fulfils" + _NONE, "basedOn"),
        ),
        sorts={"authored": ("o.ordered_at", "timestamptz"), "code": ("m.code", "text")},
        walks={**BY_CHANGE, "authored": None},
    )  # fmt: skip


# A type that nobody has said is shown as unknown
_UNSAID = (TERMINOLOGY + "data-absent-reason", "case when btrim(s.type) = '' then 'unknown' else '' end")
_TYPE = "coalesce(nullif(btrim(s.type), ''), 'not known')"


def _specimen(audience: Audience) -> Kind:
    barcode = Coded((BARCODE_SYSTEM, "s.barcode"), selective=True)
    return Kind(
        name="Specimen",
        table="lab.specimen s",
        id="s.id",
        updated="s.updated_at",
        visible=specimen_visible(audience),
        parameters=(
            *_subject("s.patient_id"),
            Parameter("identifier", barcode, "the barcode", "identifier"),
            Parameter("accession", barcode, "the barcode", "accessionIdentifier"),
            Parameter("status", Coded((HL7 + "specimen-status", "s.status")), "whether it can be used", "status"),
            Parameter("type", Coded((SPECIMEN_TYPE_SYSTEM, "s.type"), _UNSAID, label=_TYPE), "what it is", "type"),
            Parameter("collected", Instant("s.collected_at"), "when it was taken", "collection.collected"),
            Parameter("container-id", Coded(), "an identifier of the container" + _NONE, "container.identifier"),
            Parameter("parent", Link({"Specimen": "s.parent_id"}), "the specimen it is of", "parent"),
        ),
        sorts={"collected": ("s.collected_at", "timestamptz")},
        walks=BY_CHANGE,
    )


_KINDS: tuple[Callable[[Audience], Kind], ...] = (
    _patient, _observation, _report, _request, _specimen, *EVIDENCE
)  # fmt: skip


def _with_common(kind: Kind) -> Kind:
    common = (
        Parameter("_id", Coded(("", f"{kind.id}::text")), "the resource's id", "id"),
        Parameter("_lastUpdated", Instant(kind.updated), "when it last changed", "meta.lastUpdated"),
        Parameter("_tag", Coded(), "a tag" + _NONE, "meta.tag"),
        Parameter("_security", Coded(), "a security label" + _NONE, "meta.security"),
        Parameter("_profile", NoAddress(), "a profile that it says it follows; none is said", "meta.profile"),
        Parameter("_source", NoAddress(), "where it says that it comes from; Provenance does", "meta.source"),
    )
    sorts = {"_lastUpdated": (kind.updated, "timestamptz"), **kind.sorts}
    walks = {name: both and (_with_common(both[0]), _with_common(both[1])) for name, both in kind.walks.items()}
    return replace(kind, parameters=common + kind.parameters, sorts=sorts, walks=walks)


@cache
def kinds(audience: Audience) -> Mapping[str, Kind]:
    """Every type by its name, as the audience sees it."""
    made = (_with_common(make(audience)) for make in _KINDS)
    return {kind.name: kind for kind in made}
