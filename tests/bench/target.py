"""Our daemon as a target of the yardstick's compare.py: `python -m tests.bench.target mllp|astm PORT`, BENCH_DSN its
database.

The database is brought up to date, and `labora run`, as configured by default, takes this process's place with one link
on PORT. What it gets has no orders, so the link registers them: parsing, mapping, deciding and storing, for each of the
25 results of a message.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.bench.yardstick import LINK, free_port, program, upgrade

KINDS = {"mllp": ("generic_hl7", "mllp-listen"), "astm": ("generic_lis2", "tcp-listen")}


def main() -> None:
    """Never returns; SIGTERM ends what it has become."""
    kind, port = sys.argv[1:3]
    driver, transport = KINDS[kind]
    url = os.environ["BENCH_DSN"]
    upgrade(url)
    folder = Path(tempfile.mkdtemp(prefix="labora-bench-"))
    link = LINK.format(name=kind, number=0, driver=driver, transport=transport, port=port)
    config = folder / "config.toml"
    config.write_text(
        f'state_dir = "{folder}"\n[api]\nlisten = "127.0.0.1:{free_port()}"\n{link}unsolicited = "register"\n'
    )
    os.execve(program(), ["labora", "--config", str(config), "run"], {**os.environ, "LABORA_DATABASE_URL": url})  # noqa: S606


if __name__ == "__main__":
    main()
