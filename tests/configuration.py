"""Configuration texts for tests, and drivers for them that do not depend on the shipped ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from interface import config
from interface.errors import ConfigError
from interface.settings import Settings

HERE = Path("config.toml")
DRIVER = """
[driver]
id = "{name}"
title = "Acme"
tier = "simulated"
revision = "1"
protocol = "{protocol}"
generic = true
"""


@pytest.fixture
def drivers(tmp_path: Path) -> Path:
    """A driver folder with three drivers, so that these tests do not depend on the shipped ones."""
    for name in ("acme_one", "acme_two"):
        (tmp_path / "drivers" / name).mkdir(parents=True)
        (tmp_path / "drivers" / name / "driver.toml").write_text(DRIVER.format(name=name, protocol="lis2"))
    (tmp_path / "drivers" / "acme_hl7").mkdir()
    (tmp_path / "drivers" / "acme_hl7" / "driver.toml").write_text(DRIVER.format(name="acme_hl7", protocol="hl7"))
    return tmp_path / "drivers"


def parse(text: str, **environ: str) -> Settings:
    return config.parse(text, HERE, environ)


def problems(text: str, **environ: str) -> dict[str, str]:
    """Every problem by its path; the test fails when there is none."""
    with pytest.raises(ConfigError) as caught:
        parse(text, **environ)
    found = {problem.path: problem.text for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems), "one place was reported twice"
    return found


def link(drivers: Path, **changes: str) -> str:
    """A good `[[link]]` (after its top-level keys), with `changes` as TOML values."""
    keys = {
        "id": '"a-1"',
        "organization": '"main"',
        "driver": '"acme_one"',
        "transport": '{ type = "tcp-listen", listen = "127.0.0.1:4001" }',
    } | changes
    return f"driver_path = ['{drivers}']\n[[link]]\n" + "\n".join(f"{key} = {value}" for key, value in keys.items())
