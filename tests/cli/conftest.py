"""What commands meet: the API of a running daemon, as who asks one sees it, and a laboratory that gets messages."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.workbench import Workbench, open_workbench


@dataclass
class Daemon:
    """An HTTP server that answers as the daemon's API does."""

    port: int = 0
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    state = Daemon()

    class Handler(BaseHTTPRequestHandler):
        def version_string(self) -> str:
            return "Labora"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            state.asked.append((self.path, self.headers.get("Authorization", "")))
            status, body = state.answers.get(self.path, (404, b"{}"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
async def bench(
    recycled_founded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Workbench]:
    async with open_workbench(recycled_founded_url, tmp_path, monkeypatch, capsys) as opened:
        yield opened
