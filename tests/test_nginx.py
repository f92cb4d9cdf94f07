"""What nginx logs of a request: that there is such a kind of thing, and never a word that somebody else has chosen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from interface.api.app import routes

CONFIG = (Path(__file__).parents[1] / "scripts" / "nginx.conf").read_text(encoding="utf-8")


def logged(variable: str, value: str) -> str:
    """As a `map` of the configuration says it."""
    (body,) = re.findall(rf"^map \S+ \${variable} {{$(.*?)^}}$", CONFIG, re.MULTILINE | re.DOTALL)
    for pattern, said in re.findall(r"^ +~(\S+) \$(\w+);$", body, re.MULTILINE):
        if found := re.search(pattern.replace("(?<", "(?P<"), value):
            return found.groupdict().get(said, value)
    return "other"


@pytest.mark.parametrize("path", sorted({route.path for route in routes()}))
def test_a_path_is_logged_by_the_kind_of_thing_it_names(path: str) -> None:
    first, *rest = path.strip("/").split("/")
    assert logged("labora_path", path) == "/" + "/".join([first, *rest[:1]])


@pytest.mark.parametrize(
    "path",
    ["/Muster", "/fhir/Muster", "/api/Muster", "/api/patients-Muster", "/fhir/PatientMuster", "/oauth/Muster",
     "/health/Muster", "/oauth/token/Muster", "/.well-known/Muster", "/x/fhir/Patient"],
)  # fmt: skip
def test_no_other_word_of_a_path_is(path: str) -> None:
    assert logged("labora_path", path) == "other"


def test_a_method_is_one_that_there_is() -> None:
    assert {logged("labora_method", route.method) for route in routes()} <= {"GET", "POST", "PUT", "PATCH", "DELETE"}
    assert logged("labora_method", "MUSTER") == "other"


def test_nothing_else_of_a_request_is_logged() -> None:
    (line,) = re.findall(r"^log_format labora '(.*)';$", CONFIG, re.MULTILINE)
    assert set(re.findall(r"\$(\w+)", line)) == {
        "remote_addr", "time_iso8601", "labora_method", "labora_path", "status", "body_bytes_sent", "request_time",
    }  # fmt: skip
    assert re.findall(r"error_log (.*);", CONFIG) == ["/dev/null emerg"] * 2
