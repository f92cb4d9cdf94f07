"""The running daemon, asked over its own HTTP interface."""

from __future__ import annotations

import http
import http.client
import json
import os
from typing import TYPE_CHECKING

from interface.cli.laboratory import CommandError, only_organization, password_of

if TYPE_CHECKING:
    from interface.settings import ApiSettings, Settings

ASK_WAIT_S = 5.0


class Daemon:
    """The running daemon's HTTP interface, asked on this machine. Every failure is a CommandError."""

    def __init__(self, api: ApiSettings) -> None:
        self._api, self._address = api, api.listen

    def ask(self, method: str, path: str, token: str = "", body: object = None) -> dict[str, object]:
        """The answer's JSON object, of 2xx and of 503 (not ready)."""
        from interface.ops.machine import to_daemon

        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = to_daemon(self._api, ASK_WAIT_S)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            text = response.read()
            answer = json.loads(text) if text else {}
        except ConnectionRefusedError:
            raise CommandError(f"the daemon does not run: nothing listens on {self._address}") from None
        except TimeoutError:
            raise CommandError(f"the daemon does not answer on {self._address}") from None
        except (OSError, http.client.HTTPException, ValueError):
            raise CommandError(f"what answers on {self._address} is not Labora's daemon") from None
        finally:
            connection.close()
        if response.status == http.HTTPStatus.UNAUTHORIZED:
            raise CommandError("the daemon refused the name, the password or the token")
        if response.status == http.HTTPStatus.FORBIDDEN:
            raise CommandError("this needs the permission link:read")
        if not isinstance(answer, dict):
            raise CommandError(f"what answers on {self._address} is not Labora's daemon")
        return answer


def known_links(
    daemon: Daemon, settings: Settings, organization: str | None, username: str | None
) -> list[object] | None:
    """Each link of the user's laboratory; None when nobody says who asks."""
    token = os.environ.get("LABORA_TOKEN", "")
    if not token and not username:
        return None
    logged_in = False
    if not token and username:
        logged_in = True
        login = {"organization": organization or only_organization(settings), "username": username}
        answer = daemon.ask("POST", "/api/login", body=login | {"password": password_of(username)})
        token = str(answer.get("access_token", ""))
    try:
        links = daemon.ask("GET", "/api/links", token=token).get("links")
    finally:
        if logged_in:
            daemon.ask("POST", "/api/logout", token=token)
    return links if isinstance(links, list) else []
