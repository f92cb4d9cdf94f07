"""`/api/docs`: the OpenAPI document as one page of HTML, made here so that it needs no script and nothing from
elsewhere (Content-Security-Policy allows its own style only)."""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from html import escape

from interface.api.schema import Schema

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem 1.5rem 4rem}
h1{font-size:1.6rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem;border-bottom:1px solid #8886}
h3{font-size:.95rem;margin:1rem 0 .25rem}
nav{columns:14rem;margin:1rem 0}nav a{display:block}
details{border:1px solid #8885;border-radius:.4rem;margin:.35rem 0;padding:.35rem .7rem}
summary{cursor:pointer;overflow-wrap:anywhere}summary small{opacity:.75;margin-left:.6rem}
b.m{display:inline-block;min-width:3.6rem;font:600 .8rem ui-monospace,monospace}
code{font:.85rem ui-monospace,monospace;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;margin:.25rem 0}
td,th{border-top:1px solid #8884;padding:.2rem .5rem .2rem 0;text-align:left;vertical-align:top}
th{font-weight:600}td:first-child{width:14rem}p{margin:.35rem 0}
"""
STYLE_HASH = "sha256-" + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def page(document: Schema) -> str:
    """The page of a document that `api.openapi` made."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            groups[operation["tags"][0]].append(_operation(path, method, operation))
    info, names = document["info"], sorted(groups)
    links = "".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in names)
    shown = "".join(f'<h2 id="{escape(name)}">{escape(name)}</h2>{"".join(groups[name])}' for name in names)
    schemas = "".join(_named(name, schema) for name, schema in document["components"]["schemas"].items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(info['title'])} {escape(info['version'])}: REST interface</title>"
        f"<style>{_STYLE}</style></head><body><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info['description'])}</p>"
        f'<p><a href="openapi.json">openapi.json</a>: the same for programs.</p><nav>{links}'
        f'<a href="#schemas">schemas</a></nav>{shown}<h2 id="schemas">schemas</h2>{schemas}</body></html>'
    )


def _operation(path: str, method: str, operation: Schema) -> str:
    parts = [f"<p>{escape(text)}</p>" for text in operation.get("description", "").split("\n\n") if text]
    if parameters := operation.get("parameters"):
        rows = [(f"{one['name']} ({one['in']})", _words(one["schema"]), one.get("required")) for one in parameters]
        parts.append(f"<h3>Parameters</h3>{_table(rows)}")
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<h3>Body, <code>{escape(media)}</code></h3>{_shape(content['schema'])}")
    parts.append("<h3>Answers</h3>")
    for status, answer in operation["responses"].items():
        given: Schema = next(iter(answer.get("content", {}).values()), Schema())
        shape = _shape(given["schema"]) if status < "300" and "schema" in given else ""
        parts.append(f"<p><code>{status}</code> {escape(answer['description'])}</p>{shape}")
    summary = f"<small>{escape(operation.get('summary', ''))}</small>"
    return (
        f'<details id="{escape(operation["operationId"])}"><summary><b class="m">{method.upper()}</b>'
        f"<code>{escape(path)}</code>{summary}</summary>{''.join(parts)}</details>"
    )


def _named(name: str, schema: Schema) -> str:
    return (
        f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code></summary>{_shape(schema)}</details>'
    )


def _shape(schema: Schema) -> str:
    """A schema as a table of its members, or as words."""
    if members := schema.get("properties"):
        required = schema.get("required", ())
        return _table([(name, _words(one), name in required) for name, one in members.items()])
    return f"<p>{_words(schema)}</p>"


def _table(rows: list[tuple[str, str, object]]) -> str:
    return "<table>{}</table>".format(
        "".join(
            f"<tr><td><code>{escape(name)}</code></td><td>{words}</td><td>{'' if needed else 'optional'}</td></tr>"
            for name, words, needed in rows
        )
    )


def _words(schema: Schema) -> str:
    """What a value is, in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_words, schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(word))}</code>" for word in schema["enum"] if word is not None)
    kinds = schema.get("type", "anything")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "array" in kinds:
        return f"list of {_words(schema['items'])}" if "items" in schema else "list"
    if "object" in kinds and schema.get("properties"):
        return _shape(schema)
    said = " or ".join(escape(kind) for kind in kinds if kind != "null" or kinds == ["null"])
    return f"{said} ({escape(schema['format'])})" if "format" in schema else said
