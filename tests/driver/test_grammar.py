"""What a driver.toml can say of an analyzer's ways, shown on records in the shape of real ones. No real person."""

from __future__ import annotations

from decimal import Decimal

import pytest

from interface.domain.check_digits import CheckDigit, check_character
from interface.domain.model import Comparator, DecodedMessage, HoldReason, Observed, Protocol, SpecimenRole, ValueKind
from interface.driver import registry
from interface.driver.describe import describe
from interface.driver.manifest import CodeKind, Driver, Feature
from interface.driver.parse import parse_manifest
from interface.driver.specimen_ids import SpecimenIdRule
from interface.errors import DriverError

LIS2 = """
[driver]
id = "acme_one"
revision = "1"
protocol = "lis2"
tier = "simulated"
title = "Acme One"
document = "Acme One, host interface manual, 3rd edition"
[match]
"H.5.1" = "^ACME"
[status]
"" = "ok"
F = "ok"
[flags]
"" = ""
"""
HL7 = LIS2.replace('"lis2"', '"hl7"').replace('"H.5.1"', '"MSH-3.1"')


TRAINING = [
    (one, code)
    for one in registry.find_all()
    if one.protocol is not Protocol.DECLARED and not one.generic
    for code in "TD"
]  # fmt: skip


@pytest.mark.parametrize(("one", "code"), TRAINING, ids=lambda it: it if isinstance(it, str) else it.id)
def test_what_is_sent_for_training_or_debugging_is_never_a_patients(one: Driver, code: str) -> None:
    """LIS02-A2 H-12, HL7 table 0103: whatever other roles a driver knows."""
    (vector,) = (each for each in registry.vectors(one.id) if each.name == "result-1")
    message = registry.read(vector.trace.read_bytes(), one)[0].text.decode("latin-1")
    header, *rest = message.splitlines()
    fields = header.split("|")
    place = 11 if one.protocol is Protocol.LIS2 else 10
    fields += [""] * (place + 1 - len(fields))
    fields[place] = code
    found = registry.decode(one, "\r".join(("|".join(fields), *rest, "")).encode("latin-1"))
    assert found.specimens
    assert {specimen.role for specimen in found.specimens} == {SpecimenRole.OTHER}


def driver(text: str, base: str = LIS2) -> Driver:
    return parse_manifest(base + text, "driver.toml")


def lis2(chosen: Driver, *records: str, order: str = "O|1|S-1||^^^X|R") -> DecodedMessage:
    text = "\r".join(("H|\\^&|||ACME", "P|1", order, *records, "L|1|N", ""))
    return registry.decode(chosen, text.encode("latin-1"))


def hl7(chosen: Driver, *segments: str) -> DecodedMessage:
    head = "MSH|^~\\&|ACME||||20260105||OUL^R22|1|P|2.5.1"
    return registry.decode(chosen, "\r".join((head, *segments, "")).encode())


def results(message: DecodedMessage) -> list[Observed]:
    return [result for specimen in message.specimens for result in specimen.results]


# ---- off the scale ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "flag", "held"),
    [
        ("600", ">", True), ("0.01", "<", True), (">600", ">", False), ("<0.01", "<", False), ("<=0.01", "<", False),
        (">600", "<", True), ("600", "", False), ("600", "H", False), ("1:128", ">", True), (">1:128", ">", False),
        ("600", r"<\>", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("generic", ["generic_lis2", "generic_hl7"])
def test_a_number_that_a_flag_says_is_off_the_scale_is_no_plain_number(
    generic: str, value: str, flag: str, held: bool
) -> None:
    """HL7 table 0078: below or above what the instrument can measure. The end of the scale, or a reading beyond it?"""
    chosen = registry.load(generic)
    if generic == "generic_lis2":
        message = lis2(chosen, f"R|1|^^^GLU|{value}|mg/dL||{flag}||F")
    else:
        segments = ("SPM|1|S-1", "OBR|1|||GLU", f"OBX|1|ST|GLU||{value}|mg/dL||{flag.replace(chr(92), '~')}|||F")
        message = hl7(chosen, *segments)
    [result] = results(message)
    assert result.holds == ((HoldReason.QUESTIONABLE,) if held else ())


def test_only_a_driver_says_that_an_off_scale_flag_makes_the_number_a_limit() -> None:
    chosen = driver("'<' = '<'\n'>' = '>'\n[value.limits]\n'<' = '<'\n")
    below, above, both = results(
        lis2(chosen, "R|1|^^^A|1|||<||F", "R|2|^^^B|9|||>||F", r"R|3|^^^C|9|||<\>||F")
    )  # fmt: skip
    assert (below.value.comparator, below.holds) == (Comparator.LT, ())
    assert (above.value.comparator, above.holds) == (None, (HoldReason.QUESTIONABLE,))
    assert both.holds == (HoldReason.QUESTIONABLE,)


# ---- codes ----------------------------------------------------------------------------------------------------------


def test_a_code_of_several_components_tells_results_of_one_assay_apart() -> None:
    chosen = driver("[paths]\ncode = 'R.3.4 + R.3.11'\n")
    message = lis2(
        chosen,
        "R|1|^^^0021^hCG^UNDILUTED^P^47331^00788^^F|<1.20|mIU/mL||||F",
        "R|2|^^^0021^hCG^UNDILUTED^P^47331^00788^^I|NEGATIVE|||||F",
        "R|3|^^^0021^hCG^UNDILUTED^P^47331^00788^^P|9245|RLU||||F",
    )
    assert [one.code for one in results(message)] == ["0021/F", "0021/I", "0021/P"]
    assert results(message)[0].code_path == "^^^0021^hCG^UNDILUTED^P^47331^00788^^F"


def test_empty_parts_of_a_code_fall_away_at_its_ends_and_stay_between() -> None:
    chosen = driver("[paths]\ncode = 'R.3.2 + R.3.4 + R.3.7 + R.3.8'\n")
    fields = ("^MTB^^Xpert^^4^^", "^^^HIVVL^^^^LOG", "^^^HIVVL^^^HIV-1^Ct", "^^^HIVVL")
    message = lis2(chosen, *(f"R|1|{field}|1|||||F" for field in fields))
    assert [one.code for one in results(message)] == ["MTB/Xpert", "HIVVL//LOG", "HIVVL/HIV-1/Ct", "HIVVL"]


def test_a_code_may_be_of_other_fields_and_alternatives_are_tried_in_order() -> None:
    chosen = driver("[paths]\ncode = ['R.3.4 + R.5', 'R.3.1 + R.5']\n[code]\njoin = ':'\n")
    message = lis2(chosen, "R|1|^^^1551|12.8| s||||F", "R|2|^^^1551|1.09|INR||||F", "R|3|77|1|||||F")
    assert [one.code for one in results(message)] == ["1551:s", "1551:INR", "77"]
    assert results(message)[0].code_path != results(message)[1].code_path, "part of the result's key"


def test_a_composite_code_of_hl7_reads_subcomponents_and_the_sub_id() -> None:
    chosen = driver("[paths]\ncode = 'OBX-3.1.1 + OBX-3.1.2 + OBX-4.1.1 + OBX-4.1.2'\n", HL7)
    message = hl7(chosen, "OBR|1|||CTNG", "OBX|1|ST|CTNG&CT|CT1&Ct|^38.4||||||F", "OBX|2|ST|CTNG&CT||POS||||||F")
    assert [one.code for one in results(message)] == ["CTNG/CT/CT1/Ct", "CTNG/CT"]


def test_a_pattern_of_several_groups_joins_them() -> None:
    chosen = driver("[code]\npattern = '^[0-9.]+[+]([0-9]+)[+]([0-9.]+)$'\n")
    assert results(lis2(chosen, "R|1|^^^1.0000+002+1.0|33.9|||||F"))[0].code == "002/1.0"


CODES = """
[[codes]]
source = "manual, table 5-2"
unit = "g/L"
[codes.list]
ALB = "Albumin"
HCG = {name = "hCG", unit = "IU/L", source = "manual, annex B"}
"HCG/P" = {name = "hCG, light units", kind = "detail"}
"""


def test_every_code_names_its_source_and_a_detail_is_no_result_of_its_own() -> None:
    chosen = driver(CODES)
    assert [(one.name, one.unit, one.source) for one in chosen.codes.values()] == [
        ("Albumin", "g/L", "manual, table 5-2"),
        ("hCG", "IU/L", "manual, annex B"),
        ("hCG, light units", "g/L", "manual, table 5-2"),
    ]
    assert chosen.codes["HCG/P"].kind is CodeKind.DETAIL
    message = lis2(chosen, "R|1|^^^HCG|12|IU/L||||F", "R|2|^^^HCG/P|9245|RLU||||F")
    assert [one.detail for one in results(message)] == [False, True]
    told = describe(message)["specimens"][0]["results"]
    assert ("detail" in told[0], told[1]["detail"]) == (False, True)


def test_a_detail_is_known_by_any_field_and_a_twin_by_being_empty() -> None:
    chosen = driver(
        """
[[classify]]
kind = "detail"
path = "OBX-3.4"
equals = "S_OTHER"
[[classify]]
kind = "detail"
when = [{path = "OBX-2", equals = "CE"}, {path = "OBX-5.1", empty = true}]
""",
        HL7,
    )
    message = hl7(
        chosen, "SPM|1|S-1", "OBR|1", "OBX|1|NM|20490^20490^99ROC|1|32.2|mg/L|||||F",
        "OBX|2|CE|20490^20490^99ROC|1|^^99ROC||||||F", "OBX|3|EI|Cal^Cal^99ROC^S_OTHER|1|23||||||F",
        "OBX|4|CE|20491^20491^99ROC|1|POS^^99ROC||||||F",
    )  # fmt: skip
    assert [one.detail for one in results(message)] == [False, True, True, False]


# ---- specimen ids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "raw", "read"),
    [
        ("padding = '0'", "00004711", "4711"),
        ("padding = '0'", "0000", "0"),
        ("prefix = ['S-', 'X']\nsuffix = '-B'", "S-4711-B", "4711"),
        ("separator = '_'\npart = 2", "A1_4711_20260105", "4711"),
        ("separator = '_'\npart = 4", "A1_4711_20260105", ""),
        ("pattern = ['^A([0-9]+)$', '^B([0-9]+)$']", "B17", "17"),
        ("pattern = '^[0-9]+$'\nmust_match = true", "BACKGROUND", ""),
        ("null_pattern = '^ERR'", "ERR00000012", ""),
        ("null = '0'", "0", ""),
        ("check_digit = 'luhn'", "79927398713", "79927398713"),
        ("check_digit = 'luhn'", "79927398714", ""),
        ("check_digit = 'luhn'\ndrop_check_digit = true", "79927398713", "7992739871"),
    ],
)
def test_specimen_ids_are_read_by_the_analyzers_rules(rule: str, raw: str, read: str) -> None:
    chosen = driver(f"[specimen_id]\n{rule}\n")
    message = lis2(chosen, "R|1|^^^X|1|||||F", order=f"O|1|  {raw}  ||^^^X|R")
    assert message.specimens[0].specimen_id == (read or None)


def test_a_wrong_check_digit_is_said() -> None:
    message = lis2(driver("[specimen_id]\ncheck_digit = 'mod10'\n"), "R|1|^^^X|1", order="O|1|1234||^^^X")
    assert [problem.text for problem in message.problems] == ["the check digit of the specimen id is wrong"]


@pytest.mark.parametrize(
    ("rule", "text", "digit"),
    [
        # The examples of ISO/IEC 7812, of GS1's general specifications, of Code 39 and of ISBT 128.
        (CheckDigit.LUHN, "7992739871", "3"),
        (CheckDigit.MOD10, "629104150021", "3"),
        (CheckDigit.MOD43, "159AZ", "H"),
        (CheckDigit.MOD37_2, "G123498654321", "H"),
        (CheckDigit.MOD37_2, "0", "1"),
        (CheckDigit.MOD16, "12345", "1"),
        (CheckDigit.LUHN, "12A", ""),
    ],
)
def test_check_characters_are_the_symbologies_own(rule: CheckDigit, text: str, digit: str) -> None:
    assert check_character(rule, text) == digit


def test_without_a_rule_only_blanks_are_taken_off() -> None:
    assert SpecimenIdRule().read("  0012-B ") == "0012-B"


# ---- whose a specimen is --------------------------------------------------------------------------------------------


def test_a_role_may_need_several_conditions_and_a_rule_that_says_patient_is_final() -> None:
    chosen = driver(
        """
[[role]]
role = "qc"
when = [{path = "INV-3.1", equals = "CO"}, {path = "SPM-11.1", equals = "Q"}]
[[role]]
role = "patient"
path = "SPM-11.1"
equals = "Q"
""",
        HL7,
    )
    control = ("SPM|1|C-1|||||||||Q", "SAC|||C-1", "INV|Neg|OK|CO^^HL70384", "OBR|1", "OBX|1|NM|X||1||||||F")
    patient = ("SPM|1|S-1|||||||||Q", "SAC|||S-1", "OBR|1", "OBX|1|NM|X||1||||||F")
    calibrator = ("SPM|1|K-1|||||||||C", "SAC|||K-1", "OBR|1", "OBX|1|NM|X||1||||||F")
    roles = [specimen.role for one in (control, patient, calibrator) for specimen in hl7(chosen, *one).specimens]
    assert roles == [SpecimenRole.QC, SpecimenRole.PATIENT, SpecimenRole.CALIBRATOR]


def test_a_role_may_hang_on_a_comment_and_on_what_is_not_so() -> None:
    chosen = driver(
        """
[[role]]
role = "qc"
when = [{path = "C.4.1", pattern = "^QC"}, {path = "P.6.1", equals = "", not = true}]
"""
    )
    with_name = "H|\\^&|||ACME\rP|1||||{}\rO|1|S-1\rC|1|I|QC level 2\rR|1|^^^X|1|||||F\rL|1|N\r"
    said = [registry.decode(chosen, with_name.format(name).encode()).specimens[0] for name in ("CONTROL", "")]
    assert [one.role for one in said] == [SpecimenRole.QC, SpecimenRole.PATIENT]
    assert said[0].comments == ("QC level 2",)


# ---- values ---------------------------------------------------------------------------------------------------------

CALL = """
[paths]
call = "R.4.1"
value = "R.4.2"
[value]
failed_words = ["NO RESULT GIVEN"]
quantified_calls = ["DETECTED"]
"""


@pytest.mark.parametrize(
    ("field", "kind", "text", "comments"),
    [
        ("NOT DETECTED^", ValueKind.TEXT, "NOT DETECTED", ()),
        ("^38.4", ValueKind.NUMERIC, "38.4", ()),
        ("DETECTED^1200", ValueKind.NUMERIC, "1200", ("DETECTED",)),
        ("NOT DETECTED^0", ValueKind.TEXT, "NOT DETECTED", ("0",)),  # the number would be no result
        ("INVALID^12.0", ValueKind.FAILED, "INVALID", ("12.0",)),
        ("NO RESULT GIVEN^0", ValueKind.FAILED, "NO RESULT GIVEN", ("0",)),
        ("DETECTED^----", ValueKind.FAILED, "----", ("DETECTED",)),
        ("^", ValueKind.EMPTY, "", ()),
    ],
)
def test_a_call_beside_a_number(field: str, kind: ValueKind, text: str, comments: tuple[str, ...]) -> None:
    (one,) = results(lis2(driver(CALL), f"R|1|^^^X|{field}|||||F"))
    assert (one.value.kind, one.value.text, one.comments, one.raw_value) == (kind, text, comments, field)
    assert (HoldReason.RUN_FAILED in one.holds) is (kind is ValueKind.FAILED)


def test_a_comparator_may_be_the_call() -> None:
    (one,) = results(lis2(driver(CALL), "R|1|^^^X|<^40|||||F"))
    assert (one.value.number, one.value.comparator) == (Decimal(40), Comparator.LT)


def test_the_outcome_may_stand_in_another_field_where_the_value_says_nothing() -> None:
    chosen = driver(
        "[paths]\nvalue = ['OBX-5', 'OBX-8.1']\n[value]\nempty_words = 'ValueNotSet'\nfailed_words = 'Invalid'\n", HL7
    )
    message = hl7(
        chosen, "SPM|1|S-1", "OBR|1", "OBX|1|ST|T1||ValueNotSet|||NEG|||F", "OBX|2|ST|T2||ValueNotSet|||Invalid|||F",
        "OBX|3|ST|T3||ValueNotSet||||||F", "OBX|4|ST|T4||< Titer min|||X|||F",
    )  # fmt: skip
    assert [(one.value.kind, one.value.text) for one in results(message)] == [
        (ValueKind.TEXT, "NEG"),
        (ValueKind.FAILED, "Invalid"),
        (ValueKind.EMPTY, ""),
        (ValueKind.TEXT, "< Titer min"),
    ]


def test_marks_on_a_number_are_flags_and_patterns_take_a_field_apart() -> None:
    chosen = driver(
        """"?" = "hold:questionable"
H = "H"
[value]
marks = ["?"]
exponent = true
pattern = ['(?P<value>[0-9.E+]+) (?P<unit>cp/mL)', '(?P<value>[0-9.]+)(?P<flags>[HL])']
"""
    )
    marked, copies, high, words = results(
        lis2(
            chosen, "R|1|^^^pH|?7.412|||||F", "R|2|^^^HIV|3.26E+05 cp/mL|||||F", "R|3|^^^K|5.9H|||||F",
            "R|4|^^^X|?unclear|||||F",
        )
    )  # fmt: skip
    assert (marked.value.text, marked.flags, marked.holds) == ("7.412", ("?",), (HoldReason.QUESTIONABLE,))
    assert (copies.value.number, copies.unit) == (Decimal(326000), "cp/mL")
    assert (high.value.text, high.flags, high.holds) == ("5.9", ("H",), ())
    assert words.value.kind is ValueKind.TEXT


def test_off_scale_may_be_a_flag_and_groups_of_digits_are_read_only_where_said() -> None:
    chosen = driver("'<' = '<'\n[value]\nthousands = ','\n[value.limits]\n'<' = '<'\n")
    below, large, odd = results(
        lis2(chosen, "R|1|^^^X|0.02|||<||F", "R|2|^^^Y|1,234,567.5|||||F", "R|3|^^^Z|12,34|||||F")
    )
    assert (below.value.text, below.value.comparator) == ("0.02", Comparator.LT)
    assert large.value.number == Decimal("1234567.5")
    assert odd.value.kind is ValueKind.TEXT
    assert results(lis2(driver(""), "R|1|^^^Y|1,234|||||F"))[0].value.kind is ValueKind.TEXT


def test_failed_words_add_to_the_known_ones_and_can_be_taken_back() -> None:
    chosen = driver("[value]\nfailed_words = 'abgebrochen'\nnot_failed = '++++'\n")
    kinds = [
        one.value.kind
        for one in results(
            lis2(chosen, *(f"R|1|^^^X|{v}|||||F" for v in ("Abgebrochen", "ERROR", "----", "++++", "12")))
        )
    ]
    assert kinds == [ValueKind.FAILED] * 3 + [ValueKind.TEXT, ValueKind.NUMERIC]


# ---- flags, alarms, holds, units, pictures --------------------------------------------------------------------------


def test_flags_in_one_place_are_taken_apart() -> None:
    separated = driver("H = 'H'\nD = 'hold:questionable'\n[value]\nflag_separator = ','\n")
    (one,) = results(lis2(separated, "R|1|^^^X|1|||H, D||F"))
    assert (one.flags, one.holds) == (("H", "D"), (HoldReason.QUESTIONABLE,))
    wide = driver("H = 'H'\n[value]\nflag_width = 1\n")
    assert results(lis2(wide, "R|1|^^^X|1|||HZ||F"))[0].holds == (HoldReason.UNKNOWN_FLAG,)


def test_a_condition_holds_a_result_and_a_failed_run_takes_its_value_away() -> None:
    chosen = driver(
        """
[[hold]]
reason = "run_failed"
path = "C.4.1"
equals = "Error"
[[hold]]
reason = "questionable"
path = "R.8"
pattern = "^diluted"
"""
    )
    failed, doubted, good = results(
        lis2(
            chosen, "R|1|^^^X|NEG|||||F", "C|1|I|Error^2096", "R|2|^^^Y|5||||diluted|F", "R|3|^^^Z|5|||||F",
            "C|1|I|fine",
        )
    )  # fmt: skip
    assert (failed.value.kind, failed.holds) == (ValueKind.FAILED, (HoldReason.RUN_FAILED,))
    assert doubted.holds == (HoldReason.QUESTIONABLE,)
    assert good.holds == ()


def test_alarms_have_their_own_table_in_both_protocols() -> None:
    sent = "0", "I7", "43", "99", "N1"
    rule = "[alarm]\npath = '{}'\nknown = '0'\nknown_pattern = 'I[0-9]'\nremark_pattern = 'N.*'\n"
    rule += "[alarm.holds]\n43 = 'run_failed'\n"
    said = results(lis2(driver(rule.format("C.4.1")), *(f"R|1|^^^X|1|||||F\rC|1|I|{alarm}" for alarm in sent)))
    held = [(), (), (HoldReason.RUN_FAILED,), (HoldReason.UNKNOWN_FLAG,), ()]
    words = [(), (), ("43",), ("99",), ("N1",)]
    assert [(one.holds, one.comments) for one in said] == list(zip(held, words, strict=True))
    chosen = driver(rule.format("NTE-3.1"), HL7)
    each = (f"OBX|1|NM|X||1||||||F\rNTE|1||{alarm}" for alarm in sent)
    said = results(hl7(chosen, "SPM|1|S-1", "OBR|1", *each))
    assert [(one.holds, one.comments) for one in said] == list(zip(held, words, strict=True))


def test_a_unit_means_what_the_driver_says_and_is_shown_as_sent() -> None:
    chosen = driver("[units]\n'Percnt' = '%'\nC = ''\n")
    percent, none, other = results(lis2(chosen, "R|1|^^^X|1|Percnt||||F", "R|2|^^^Y|1|C||||F", "R|3|^^^Z|1|g/L||||F"))
    assert [(one.unit, one.ucum) for one in (percent, none, other)] == [("Percnt", "%"), ("C", ""), ("g/L", None)]


def test_curves_in_manufacturer_records_are_kept_as_attachments() -> None:
    chosen = driver(
        """
[[attachment]]
record = "M"
name = "M.4"
data = "M.6.2"
media_type = "application/octet-stream"
when = [{path = "M.3", equals = ["HISTOGRAM", "MATRIX"]}]
"""
    )
    message = lis2(
        chosen, "M|1|HISTOGRAM|RBC|Along|deflate^AAAA", "M|2|REAGENT|x|y|z^q", "R|1|^^^X|1|||||F",
        "M|1|MATRIX|LMNE||deflate^BBBB",
    )  # fmt: skip
    (specimen,) = message.specimens
    assert [(one.name, one.data, one.location) for one in specimen.attachments] == [
        ("RBC", "AAAA", "M 1"),
        ("LMNE", "BBBB", "M 3"),
    ]
    assert not message.problems


def test_a_query_may_be_taken_back() -> None:
    chosen = driver("[query]\nstatus = 'Q.13'\ncancels = 'A'\n")
    text = "H|\\^&|||ACME\rQ|1|^S-1||ALL||||||||{}\rL|1|N\r"
    said = [registry.decode(chosen, text.format(status).encode()) for status in ("O", "A")]
    assert [one.queries[0].cancels for one in said] == [False, True]


def test_what_an_analyzer_lacks_and_what_nobody_verified_is_said() -> None:
    chosen = parse_manifest(
        LIS2.replace('title = "Acme One"', 'title = "Acme One"\nlacks = ["query"]\nunverified = ["the units"]'), "x"
    )
    assert chosen.lacks == frozenset({Feature.QUERY})
    assert chosen.unverified == ("the units",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[paths]\ncode = 'R.3.4 + X9'", "paths.code: 'X9' is not a field path"),
        ("[specimen_id]\ncheck_digit = 'mod99'", "specimen_id.check_digit: 'mod99' is not one of"),
        ("[specimen_id]\nmust_match = true", "specimen_id: must_match needs a pattern"),
        ("[specimen_id]\npart = 2", "specimen_id: part needs a separator"),
        ("[[codes]]\n[codes.list]\nA = 'a'", "codes[0].source: is missing"),
        (
            "[[codes]]\nsource = 'm'\nlist = {A = 'a'}\n[[codes]]\nsource = 'n'\nlist = {A = 'b'}",
            "list.A: stands twice",
        ),
        ("[[codes]]\nsource = 'm'\nkind = 'odd'", "codes[0].kind: 'odd' is not one of"),
        ("[units]\nx = 'fortnight'", "units.x"),
        ("[[hold]]\nreason = 'tired'\npath = 'R.8'\nequals = 'x'", "hold[0].reason: 'tired' is not one of"),
        ("[[hold]]\nreason = 'questionable'", "hold[0].path: is missing"),
        ("[[classify]]\nkind = 'detail'\nwhen = [{path = 'R.3.4'}]", "classify[0].when[0]: needs equals, pattern"),
        ("[[attachment]]\nrecord = 'R'\nname = 'R.1'\ndata = 'R.2'", "attachment[0]: record is M or C"),
        ("[value]\npattern = '([0-9]+)'", "value.pattern: needs the group value"),
        ("[value.limits]\n'<' = 'less'", "value.limits.<: 'less' is not one of"),
        ("[query]\nstatus = []", "query: status and cancels come together"),
    ],
)
def test_each_mistake_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(DriverError) as caught:
        driver(text + "\n")
    assert said in str(caught.value)


def test_a_failed_run_stays_failed_whatever_kind_its_code_is() -> None:
    chosen = driver("[[codes]]\nsource = 'm'\nkind = 'text'\nlist = {ABO = 'Group'}\n")
    failed, words = results(lis2(chosen, "R|1|^^^ABO|INVALID|||||F", "R|2|^^^ABO|3|||||F"))
    assert (failed.value.kind, failed.holds) == (ValueKind.FAILED, (HoldReason.RUN_FAILED,))
    assert words.value.kind is ValueKind.TEXT


def test_the_key_of_a_composite_code_has_all_its_fields() -> None:
    chosen = driver("[paths]\ncode = 'R.3.4 + O.3.2'\nspecimen_id = 'O.3.1'\n")
    one, two = (lis2(chosen, "R|1|^^^ID|E. coli|||||F", order=f"O|1|S-1^{isolate}||^^^ID") for isolate in "12")
    assert results(one)[0].code == "ID/1"
    assert results(one)[0].code_path != results(two)[0].code_path


def test_a_time_may_stand_in_a_segment_beside_the_results() -> None:
    chosen = driver("[paths]\ninstrument_time = 'TQ1-8'\n", HL7)
    message = hl7(chosen, "OBR|1|||X", "TQ1|||||||20260105|20260106", "OBX|1|NM|X||1||||||F")
    assert results(message)[0].instrument_time == "20260106"


FIXED = """
[driver]
id = "acme_fixed"
revision = "1"
protocol = "declared"
tier = "simulated"
title = "Acme fixed"
document = "Acme"
[match]
text = '^[DR]'
[framing.block]
start = "<STX>"
end = "<ETX>"
[status]
"" = "ok"
[flags]
"" = ""
"0" = ""
"1" = "hold:questionable"
[record]
kind = "fixed"
types = ["D"]
query_types = ["R"]
{more}
[record.fields]
type = "1"
specimen_id = "2-5"
[[record.result]]
code = "1-2"
value = "3-6"
flags = "7"
scale = "=-1"
"""


def test_results_may_repeat_to_the_end_of_a_record_with_their_point_implied() -> None:
    chosen = parse_manifest(FIXED.replace("{more}", "repeat = {at = 6, width = 7}"), "driver.toml")
    message = registry.decode(chosen, b"DS-1 0100430" + b"02----1" + b"0312.50")
    first, failed, pointed = results(message)
    assert (first.code, first.value.text, first.value.number, first.holds) == ("01", "4.3", Decimal("4.3"), ())
    assert failed.holds == (HoldReason.RUN_FAILED, HoldReason.QUESTIONABLE)
    assert pointed.value.kind is ValueKind.TEXT, "a point of its own: what the digits mean is not known"
    cut = registry.decode(chosen, b"DS-1 010043002004")
    assert [one.holds for one in results(cut)][1] == (HoldReason.UNREADABLE_VALUE,)
    assert cut.problems


def test_a_record_of_ones_own_may_ask_for_work_and_lines_may_be_unfolded() -> None:
    chosen = parse_manifest(FIXED.replace("{more}", "unfold = true\nrepeat = {at = 6, width = 7}"), "driver.toml")
    asked = registry.decode(chosen, b"RS-1 ")
    assert (asked.message_type, asked.queries[0].specimen_ids, asked.specimens) == ("query", ("S-1",), ())
    folded = registry.decode(chosen, b"DS-1 \r0100430\r0200500\r\n")
    assert [one.value.text for one in results(folded)] == ["4.3", "5.0"]


def test_an_alarm_stands_in_a_comment() -> None:
    """A segment of the vendor's below an OBR was one of the first result that said so only: what came again with one
    was not held."""
    with pytest.raises(DriverError, match="nothing is looked for in ZAL"):
        driver("[alarm]\npath = 'ZAL-2'\n", HL7)
