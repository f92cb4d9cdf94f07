"""The shell in which the commands of the pages are run, with what each page takes for granted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

from tests.docs.pages import Block
from tests.quick_labora import forking

SETUPS: Final = Path(__file__).parent / "setup"
PATIENCE_S: Final = 900.0  # beside much else; alone a page takes a few seconds
_BIN: Final = Path(sys.executable).parent
# `pick`: of JSON on stdin what a Python expression over it, `it`, says. `until_so`: wait for what another process does.
_HELPERS: Final = """
set -eu
pick() { python3 -ISc 'import json, sys; it = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }
free_port() { python3 -ISc 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_so() {
  local tries
  for tries in {1..100}; do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.05; done
  echo "never: $*"
  return 1
}
"""


class Differs(AssertionError):
    """A page that says what is not so."""


@dataclass(slots=True)
class Shell:
    """Runs blocks of pages in `folder`; what one exports the next one has, as in one terminal. `swap`: what is written
    otherwise in a test: ports and folders."""

    folder: Path
    environment: dict[str, str]
    swap: Mapping[str, str] = field(default_factory=dict)

    def run(self, blocks: Sequence[Block], setup: str = "") -> str:
        """What all of it said. Raises Differs where a command fails, or says something else than the page."""
        names = re.findall(r"^([A-Z]+)\(\)", setup, re.MULTILINE)
        hooks = set(re.findall(r"^(before_\d+)\(\)", setup, re.MULTILINE))  # of the page's first, second … block
        body = "\n".join(
            f"{hook if (hook := f'before_{number}') in hooks else ':'}\n{self._script(block, names)}"
            for number, block in enumerate(blocks, 1)
        )
        for written, here in self.swap.items():
            body = body.replace(written, here)
        state = self.folder / ".state"
        # The last line is reached by whoever did not fail; a fault names the command.
        script = (
            f'{_HELPERS}\n{setup}\nset -E; trap \'printf "\\001failed %s: %s\\n" "$?" "$BASH_COMMAND"\' ERR\n{body}\n'
            f'{{ pwd; env -0; }} > "{state}"\nprintf "\\001done\\n"\n'
        )
        with TemporaryFile() as out:  # not a pipe: what goes on in the background would keep it open
            status = self._bash(script, out)
            out.seek(0)
            said = out.read().decode()
        if status != 0 or not said.endswith("\001done\n"):
            raise Differs(f"{blocks[0].page}: status {status}: {said[-1500:]}")
        where, _, environ = state.read_bytes().partition(b"\n")
        self.environment = dict(line.decode().split("=", 1) for line in environ.split(b"\0") if b"=" in line)
        self.environment["PWD"] = where.decode()
        for block in blocks:
            self._compare(block, said)
        return said

    def _bash(self, script: str, out: IO[bytes]) -> int | None:
        """Its status; None where it did not end."""
        bash = subprocess.Popen(
            ["bash", "-c", script], cwd=self.environment["PWD"], env=self.environment,
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            return bash.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(bash.pid, signal.SIGKILL)
            bash.wait()
            return None

    def _script(self, block: Block, names: Sequence[str]) -> str:
        if block.kind == "sh":
            return _called(block.text, names)
        lines = []
        for number, (command, _) in enumerate(block.said()):
            command = _called(command, names)
            if "fails" in block.marks:
                command = f"if {command}; then echo 'it did not fail'; exit 9; fi"
            mark = f"{block.where} {number}"
            lines += [f"printf '\\001{mark}\\n'", command, f"printf '\\001end {mark}\\n'"]
        return "\n".join(lines)

    def _compare(self, block: Block, said: str) -> None:
        if block.kind != "console":
            return
        for number, (command, expected) in enumerate(block.said()):
            mark = f"{block.where} {number}"
            came = said.split(f"\001{mark}\n")[1].split(f"\001end {mark}\n")[0]
            wanted = "\n".join(expected)
            for written, here in self.swap.items():
                wanted = wanted.replace(written, here)
            if not matches(wanted, came):
                raise Differs(f"{block.where}: `{command}` says\n{came}\nand the page\n{wanted}")


def _called(text: str, names: Sequence[str]) -> str:
    """A name in capitals that the set-up knows is what its function says."""
    for one in names:
        text = re.sub(rf"(?<![\w$({{-]){one}(?![\w=])", f"$({one})", text)
    return text


def matches(wanted: str, came: str) -> bool:
    """Line by line; … stands for anything in its line, alone on a line for any lines. Blanks at ends are nothing."""
    pattern = ""
    for line in wanted.splitlines():
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ \t]*\n"
    return re.fullmatch(pattern, came if came.endswith("\n") or not came else f"{came}\n") is not None


def setup(page: str) -> str:
    path = SETUPS / f"{page.removesuffix('.md').replace('/', '-')}.sh"
    return path.read_text(encoding="utf-8") if path.exists() else ""


@contextmanager
def opened(folder: Path, swap: Mapping[str, str]) -> Iterator[Shell]:
    """A shell in which `labora` costs little to start. What it has started is gone afterwards."""
    programs = folder / "bin"
    programs.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LABORA_")}
    environment |= {"PATH": f"{programs}:{_BIN}:{environment['PATH']}", "PWD": str(folder)}
    try:
        with forking(programs, environment):
            yield Shell(folder, environment, swap)
    finally:
        for pid in _started(folder):
            os.kill(pid, signal.SIGTERM)


def _started(folder: Path) -> Iterator[int]:
    """Processes that the pages' commands left, which are known by their environment."""
    mark = f"LABORA_CONFIG={folder}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes():
                yield int(path.parent.name)
        except OSError:
            pass
