"""Each command of `labora rule` with something it can do, for tests that run all commands there are."""

from __future__ import annotations

from pathlib import Path

from interface.domain.permissions import Role
from interface.store.actors import insert_user
from tests.api.rules_use import RULES
from tests.cli.desk import Shell, _digest

WHY = ("--as", "dora", "--reason", "because")
VALIDATED, ACTIVE = "rule activate", "rule deactivate"


async def rule_arguments(shell: Shell, name: str, folder: Path) -> tuple[str, ...]:
    """What `name` is run with, once what must be done before it has been done by `dora`, a director."""
    async with shell.laboratory.database.transaction(shell.organization.id) as connection:
        await insert_user(connection, shell.organization.id, "dora", "", _digest[0], (Role.LABORATORY_DIRECTOR.value,))
    file = folder / "rules.toml"
    file.write_text(RULES)
    before: list[tuple[str, ...]] = [] if name == "rule import" else [("import", str(file), *WHY)]
    if name in (VALIDATED, ACTIVE):
        before.append(("test", "default@1", "--as", "dora"))
    if name == ACTIVE:
        before.append(("activate", "default@1", *WHY))
    if name == "rule on":
        before.append(("off", *WHY))
    for arguments in before:
        answer = await shell.run("rule", *arguments)
        assert answer.status == 0, answer.err
    return {
        "rule list": (), "rule show": ("default",), "rule test": ("default",), "rule report": ("default",),
        "rule import": (str(file), *WHY), VALIDATED: ("default@1", *WHY), ACTIVE: ("default", *WHY),
        "rule shadow": ("default@1", *WHY), "rule off": WHY, "rule on": WHY,
    }[name]  # fmt: skip
