"""Every command that a page shows is run: here, by a test that is named here, or in the booted guest of tests/systemd.

The tutorial starts the daemon, the other pages are followed beside it, and the tutorial stops it: one database, one
daemon.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import pytest

from interface.cli import labora
from tests.cluster import new_state_dir
from tests.docs.pages import COMMANDS, DOCS, MARKS, OTHER, ROOT, Block, blocks, every, name, pages
from tests.docs.shell import SETUPS, Differs, Shell, matches, opened, setup
from tests.e2e.daemon import free_ports
from tests.systemd.installed import PAGES

TUTORIAL: Final = "tutorial.md"
# Followed beside the tutorial's daemon: with every run of the tests, and with `--long`; and when it has been stopped.
BESIDE: Final = ("connect-an-emr.md", "bring-up-a-link.md")
LONG: Final = (
    "mapping.md", "two-way.md", "patients.md", "security.md", "alerts.md", "monitoring.md", "retention.md", "qc.md",
)  # fmt: skip
AFTER: Final = ("backup.md",)
# What another test runs as it stands in the page: by page and kind of block.
ELSEWHERE: Final = {
    ("add-an-analyzer.md", "sh"): "tests/e2e/test_add_an_analyzer.py::test_the_commands_of_the_page_lead",
    ("review.md", "sh"): "tests/cli/test_review.py::test_every_command_of_the_manual_does_what_it_says",
    ("rules.md", "console"): "tests/cli/test_rule.py::test_the_guide_does_what_it_says",
    ("qc.md", "console"): "tests/cli/test_qc_pbrtqc.py::",
}
# What no test runs, by its first line, with the reason. As short as possible.
NOT_RUN: Final = {
    "scripts/demo": "tests/e2e/test_demo.py runs the demo; scripts/test is what runs this",
    "$ scripts/bench hazards": "tests/hazards runs the same with fewer results",
    "labora link doctor capture.raw": "each line waits for an analyzer; tests/cli/test_link_doctor.py is one, for each",
}


def of(page: str) -> list[Block]:
    """A page's blocks of commands that are run here."""
    return [
        one for one in blocks(DOCS / page)
        if one.kind in COMMANDS and not one.marks & {"root"} and (page, one.kind) not in ELSEWHERE
    ]  # fmt: skip


@pytest.fixture
def folder() -> Iterator[Path]:
    made = new_state_dir()
    yield made
    shutil.rmtree(made, ignore_errors=True)


def follow(shell: Shell, page: str) -> None:
    """A page in a folder of its own, by somebody who has done nothing but the tutorial."""
    before = dict(shell.environment)
    place = shell.folder / "pages" / page
    place.mkdir(parents=True)
    shell.environment["PWD"] = str(place)
    try:
        shell.run(of(page), setup(page))
    finally:
        shell.environment = before


def walk(folder: Path, beside: Sequence[str], after: Sequence[str] = ()) -> list[str]:
    """What is wrong with the tutorial and these pages."""
    swap = {"/tmp/first-lab": str(folder / "first-lab")}  # noqa: S108
    ports = (8080, 4001, 4009)
    swap |= {f"127.0.0.1:{port}": f"127.0.0.1:{here}" for port, here in zip(ports, free_ports(3), strict=True)}
    wrong: list[str] = []
    with opened(folder, swap) as shell:
        shell.environment["PWD"] = str(ROOT)
        *begin, stop = of(TUTORIAL)
        shell.run(begin)
        if set(beside) & set(LONG):
            world = (SETUPS / "world.sh").read_text(encoding="utf-8")
            shell.run([Block("world", 1, "sh", frozenset(), world)])
        for page in (*beside, TUTORIAL, *after):
            try:
                shell.run([stop]) if page == TUTORIAL else follow(shell, page)
            except Differs as differs:
                wrong.append(str(differs))
    return wrong


@pytest.mark.timeout(600)  # beside much else; alone it takes a tenth of that
def test_the_tutorial_and_what_comes_next_do_what_they_say(folder: Path) -> None:
    assert not (wrong := walk(folder, BESIDE)), "\n\n".join(wrong)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_pages_do_what_they_say(folder: Path) -> None:
    assert not (wrong := walk(folder, LONG, AFTER)), "\n\n".join(wrong)


# ---- nothing is left out --------------------------------------------------------------------------------------------


def test_every_block_of_commands_is_run_by_a_test() -> None:
    here = {TUTORIAL, *BESIDE, *LONG, *AFTER}
    nobody = [
        f"{block.where} {block.first}"
        for block in every()
        if block.kind in COMMANDS
        and not (
            "root" in block.marks
            or (block.page in here and (block.page, block.kind) not in ELSEWHERE)
            or (block.page, block.kind) in ELSEWHERE
            or any(block.text.startswith(first) for first in NOT_RUN)
        )
    ]
    assert nobody == [], "no test runs it"


def test_what_another_test_runs_it_reads_from_the_page() -> None:
    for (page, kind), where in ELSEWHERE.items():
        path, _, test = where.partition("::")
        text = (ROOT / path).read_text(encoding="utf-8")
        assert f'"{page}"' in text and f"def {test}" in text, where
        assert [block for block in blocks(DOCS / page) if block.kind == kind], page
    every_first = [block.text for block in every()]
    assert all(any(text.startswith(first) for text in every_first) for first in NOT_RUN)


def test_no_command_hides_in_a_block_of_another_kind() -> None:
    for block in every():
        assert block.kind in (*COMMANDS, *OTHER), f"{block.where}: say what it is, {block.kind!r}"
        assert block.marks <= MARKS, block.where
        if block.kind not in COMMANDS:
            found = re.search(r"^\s*(\$ |sudo |labora |systemctl |scripts/|curl |runuser )", block.text, re.MULTILINE)
            assert found is None, f"{block.where}: {found and found[0]}"


# ---- commands in a sentence -----------------------------------------------------------------------------------------


def words_in_prose(path: Path) -> Iterator[tuple[str, list[str]]]:
    """`labora …` in a sentence, up to what is no plain word."""
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for said in re.findall(r"`labora\s([^`]+)`", text):
        yield said, shlex.split(said.replace("'", ""), comments=False)


def fault(words: Sequence[str]) -> str:
    """Why there is no such command or option; "" where there is."""
    command: click.Command = labora
    context = click.Context(command)
    for word in words:
        if word.startswith("--"):
            known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
            if word.split("=")[0].rstrip(".,") not in known | {"--help"}:
                return f"no option {word}"
        elif isinstance(command, click.Group) and re.fullmatch(r"[a-z][a-z-]*", word):
            found = command.get_command(context, word)
            if found is None:
                return f"no command {word}"
            command = found
    return ""


@pytest.mark.parametrize("path", pages(), ids=name)
def test_a_command_named_in_a_sentence_exists(path: Path) -> None:
    wrong = [f"`labora {said}`: {why}" for said, words in words_in_prose(path) if (why := fault(words))]
    assert not wrong


def commands_of_findings() -> Iterator[str]:
    """What `labora doctor` and the rules for Prometheus name to be run, of ours."""
    for path in sorted((ROOT / "interface" / "ops").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            pieces = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [str(one.value) if isinstance(one, ast.Constant) else "X" for one in pieces]
            if isinstance(node, ast.JoinedStr | ast.Constant) and texts[0].startswith("labora "):
                yield "".join(texts)
    rules = (DOCS / "monitoring" / "prometheus-rules.yml").read_text(encoding="utf-8")
    yield from re.findall(r"command: (labora .*)", rules)


def test_a_command_that_a_finding_names_exists_with_its_options() -> None:
    named = [shlex.split(text, comments=True)[1:] for text in commands_of_findings()]
    assert len(named) > 20
    assert [(words, why) for words in named if (why := fault(words))] == []


def test_links_between_pages_lead_somewhere() -> None:
    for path in pages():
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (path.parent / link).exists(), f"{path.name}: {link}"


# ---- the comparison itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted, came, same",
    [
        ("a … c", "a b c\n", True), ("a …", "b c\n", False), ("a\n…\nd", "a\nb\nc\nd\n", True),
        ("a\n…\nd", "a\nb\n", False), ("a", "a\nb\n", False), ("a\nb", "a\n", False), ("", "", True), ("…", "", True),
        ("", "a\n", False),
    ],
)  # fmt: skip
def test_what_a_page_shows_is_compared_line_by_line(wanted: str, came: str, same: bool) -> None:
    assert matches(wanted, came) is same


def test_a_command_that_fails_or_says_something_else_is_found(folder: Path) -> None:
    with opened(folder, {}) as shell:
        for text, kind, why in (
            ("labora --version\nfalse\n", "sh", "status 1"), ("$ labora --version\nlabora 99\n", "console", "says"),
            ("labora no-such\n", "sh", "status 2"),
        ):  # fmt: skip
            with pytest.raises(Differs, match=why):
                shell.run([Block("page", 1, kind, frozenset(), text)])
        shell.run([Block("page", 1, "console", frozenset(), "$ labora --version\nlabora …\n")])
        shell.run([Block("page", 1, "console", frozenset({"fails"}), "$ labora no-such\n…\n")])


def test_each_test_that_the_promises_name_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (DOCS / "promises.md").read_text(encoding="utf-8"))
    assert len(named) > 25
    for path, test in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not test or re.search(rf"def {test}\(", text), f"{path}::{test}"


def test_the_index_has_every_page_once() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([\w/.-]+\.md)\)", index)
    there = {name(path) for path in pages() if path.is_relative_to(DOCS)} | {
        f"reference/{path.name}" for path in (DOCS / "reference").glob("*.md")
    }
    assert set(linked) == there - {"README.md"}


def test_what_is_marked_for_root_is_run_by_the_guest() -> None:
    assert {block.page for block in every() if "root" in block.marks} == set(PAGES)


def test_a_command_that_no_test_runs_exists() -> None:
    for block in every():
        if any(block.text.startswith(first) for first in NOT_RUN):
            for line in block.text.splitlines():
                if line.startswith("labora "):
                    assert fault(shlex.split(line, comments=True)[1:]) == "", line
