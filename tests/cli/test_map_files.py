"""`labora map import`, `export`, `apply`, `lint`: files in and out, all of a file or nothing of it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from fhir.resources.R4B.conceptmap import ConceptMap

from interface.render.map_table import LIVD_COLUMNS, LIVD_SHEET
from interface.render.sheet import write_sheet
from interface.store import catalogue
from tests.cli.workbench import Workbench

DRIVER = ("--driver", "generic_lis2")
GLU, GLU_SI, CREA = "2345-7", "14749-6", "2160-0"


def livd(*rows: tuple[str, ...], columns: Sequence[str] = ("Vendor Analyte Code", "LOINC Code")) -> list[list[str]]:
    """A LIVD sheet of one analyzer, with these columns' values."""
    made = []
    for row in rows:
        said = {"Manufacturer": "Acme", "Model": "One"} | dict(zip(columns, row, strict=True))
        made.append([said.get(column, "") for column in LIVD_COLUMNS])
    return [list(LIVD_COLUMNS), *made]


def tabbed(rows: list[list[str]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


SPECIMENS = ("Vendor Analyte Code", "LOINC Code", "Vendor Specimen Description", "Vendor Result Description")


# ---- the laboratory's own CSV


async def test_a_csv_file_is_mapped_as_one_change(bench: Workbench) -> None:
    file = bench.file(
        "own.csv",
        "driver,link,code,specimen_type,test,loinc,unit,valid_from,valid_to,note\n"
        "generic_lis2,,A1,SER,GLU,2345-7,,,,\n"
        ",second,A2,,CREA,,mg/dL,2026-01-01,2099-01-01T00:00+01:00,letter\n"
        "generic_lis2,,A3,,-,,,,,\n",
    )
    said = await bench.change("import", file, "--yes")
    assert "change 1: 3 rows added, 0 ended" in said.err
    assert await bench.rows() == [("", "A1", "SER", "GLU"), ("", "A3", "", ""), ("second", "A2", "", "CREA")]
    row = (await bench.run("map", "list", "--code", "A2", "--json")).json[0]
    assert (row["unit"], row["note"]) == ("mg/dL", "letter")
    assert (row["valid_from"], row["valid_to"]) == ("2026-01-01T00:00:00Z", "2098-12-31T23:00:00Z")
    await bench.change("undo", "1")
    assert await bench.rows() == []


async def test_every_broken_row_is_named_and_nothing_is_applied(bench: Workbench) -> None:
    file = bench.file(
        "own.csv",
        "code,test,loinc,unit,valid_from,valid_to\n"
        "OK,GLU,,,,\n"
        "B1,NOTEST,,,,\n"
        '"B2\nover two lines",GLU,2345-8,,,\n'
        "B3,GLU,,U/L,,\n"
        "B4,GLU,,,yesterday,\n"
        ",GLU,,,,\n"
        "B5,,,,,\n"
        "B6,GLU,2160-0,,,\n"
        "B7,GLU,,,2026-02-01,2026-01-01\n"
        "B8,GLU,,,,,too many\n"
        "OK,UA,,,,\n",
    )
    err = await bench.refused("import", file, *DRIVER, "--yes")
    said = [line.removeprefix("labora: ").removeprefix(file) for line in err.splitlines()]
    assert said == [
        ":3: test: there is no test 'NOTEST'",
        ":4: code: has a character that cannot be printed",
        ":4: loinc: '2345-8' is no LOINC code: form or check digit",
        ":6: unit: U/L cannot be converted to the mg/dL of GLU",
        ":7: valid_from: 'yesterday' is no date (2026-01-31, 2026-01-31T08:00+02:00)",
        ":8: code: is empty",
        ":9: test: is empty; - says that the code is to be held",
        ":10: loinc: GLU is 2345-7",
        ":11: valid_to: is not after valid_from",
        ":12: has more fields than there are headings",
        "nothing was changed",
    ]
    assert await bench.rows() == []
    in_json = await bench.run("map", "import", file, *DRIVER, "--yes", "--json", "--as", "ada", "--reason", "x")
    assert (in_json.status, in_json.json["applied"], len(in_json.json["faults"])) == (1, False, 10)
    assert in_json.json["faults"][0] == {"file": file, "line": 3, "field": "test", "text": "there is no test 'NOTEST'"}


async def test_two_rows_for_the_same_time_are_a_fault(bench: Workbench) -> None:
    file = bench.file("own.csv", "code,test\nOK,GLU\nOK,UA\n")
    assert f"{file}:3: code: is there twice for the same time: also in line 2" in await bench.refused(
        "import", file, *DRIVER, "--yes"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("code,test,colour\nA,GLU,red\n", ":1: colour: is no column of a map"),
        ("name,value\nA,GLU\n", ":1: has no headings of a map"),
        ("code,test,test\nA,GLU,CREA\n", ":1: test: stands in two columns"),
        ("Vendor Analyte Code,LOINC Code,LOINC Code\nA,2345-7,\n", ":1: LOINC Code: stands in two columns"),
        ("", ": has no headings of a map"),
        ('code,test\n"A,GLU\n', ":2: is not CSV"),
        ("code,test\nA,GLU\n", ": driver: say which driver or link"),
        (b"code,test\nA,GL\xdc\n", ":2: is not UTF-8 text"),
        (b"PK\x03\x04 and no more", ": it is no spreadsheet that can be read"),
        ('{"resourceType": "Patient"}', ":1: resourceType: is neither ConceptMap nor Bundle"),
        ('{"resourceType":\n "ConceptMap",}', ":2: is not JSON"),
        ('{"resourceType": "ConceptMap", "group": [7]}', ": ConceptMap: is not as FHIR R4 has it"),
    ],
)
async def test_what_is_no_map_is_refused_with_the_place(bench: Workbench, text: str | bytes, said: str) -> None:
    file = bench.file("map.csv", text)
    assert said in (await bench.refused("import", file, "--yes")).replace(file, "")


# ---- a vendor's LIVD file


@pytest.mark.parametrize("kind", ["sheet", "tabs"])
async def test_a_livd_sheet_is_mapped_by_its_loinc_codes_and_specimens(bench: Workbench, kind: str) -> None:
    rows = livd(
        ("8717", GLU, "Serum or Plasma", "mg/dL"), ("690", CREA, "Ser/Plas", ""), ("999", "718-7", "Blood", ""),
        columns=SPECIMENS,
    )  # fmt: skip
    above = [["Acme LIVD publication"], [], *rows]
    data: str | bytes = write_sheet(LIVD_SHEET, above) if kind == "sheet" else tabbed(rows)
    await bench.change("import", bench.file("acme.xlsx" if kind == "sheet" else "acme.tsv", data), *DRIVER, "--yes")
    assert await bench.rows() == [
        ("", "690", "PLAS", "CREA"), ("", "690", "SER", "CREA"), ("", "8717", "PLAS", "GLU"),
        ("", "8717", "SER", "GLU"), ("", "999", "BLD", "HGB"),
    ]  # fmt: skip


async def test_the_catalogue_of_cdc_has_other_headings_and_lines_in_its_cells(bench: Workbench) -> None:
    text = (
        "Manufacturer,Model,Vendor Analyte Name,Vendor Specimen Description,Test Performed LOINC® Code,"
        "Test Ordered LOINC Code,Vendor Analyte Code\n"
        f'Acme,One,Glucose,"Serum\nPlasma",{GLU},24356-8,GL\n'
    )
    await bench.change("import", bench.file("cdc.csv", text), *DRIVER, "--yes")
    assert await bench.rows() == [("", "GL", "PLAS", "GLU"), ("", "GL", "SER", "GLU")]


async def test_what_cannot_be_taken_without_guessing_is_left_out_and_said(bench: Workbench) -> None:
    rows = livd(
        ("1", GLU, "Serum", "mg/dL"),
        ("1", GLU_SI, "Serum", "mmol/L"),
        ("2", "90370-8", "Serum", ""),
        ("3", CREA, "Aqueous humour", ""),
        ("", CREA, "Serum", ""),
        ("5", "", "Serum", ""),
        ("6", CREA, "Serum", "mmol/mol"),
        ("7", CREA, "Serum", "mg/dL"),
        columns=SPECIMENS,
    )
    file = bench.file("acme.tsv", tabbed(rows))
    said = await bench.change("import", file, *DRIVER, "--yes")
    assert await bench.rows() == [("", "7", "SER", "CREA")]
    left = [line.removeprefix(f"left out: {file}:") for line in said.err.splitlines() if line.startswith("left out")]
    assert sorted(left) == [
        "2: 1: 2 tests are possible on SER: GLU (line 2, mg/dL), GLU_SI (line 3, mmol/L); --unit or map set chooses",
        "4: 2: no test has 90370-8",
        "5: 3: the specimen 'Aqueous humour' is not known; say --specimen 'Aqueous humour'=TYPE",
        "6: : the row has no code of the analyzer's",
        "7: 5: the row has no LOINC code",
        "8: 6: mmol/mol cannot be converted to the mg/dL of CREA",
    ]
    chosen = ("--unit", "mmol/L", "--specimen", "aqueous humour=CSF")
    await bench.change("import", file, *DRIVER, "--yes", *chosen)
    assert await bench.rows() == [("", "1", "SER", "GLU_SI"), ("", "3", "CSF", "CREA"), ("", "7", "SER", "CREA")]


async def test_a_broken_loinc_code_in_a_vendors_file_stops_all_of_it(bench: Workbench) -> None:
    rows = livd(("1", GLU), ("2", "2160-1"), ("3", "creatinine"))
    file = bench.file("acme.xlsx", write_sheet(LIVD_SHEET, rows))
    err = await bench.refused("import", file, *DRIVER, "--yes")
    assert f"{file}:3: LOINC Code: '2160-1' is no LOINC code: form or check digit" in err
    assert f"{file}:4: LOINC Code: 'creatinine' is no LOINC code: form or check digit" in err
    assert await bench.rows() == []


async def test_of_a_file_of_several_models_one_must_be_chosen(bench: Workbench) -> None:
    columns = ("Vendor Analyte Code", "LOINC Code", "Model")
    file = bench.file("acme.tsv", tabbed(livd(("1", GLU, "One"), ("2", CREA, "Two"), columns=columns)))
    assert "the file is of several models, say which with --model: One, Two" in await bench.refused(
        "import", file, *DRIVER, "--yes"
    )
    assert (
        "model: no row is of this model; the file has One, Two".casefold()
        in (await bench.refused("import", file, *DRIVER, "--model", "Three", "--yes")).casefold()
    )
    await bench.change("import", file, *DRIVER, "--yes", "--model", "two", "--any-specimen")
    assert await bench.rows() == [("", "2", "", "CREA")]


def bundle(*elements: tuple[str, str, list[tuple[str, str]]]) -> str:
    """A LIVD Bundle: the analyzer's code, LOINC code, and what the target depends on."""
    definitions = [
        {"resource": {"resourceType": "ObservationDefinition", "id": f"id-{code}",
                      "code": {"coding": [{"system": "urn:acme", "code": code, "display": f"Test {code}"}]}}}
        for code in dict.fromkeys(code for code, _, _ in elements)
    ]  # fmt: skip
    mapped = [
        {"code": f"id-{code}", "display": f"Test {code}",
         "target": [{"code": loinc, "display": "x", "equivalence": "equivalent",
                     "dependsOn": [{"property": name, "value": value} for name, value in needs]}]}
        for code, loinc, needs in elements
    ]  # fmt: skip
    concept_map = {"resourceType": "ConceptMap", "status": "active", "group": [{"element": mapped}]}
    whole = {"resourceType": "Bundle", "type": "collection", "entry": [*definitions, {"resource": concept_map}]}
    return json.dumps(whole, indent=1)


async def test_a_livd_bundle_says_its_codes_by_its_observation_definitions(bench: Workbench) -> None:
    text = bundle(
        ("1069", GLU, [("specimen", "Serum/Plasma"), ("result", "mg/dL")]), ("1070", CREA, [("specimen", "Urine")])
    )
    await bench.change("import", bench.file("livd.json", text), *DRIVER, "--yes")
    assert await bench.rows() == [
        ("", "1069", "PLAS", "GLU"), ("", "1069", "SER", "GLU"), ("", "1070", "UR", "CREA"),
    ]  # fmt: skip


async def test_a_fault_in_a_bundle_is_told_by_line_and_path(bench: Workbench) -> None:
    text = bundle(("1069", GLU, []), ("1070", "2160-1", []))
    lines = text.splitlines()
    at = next(n for n, line in enumerate(lines, 1) if '"2160-1"' in line)
    file = bench.file("livd.json", text)
    err = await bench.refused("import", file, *DRIVER, "--yes")
    path = "Bundle.entry[2].resource.group[0].element[1].target[0].code"
    assert f"{file}:{at - 1}: {path}: '2160-1' is no LOINC code" in err
    broken = bench.file("broken.json", text.replace('"code": "id-1070"', '"code": "elsewhere"'))
    assert "element[1].code: the bundle has no ObservationDefinition 'elsewhere'" in await bench.refused(
        "import", broken, *DRIVER, "--yes"
    )


async def test_only_equivalent_targets_of_a_concept_map_are_taken(bench: Workbench) -> None:
    elements = [
        {"code": code, "target": [{"code": loinc, "equivalence": said}]}
        for code, loinc, said in (("A", GLU, "equivalent"), ("B", CREA, "wider"), ("C", CREA, "equal"))
    ]
    resource = {
        "resourceType": "ConceptMap",
        "group": [{"source": "urn:acme", "target": "http://loinc.org", "element": elements}],
    }
    said = await bench.change("import", bench.file("map.json", json.dumps(resource)), *DRIVER, "--yes")
    assert "B: the equivalence is wider, not equivalent" in said.err
    assert await bench.rows() == [("", "A", "", "GLU"), ("", "C", "", "CREA")]


# ---- out and in again


async def fill(bench: Workbench) -> None:
    await bench.change("set", "A1", "GLU", *DRIVER, "--specimen-type", "SER", "--note", "by letter")
    await bench.change("set", "A2", "GLU_SI", *DRIVER, "--specimen-type", "SER", "--unit", "mmol/L",
                       "--method", "hexokinase,  automated")  # fmt: skip
    await bench.change("set", "A2", "CREA", *DRIVER, "--from", "2099-01-01", "--until", "2099-02-01")
    await bench.change("set", "A3", "-", "--link", "bench")
    await bench.change("set", "A4", "UA", "--link", "bench", "--method", "uricase")


ALIKE = ("driver", "link", "code", "specimen_type", "test", "unit", "method", "valid_from", "valid_to", "note")


async def alike(bench: Workbench) -> list[list[object]]:
    listed = (await bench.run("map", "list", "--site", "--json")).json
    return [[row[name] for name in ALIKE] for row in listed]


@pytest.mark.parametrize(("form", "suffix"), [("csv", "csv"), ("conceptmap", "json")])
async def test_what_is_exported_comes_back_as_it_went(bench: Workbench, form: str, suffix: str) -> None:
    await fill(bench)
    before = await alike(bench)
    assert {row[6] for row in before} == {"", "hexokinase, automated", "uricase"}
    out = bench.folder / f"maps.{suffix}"
    answer = await bench.run("map", "export", "--site", "--format", form, "--output", str(out))
    assert (answer.status, answer.out) == (0, "")
    assert "LOINC license" in answer.err
    if form == "conceptmap":
        ConceptMap.model_validate_json(out.read_bytes())
    assert "there is nothing to change" in (await bench.change("import", str(out), "--yes")).err
    for number in range(5, 0, -1):
        await bench.change("undo", str(number))
    assert await alike(bench) == []
    await bench.change("import", str(out), "--yes")
    assert await alike(bench) == before


async def test_the_livd_exports_are_read_as_livd(bench: Workbench) -> None:
    await fill(bench)
    answer = await bench.run("map", "export", "--format", "livd", *DRIVER)
    exported = json.loads(answer.out)
    kinds = [entry["resource"]["resourceType"] for entry in exported["entry"]]
    assert kinds[:2] == ["Composition", "DeviceDefinition"]
    assert {"ObservationDefinition", "ConceptMap", "ValueSet"} <= set(kinds)
    assert "LOINC is copyright" in answer.out
    from fhir.resources.R4B import get_fhir_model_class

    for resource in (exported, *(entry["resource"] for entry in exported["entry"])):
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    sheet = bench.folder / "livd.xlsx"
    assert (await bench.run("map", "export", "--format", "livd-xlsx", *DRIVER, "--output", str(sheet))).status == 0
    for file in (bench.file("livd.json", answer.out), str(sheet)):
        said = await bench.run("map", "import", file, "--link", "second", "--dry-run", "--json")
        wanted = {(one["code"], one["specimen_type"]): one["after"][0]["test"] for one in said.json["difference"]}
        assert (wanted["A1", "SER"], wanted["HGB", ""], wanted["A2", "SER"]) == ("GLU", "HGB", "GLU_SI")
        assert ("A3", "") not in wanted


async def test_livd_is_of_one_analyzer(bench: Workbench) -> None:
    assert (await bench.run("map", "export", "--format", "livd")).status == 2


# ---- a folder as a plan


def plan(bench: Workbench, *files: tuple[str, str]) -> str:
    folder = bench.folder / "plan"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, text in files:
        (folder / name).write_text(text)
    return str(folder)


TOML = """# our own
driver = "generic_lis2"
codes = [
  {code = "A1", test = "GLU", specimen_type = "SER"},
  {code = "A2", test = "CREA", valid_to = 2099-01-01T00:00:00Z},
  {code = "A3", test = "-", note = "never released"},
]
"""


async def test_a_folder_is_the_whole_truth_for_what_it_names(bench: Workbench) -> None:
    await bench.change("set", "A1", "UA", *DRIVER, "--specimen-type", "SER")
    await bench.change("set", "OLD", "UA", *DRIVER)
    await bench.change("set", "KEPT", "UA", "--link", "bench")
    folder = plan(
        bench, ("lis2.toml", TOML), ("more.csv", "driver,code,test\ngeneric_lis2,A4,UA\n"), ("README.md", "x")
    )
    shown = await bench.run("map", "apply", folder, "--dry-run")
    assert sorted(shown.out.splitlines()) == [
        "+ generic_lis2 A2: CREA until 2099-01-01T00:00:00+00:00",
        "+ generic_lis2 A3: held",
        "+ generic_lis2 A4: UA",
        "- generic_lis2 OLD: UA → nothing",
        "~ generic_lis2 A1 on SER: UA → GLU",
    ]
    assert "codes: 3 add, 1 change, 1 remove" in shown.err
    before = await alike(bench)
    await bench.change("apply", folder, "--yes")
    assert await bench.rows() == [
        ("", "A1", "SER", "GLU"), ("", "A2", "", "CREA"), ("", "A3", "", ""), ("", "A4", "", "UA"),
        ("bench", "KEPT", "", "UA"),
    ]  # fmt: skip
    assert "there is nothing to change" in (await bench.change("apply", folder, "--yes")).err
    await bench.change("undo", "4")
    assert await alike(bench) == before


async def test_a_plan_with_a_fault_anywhere_applies_nothing(bench: Workbench) -> None:
    bad = TOML.replace('test = "CREA"', 'test = "KREA"')
    folder = plan(bench, ("a.toml", bad), ("b.csv", "driver,code,test\ngeneric_lis2,A4,UAX\n"), ("c.xls", "x"))
    err = await bench.refused("apply", folder, "--yes")
    assert f"{folder}/a.toml:5: codes[1].test: there is no test 'KREA'" in err
    assert f"{folder}/b.csv:2: test: there is no test 'UAX'" in err
    assert f"{folder}/c.xls: is no file of a plan" in err
    assert await bench.rows() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "driver = 'generic_lis2'\ncodes = [\n  {code = 'A', tset = 'GLU'},\n]\n",
            "a.toml:3: codes[0].tset: is no key of a row",
        ),
        (
            "driver = 'generic_lis2'\ncodes = [\n  {code = 7, test = 'GLU'},\n]\n",
            "a.toml:3: codes[0].code: is not text",
        ),
        ("colour = 'red'\n", "a.toml: colour: is no key of a map"),
        ("driver = 'x\n", "a.toml:1: is not TOML"),
    ],
)
async def test_a_plan_s_toml_is_as_strict_as_the_configuration(bench: Workbench, text: str, said: str) -> None:
    assert said in await bench.refused("apply", plan(bench, ("a.toml", text)), "--yes")


async def test_a_file_without_rows_removes_the_site_s_rows_of_its_driver(bench: Workbench) -> None:
    await bench.change("set", "A1", "UA", *DRIVER)
    await bench.change("apply", plan(bench, ("a.toml", 'driver = "generic_lis2"\n')), "--yes")
    assert await bench.rows() == []


async def test_a_failure_in_mid_write_leaves_nothing(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are written and then the audit row cannot be: all of the change must be gone."""
    from interface.store import audit

    async def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError("the disk is full")

    folder = plan(bench, ("a.toml", TOML))
    with monkeypatch.context() as patched:
        patched.setattr(audit, "record", fail)
        answer = await bench.run("map", "apply", folder, "--yes", "--as", "ada", "--reason", "x")
    assert answer.status == 1
    assert await bench.changes() == 0
    assert await bench.rows() == []


async def test_what_was_shown_is_not_applied_once_the_maps_have_changed(bench: Workbench) -> None:
    from interface.domain.mapping import MapKey, Target, Wanted
    from interface.flow import maps as flow
    from interface.store import maps

    lab = bench.laboratory
    wanted = [Wanted(MapKey("generic_lis2", "", "A1", ""), Target("GLU"))]
    async with lab.database.transaction(lab.organization_id) as connection:
        shown = await flow.propose_put(connection, wanted, await maps.basis(connection), "import")
    await bench.change("set", "A1", "UA", *DRIVER)
    with pytest.raises(flow.MapError, match="the maps have changed meanwhile"):
        async with lab.database.transaction(lab.organization_id) as connection:
            await flow.commit(connection, lab.director, shown, "because")


async def test_a_shipped_map_of_a_later_revision_comes_into_force_only_when_it_is_applied(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = catalogue.shipped_code_map("generic_lis2")
    assert shipped is not None
    codes = [one for one in shipped.codes if one.code != "MPV"]
    newer = catalogue.ShippedCodeMap(
        "generic_lis2", shipped.revision + 1, "test", (*codes, catalogue.ShippedCode("NEW", "GLU"))
    )
    monkeypatch.setattr("interface.flow.maps.shipped_code_map", lambda _driver: newer)
    assert (await bench.run("map", "list", "--code", "NEW", "--json")).json == []
    shown = await bench.run("map", "apply", "--shipped", "generic_lis2", "--dry-run")
    assert shown.out.splitlines() == ["- generic_lis2 MPV: MPV → nothing", "+ generic_lis2 NEW: GLU"]
    await bench.change("apply", "--shipped", "generic_lis2", "--yes")
    row = (await bench.run("map", "list", "--code", "NEW", "--json")).json[0]
    assert (row["origin"], row["revision"], row["change"]) == ("shipped", shipped.revision + 1, 1)
    await bench.change("undo", "1")
    assert (await bench.run("map", "list", "--code", "NEW", "--json")).json == []


# ---- lint


async def lint(bench: Workbench, *arguments: str) -> list[tuple[str, str, str]]:
    found = (await bench.run("map", "lint", "--json", *arguments)).json
    return [(one["severity"], one["check"], one["row"]) for one in found]


async def test_lint_finds_what_is_wrong_and_what_is_doubtful(bench: Workbench) -> None:
    owner = bench.laboratory.owner
    await bench.change("set", "A1", "ALP", *DRIVER)
    await bench.change("set", "A2", "ALP", *DRIVER)
    await bench.change("set", "A3", "GLU", "--driver", "sysmex_xn")
    await bench.change("set", "A4", "CREA", *DRIVER, "--specimen-type", "SAP")
    await bench.change("set", "A5", "UA", "--link", "second")
    await bench.change("set", "A6", "MG", *DRIVER)
    await bench.change("set", "A7", "MPV", *DRIVER)
    await owner.execute("update lab.test set loinc = '6768-7' where code = 'ALP'")
    await owner.execute("update lab.test set active = false where code = 'MG'")
    of_mpv = "test_id in (select id from lab.test where code = 'MPV')"
    await owner.execute(f"update lab.reference_interval set valid_to = now() where {of_mpv}")  # noqa: S608
    await owner.execute("update lab.link set driver = 'x' where name = 'second'")
    await owner.execute("update lab.test set unit = 'mmol/mol' where code = 'CREA'")
    found = await lint(bench)
    assert ("error", "loinc", "test ALP") in found
    assert ("error", "test", "generic_lis2 A6") in found
    assert ("warning", "several_codes", "generic_lis2 A1") in found
    assert ("warning", "unreachable", "sysmex_xn") in found
    assert ("warning", "specimen_type", "generic_lis2 A4 on SAP") in found
    assert ("warning", "no_interval", "test MPV") in found
    assert (await bench.run("map", "lint")).status == 1
    assert found == sorted(found, key=lambda one: one[0] != "error")


async def test_an_interval_for_a_method_that_nothing_says_is_found(bench: Workbench) -> None:
    """As one that is spelt otherwise: it would apply to no result, and nobody would see."""
    await bench.laboratory.owner.execute(
        "update lab.reference_interval set method = 'enzymatic' where test_id in"
        " (select id from lab.test where code = 'CREA')"
    )
    await bench.change("set", "C1", "CREA", *DRIVER, "--method", "enzymatc")
    assert ("warning", "method", "test CREA") in await lint(bench)
    await bench.change("set", "C1", "CREA", "--link", "second", "--method", "enzymatic")
    assert all(check != "method" for _, check, _ in await lint(bench))
    said = await bench.change("set", "C2", "CREA", *DRIVER)
    assert "[method]" not in said.out + said.err, "a row of another link says it"


async def test_several_codes_of_one_test_are_right_where_each_says_its_method(bench: Workbench) -> None:
    for code, method in (("C1", "Jaffe"), ("C2", "enzymatic")):
        await bench.change("set", code, "CREA", *DRIVER, "--method", method)
    assert all(check != "several_codes" for _, check, _ in await lint(bench))
    await bench.change("set", "C3", "CREA", *DRIVER, "--method", "Jaffe")
    assert ("warning", "several_codes", "generic_lis2 C1") in await lint(bench)


async def test_lint_judges_rows_by_the_units_that_were_sent(bench: Workbench) -> None:
    await bench.order("S1", "SER", "GLU")
    await bench.receive("S1", "A1|5.1|U/L")
    await bench.change("set", "A1", "GLU", *DRIVER)
    assert ("error", "unit", "generic_lis2 A1") in await lint(bench)
    await bench.change("set", "A1", "ALP", *DRIVER)
    assert ("error", "unit", "generic_lis2 A1") not in await lint(bench)


async def test_a_file_is_linted_as_if_it_were_applied_and_an_error_stops_an_import(bench: Workbench) -> None:
    await bench.order("S1", "SER", "GLU")
    await bench.receive("S1", "A1|5.1|U/L")
    file = bench.file("own.csv", "driver,code,test\ngeneric_lis2,A1,GLU\n")
    assert ("error", "unit", "generic_lis2 A1") in await lint(bench, file)
    err = await bench.refused("import", file, "--yes")
    assert "U/L as sent cannot be converted to the mg/dL of GLU: such results are held [unit]" in err
    await bench.change("import", file, "--yes", "--accept-errors")
    assert await bench.rows() == [("", "A1", "", "GLU")]
    assert (await bench.run("map", "lint", bench.file("bad.csv", "driver,code,test\nx,A1,GLU\n"))).status == 1


async def test_without_yes_nobody_is_asked_where_nobody_can_answer(bench: Workbench) -> None:
    file = bench.file("own.csv", "driver,code,test\ngeneric_lis2,A1,GLU\n")
    answer = await bench.run("map", "import", file, "--as", "ada", "--reason", "x")
    assert (answer.status, "--yes applies it" in answer.err) == (2, True)
    assert await bench.changes() == 0
