"""The people around a daemon: staff who order and release over REST, an EMR that reads over FHIR."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from interface.domain.permissions import Role
from interface.flow import actors
from interface.settings import Address, DatabaseSettings, Settings
from interface.store.embedded import opened_database

PASSWORD = "a long enough password 1"


@dataclass(frozen=True, slots=True)
class EmrAndStaff:
    """Two bearers of tokens, and what they do."""

    api: Address
    staff: str
    emr: str

    async def ask(self, method: str, path: str, token: str, body: Any = None) -> Any:
        """The parsed answer, decimals as the text that was sent; raises for anything but success."""
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://{self.api}{path}", json=body, headers=headers) as response,
        ):
            text = await response.text()
            assert response.status < 300, text
            return json.loads(text, parse_float=str)

    async def order(self, barcode: str, *tests: str) -> Any:
        return await self.ask(
            "POST", "/api/orders", self.staff,
            {
                "patient": {
                    "identifiers": [{"authority": "TEST", "value": "P-1"}], "family": "Muster", "given": "Maria",
                    "birth_date": "1980-05-01", "sex": "female",
                },
                "specimens": [{"barcode": barcode, "tests": list(tests), "received_at": "2026-01-02T03:00:00Z"}],
            },
        )  # fmt: skip

    async def results(self, number: int) -> list[dict[str, Any]] | None:
        """The results as staff see them, once there are so many."""
        found = (await self.ask("GET", "/api/results", self.staff))["results"]
        return found if len(found) >= number else None

    async def release(self, result_id: str) -> None:
        seen = (await self.ask("GET", f"/api/results/{result_id}", self.staff))["result"]
        await self.ask("POST", f"/api/results/{result_id}/release", self.staff, {"version": seen["version"]})

    async def observations(self) -> list[dict[str, Any]]:
        """What the EMR sees."""
        bundle = await self.ask("GET", "/fhir/Observation", self.emr)
        return [entry["resource"] for entry in bundle.get("entry", [])]


async def register_people(state_dir: Path, api: Address, *roles: Role, url: str = "embedded") -> EmrAndStaff:
    """Make a user with roles and an EMR client in the organization `main`, and log both in over HTTP."""
    settings = Settings(state_dir, DatabaseSettings(url))
    async with opened_database(settings) as database:
        organization_id = await actors.find_organization(database, "main")
        setup = actors.setup_actor(organization_id)
        client = await actors.create_client(database, setup, "emr", ["system/*.rs"])
        await actors.create_user(
            database, setup, actors.NewUser("staff", PASSWORD, tuple(role.value for role in roles))
        )
    async with aiohttp.ClientSession() as session:
        login = {"organization": "main", "username": "staff", "password": PASSWORD}
        async with session.post(f"http://{api}/api/login", json=login) as response:
            staff = await response.json()
        form = {"grant_type": "client_credentials", "client_id": client.client_id, "client_secret": client.secret}
        async with session.post(f"http://{api}/oauth/token", data=form) as response:
            emr = await response.json()
    return EmrAndStaff(api, staff["access_token"], emr["access_token"])
