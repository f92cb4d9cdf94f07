"""`python tests/fault/serve.py PORT FOLDER [DATABASE-URL]`: `labora run` with one MLLP link on PORT, for programs that
want one command line, such as the yardstick's fault loop (docs/evidence.md). Without a URL it has a server of its own
in FOLDER. It becomes the daemon: who starts it kills the daemon."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CONFIG = """
state_dir = "{state}"
[api]
listen = "127.0.0.1:0"
[[link]]
id = "hl7"
organization = "main"
driver = "generic_hl7"
transport = {{ type = "mllp-listen", listen = "127.0.0.1:{port}" }}
"""


def main(port: str, folder: str, url: str = "embedded") -> None:
    root = Path(folder)
    root.chmod(0o755)  # the embedded server's account must pass through
    config = root / "config.toml"
    config.write_text(CONFIG.format(state=root / "state", port=port))
    program = str(Path(sys.executable).with_name("labora"))
    os.execve(  # noqa: S606  no shell, and no path but our own
        program, [program, "--config", str(config), "run"], os.environ | {"LABORA_DATABASE_URL": url}
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
