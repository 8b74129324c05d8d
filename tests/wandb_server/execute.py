"""Runs a parsed GraphQL document over nodes: plain dicts whose values may be functions of the arguments.

A node names its type under `__typename`. For a field that a node lacks, the answer is the same error as the real
service's: clients use it to recognize an older server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .document import Document, Selection, Variable

Node = dict[str, Any]
Resolver = Callable[[dict[str, Any]], Any]

_INTERFACES = {"ArtifactSequence": {"ArtifactCollection"}, "ArtifactPortfolio": {"ArtifactCollection"}}


class GraphQLError(Exception):
    """An error answered to the client inside `errors`, with the HTTP status of the answer."""

    def __init__(self, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.status = status


class _Run:
    def __init__(self, document: Document, variables: Mapping[str, Any]) -> None:
        self.document = document
        self.variables = {**document.defaults, **variables}

    def value(self, raw: Any) -> Any:
        if isinstance(raw, Variable):
            return self.variables.get(raw.name)
        if isinstance(raw, list):
            return [self.value(item) for item in raw]
        if isinstance(raw, dict):
            # A variable that was not sent is left out: absent and null mean different things.
            return {
                key: self.value(item)
                for key, item in raw.items()
                if not (isinstance(item, Variable) and item.name not in self.variables)
            }
        return raw

    def wanted(self, selection: Selection) -> bool:
        include = selection.directives.get("include", {"if": True})
        skip = selection.directives.get("skip", {"if": False})
        return bool(self.value(include["if"])) and not self.value(skip["if"])

    def select(self, selections: tuple[Selection, ...], node: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for selection in selections:
            if not self.wanted(selection):
                continue
            if selection.name:
                answer[selection.alias] = merge(answer.get(selection.alias), self.field(selection, node))
                continue
            part = self.document.fragments[selection.spread] if selection.spread else selection
            typename = node.get("__typename", part.on_type)
            if not part.on_type or part.on_type == typename or part.on_type in _INTERFACES.get(typename, ()):
                for key, value in self.select(part.selections, node).items():
                    answer[key] = merge(answer.get(key), value)
        return answer

    def field(self, selection: Selection, node: Mapping[str, Any]) -> Any:
        if selection.name not in node:
            kind = node.get("__typename", "Object")
            raise GraphQLError(f'Cannot query field "{selection.name}" on type "{kind}".', status=400)
        value = node[selection.name]
        if callable(value):
            value = value(self.value(dict(selection.arguments)))
        return self.project(selection, value)

    def project(self, selection: Selection, value: Any) -> Any:
        if not selection.selections or value is None:
            return value
        if isinstance(value, list):
            return [self.project(selection, item) for item in value]
        return self.select(selection.selections, value)


def merge(old: Any, new: Any) -> Any:
    """Merges two answers for a field that was selected twice, for example in two fragments."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: merge(old.get(key), value) for key, value in new.items()}}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [merge(a, b) for a, b in zip(old, new, strict=True)]
    return new


def execute(document: Document, variables: Mapping[str, Any], root: Node) -> dict[str, Any]:
    """Returns the `data` of the answer to a request."""
    return _Run(document, variables).select(document.selections, root)


def connection(items: list[Node], arguments: Mapping[str, Any], typename: str = "Connection") -> Node:
    """Returns a page of a list as a Relay connection (`first`, `last`, `after`); a cursor is a position."""
    start = int(arguments.get("after") or 0)
    stop = start + int(arguments.get("first") or len(items))
    if arguments.get("last"):
        start, stop = max(0, len(items) - int(arguments["last"])), len(items)
    edges = [
        {"__typename": "Edge", "node": node, "cursor": str(index + 1), "version": node.get("version")}
        for index, node in enumerate(items[start:stop], start)
    ]
    page = {"__typename": "PageInfo", "endCursor": str(min(stop, len(items))), "hasNextPage": stop < len(items)}
    return {"__typename": typename, "edges": edges, "pageInfo": page, "totalCount": len(items)}
