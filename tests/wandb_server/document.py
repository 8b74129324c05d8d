"""Parses the part of the GraphQL language that W&B clients use into plain data.

Served: named operations with variables and defaults, aliases, arguments (lists and objects too), fragments,
inline fragments, directives. Not served: subscriptions, block strings with indentation rules, type definitions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r"""(?P<skip>[\s,\ufeff]+|\#[^\n]*)
    |(?P<spread>\.\.\.)
    |(?P<punct>[{}()\[\]:!=$@|&])
    |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<string>"(?:\\.|[^"\\])*")
    |(?P<name>[_A-Za-z]\w*)""",
    re.VERBOSE,
)
_CONSTANTS = {"true": True, "false": False, "null": None}


class DocumentError(ValueError):
    """The text is not a GraphQL document that this parser knows."""


@dataclass(frozen=True)
class Variable:
    """A `$name` inside a value."""

    name: str


@dataclass(frozen=True)
class Selection:
    """One entry of a selection set: a field, a fragment spread, or an inline fragment.

    A field has `name` and `alias`, a spread has `spread`, an inline fragment has neither (and maybe `on_type`).
    """

    name: str = ""
    alias: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    directives: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    selections: tuple[Selection, ...] = ()
    spread: str = ""
    on_type: str = ""


@dataclass
class Document:
    """The first operation of a document, and all its fragments by name."""

    kind: str = "query"
    name: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)
    selections: tuple[Selection, ...] = ()
    fragments: dict[str, Selection] = field(default_factory=dict)


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise DocumentError(f"Syntax Error: unexpected character {text[position]!r} at {position}")
            if match.lastgroup != "skip":
                self.tokens.append(match.group())
            position = match.end()
        self.index = 0

    def peek(self) -> str:
        return self.tokens[self.index] if self.index < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise DocumentError(f"Syntax Error: expected {expected or 'a token'}, found {token or 'the end'}")
        self.index += 1
        return token

    def accept(self, token: str) -> bool:
        if self.peek() == token:
            self.index += 1
            return True
        return False

    def document(self) -> Document:
        result = Document()
        seen_operation = False
        while self.peek():
            if self.accept("fragment"):
                name = self.take()
                self.take("on")
                on_type = self.take()
                directives = self.directives()
                result.fragments[name] = Selection(
                    directives=directives, selections=self.selection_set(), on_type=on_type
                )
                continue
            operation = self.operation()
            if not seen_operation:
                operation.fragments = result.fragments
                result, seen_operation = operation, True
        return result

    def operation(self) -> Document:
        result = Document()
        if self.peek() != "{":
            result.kind = self.take()
            if self.peek() not in ("(", "@", "{"):
                result.name = self.take()
            if self.accept("("):
                while not self.accept(")"):
                    self.take("$")
                    name = self.take()
                    self.take(":")
                    self.type_reference()
                    if self.accept("="):
                        result.defaults[name] = self.value()
            self.directives()
        result.selections = self.selection_set()
        return result

    def type_reference(self) -> None:
        if self.accept("["):
            self.type_reference()
            self.take("]")
        else:
            self.take()
        self.accept("!")

    def selection_set(self) -> tuple[Selection, ...]:
        self.take("{")
        found: list[Selection] = []
        while not self.accept("}"):
            found.append(self.selection())
        return tuple(found)

    def selection(self) -> Selection:
        if self.accept("..."):
            on_type = self.take() if self.accept("on") else ""
            if not on_type and self.peek() not in ("{", "@"):
                return Selection(spread=self.take(), directives=self.directives())
            directives = self.directives()
            return Selection(on_type=on_type, directives=directives, selections=self.selection_set())
        alias = self.take()
        name = self.take() if self.accept(":") else alias
        arguments = self.arguments()
        directives = self.directives()
        selections = self.selection_set() if self.peek() == "{" else ()
        return Selection(name=name, alias=alias, arguments=arguments, directives=directives, selections=selections)

    def arguments(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.accept("("):
            while not self.accept(")"):
                name = self.take()
                self.take(":")
                found[name] = self.value()
        return found

    def directives(self) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        while self.accept("@"):
            name = self.take()
            found[name] = self.arguments()
        return found

    def value(self) -> Any:
        token = self.take()
        if token == "$":
            return Variable(self.take())
        if token == "[":
            items: list[Any] = []
            while not self.accept("]"):
                items.append(self.value())
            return items
        if token == "{":
            members: dict[str, Any] = {}
            while not self.accept("}"):
                name = self.take()
                self.take(":")
                members[name] = self.value()
            return members
        if token[0] == '"' or token[0] in "-0123456789":
            return json.loads(token)
        return _CONSTANTS.get(token, token)


def parse(text: str) -> Document:
    """Parses the `query` text of a request."""
    return _Parser(text).document()
