"""`scripts/bench maps`: 5,000 codes of a LIVD file, imported, linted and applied by the command as a person runs it.

Time and CPU of the whole process each, start, password and commit included: as a sheet (.xlsx), as tab-separated text
and as a FHIR Bundle; then taking it back, and the same file with one broken row. The database is a server of its own
that is removed at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interface.flow import passwords
from interface.render.map_table import LIVD_COLUMNS, LIVD_SHEET
from interface.render.sheet import write_sheet
from interface.store.actors import insert_user
from interface.store.catalogue import shipped_tests
from interface.store.migrate import upgrade
from interface.store.schema import APP_ROLE, OWNER_ROLE
from interface.telemetry import configure_logs
from tests.cluster import new_state_dir, with_database
from tests.flow.laboratory import laboratory

CODES, PASSWORD = 5000, "correct horse battery"
CONFIG = """
[[link]]
id = "bench"
organization = "{organization}"
driver = "generic_lis2"
transport = {{ type = "tcp-listen", listen = "127.0.0.1:4001" }}
"""


@contextmanager
def _folder() -> Iterator[Path]:
    path = new_state_dir(on_disk=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _table() -> list[list[str]]:
    """Codes of an analyzer that can do every test of the catalogue many times over."""
    loinc = [test.loinc for test in shipped_tests() if test.loinc]
    rows = []
    for number in range(CODES):
        said = {
            "Manufacturer": "Acme", "Model": "One", "Vendor Analyte Code": f"T{number:05}",
            "Vendor Analyte Name": f"Analyte {number}", "LOINC Code": loinc[number % len(loinc)],
        }  # fmt: skip
        rows.append([said.get(column, "") for column in LIVD_COLUMNS])
    return [list(LIVD_COLUMNS), *rows]


def _bundle(rows: list[list[str]]) -> str:
    at = {name: place for place, name in enumerate(rows[0])}
    definitions, elements = [], []
    for row in rows[1:]:
        code, name = row[at["Vendor Analyte Code"]], row[at["Vendor Analyte Name"]]
        coding = {"system": "urn:acme", "code": code, "display": name}
        definition = {"resourceType": "ObservationDefinition", "id": f"id-{code}", "code": {"coding": [coding]}}
        definitions.append({"resource": definition})
        target = {"code": row[at["LOINC Code"]], "display": name, "equivalence": "equivalent"}
        elements.append({"code": f"id-{code}", "display": name, "target": [target]})
    concept_map = {"resource": {"resourceType": "ConceptMap", "status": "active", "group": [{"element": elements}]}}
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": [*definitions, concept_map]}, indent=1)


def _files(folder: Path) -> dict[str, Path]:
    rows = _table()
    files = {
        name: folder / f"livd{suffix}" for name, suffix in (("sheet", ".xlsx"), ("text", ".tsv"), ("Bundle", ".json"))
    }
    files["sheet"].write_bytes(write_sheet(LIVD_SHEET, rows))
    files["text"].write_text("".join("\t".join(row) + "\n" for row in rows))
    files["Bundle"].write_text(_bundle(rows))
    rows[CODES // 2][LIVD_COLUMNS.index("LOINC Code")] = "718-8"
    files["broken"] = folder / "broken.xlsx"
    files["broken"].write_bytes(write_sheet(LIVD_SHEET, rows))
    return files


def _run(folder: Path, url: str, *arguments: str) -> tuple[str, subprocess.CompletedProcess[str]]:
    environment = os.environ | {
        "LABORA_DATABASE_URL": url, "LABORA_PASSWORD": PASSWORD, "LABORA_STATE_DIR": str(folder),
    }  # fmt: skip
    command = [sys.executable, "-c", "from interface.cli import main; main()", "--config", str(folder / "config.toml")]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    who = ("--as", "ada", "--reason", "measured")
    done = subprocess.run([*command, "map", *arguments, *who], env=environment, capture_output=True, text=True)
    taken, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{taken:>6.2f} s ({used:.2f} s CPU)", done


async def _measure(folder: Path) -> None:
    from interface.store.embedded import EmbeddedPostgres

    server = EmbeddedPostgres(folder)
    await server.start()
    try:
        owner_url = server.url(OWNER_ROLE)
        await upgrade(owner_url)
        url = with_database(owner_url, "labora", APP_ROLE)
        async with laboratory(url, "generic_lis2") as lab:
            async with lab.database.transaction(lab.organization_id) as connection:
                digest = await passwords.digest(PASSWORD)
                await insert_user(connection, lab.organization_id, "ada", "", digest, ("administrator",))
            (folder / "config.toml").write_text(CONFIG.format(organization=lab.context.settings.organization))
            files = await asyncio.to_thread(_files, folder)
            change = 0
            for name, file in files.items():
                told = ("import", str(file), "--driver", "generic_lis2", "--yes")
                taken, done = await asyncio.to_thread(_run, folder, url, *told)
                rows = await lab.owner.fetchval(
                    "select count(*) from lab.code_map where origin = 'site' and ended_at is null"
                )
                print(f"{f'import, {name}':<24}{taken}   status {done.returncode}, {rows} rows in force")
                if done.returncode:
                    print("   ", done.stderr.splitlines()[0].replace(str(folder), "…"))
                    continue
                taken, done = await asyncio.to_thread(_run, folder, url, "undo", str(change + 1))
                change += 2
                print(f"{'undo':<24}{taken}   status {done.returncode}")
    finally:
        await server.stop()


def main() -> None:
    """Print the table."""
    configure_logs(40)
    with _folder() as folder:
        asyncio.run(_measure(folder))


if __name__ == "__main__":
    main()
