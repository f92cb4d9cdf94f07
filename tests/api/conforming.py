"""Every answer of the REST interface in the tests is held against the OpenAPI document: status, media type, shape."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from aiohttp import web
from jsonschema import Draft202012Validator

from interface.api.app import routes
from interface.api.openapi import described, document

_known = {(route.method, route.path) for route in described(routes())}
_document: dict[str, Any] = {}
_making = asyncio.Lock()


async def conforms(request: web.Request, response: web.StreamResponse) -> None:
    """For `Application.on_response_prepare`; raises AssertionError: the client sees a connection that ended."""
    resource = request.match_info.route.resource
    pattern = resource.canonical if resource is not None else ""
    if (request.method, pattern) not in _known or not isinstance(response, web.Response) or response.status == 500:
        return  # a fault inside is nobody's promise
    async with _making:
        if not _document:
            _document.update(await document(routes()))
    where = f"{request.method} {pattern} {response.status}"
    answers = _document["paths"][pattern][request.method.lower()]["responses"]
    assert str(response.status) in answers, f"{where} is not in the document, which has {', '.join(answers)}"
    content = answers[str(response.status)].get("content", {})
    if not content:
        assert not response.body, f"{where} has a body, which is not in the document"
        return
    assert response.content_type in content, f"{where} is {response.content_type}, not {', '.join(content)}"
    if schema := content[response.content_type].get("schema"):
        assert isinstance(response.body, bytes)
        root = {"allOf": [schema], "components": _document["components"]}
        faults = [
            f"{fault.json_path} {fault.message[:200]}"
            for fault in Draft202012Validator(root).iter_errors(orjson.loads(response.body))
        ]
        assert not faults, f"{where}: {'; '.join(faults[:5])}"
