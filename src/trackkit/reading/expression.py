"""Filters and derived columns: a small, safe expression language over a run's fields.

An expression is written like Python: `hparams/lr > 1e-4 and status == 'finished'`, `'sweep' in tags`,
`final/best/val/acc / final/cost_usd`. It has names, numbers, texts in quotes, lists, `True`, `False`, `None`,
comparisons (also `in` and `is`), `and`, `or`, `not`, `+ - * / %` and parentheses. It has no calls, attributes,
indices or powers.

Names are keys, and keys have slashes: at each place the longest known key is taken, and a division has spaces
around its `/`.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

from trackkit.errors import TrackKitError

Fields = Mapping[str, Any]
Evaluate = Callable[[Fields], Any]

_LONGEST = 2000
_DEEPEST = 50
_NUMBER = re.compile(r"\d+\.?\d*")
_TEXT = re.compile(r"'[^']*'|\"[^\"]*\"")
# One that is none of `==`, `<=`, `>=` and `!=`.
_ASSIGNMENT = re.compile(r"(?<![=<>!])=(?!=)")
_NOT_A_KEY = frozenset({"and", "or", "not", "in", "is", "True", "False", "None"})
# A text in quotes, a number, or the widest word that could be a key: segments, joined by slashes without spaces.
_TOKEN = re.compile(
    r"""(?P<text>'[^'\\]*'|"[^"\\]*")|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w/])|(?P<word>\w[\w./@-]*)"""
)
_COMPARE: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.eq,
    ast.IsNot: operator.ne,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}
_BINARY: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}


class ExpressionError(TrackKitError, ValueError):
    """A text that is no expression, or names an unknown key."""


class Expression:
    """A compiled expression.

    Args:
        text: the expression.
        known: every key that it may name.

    Attributes:
        text: as given.
        keys: the keys that it names.

    Raises:
        ExpressionError: the text is no expression, or names a key that is not known.
    """

    def __init__(self, text: str, known: Collection[str]) -> None:
        if len(text) > _LONGEST:
            raise ExpressionError(f"an expression has at most {_LONGEST} characters; got {len(text)}")
        self.text = text
        self._names: dict[str, str] = {}
        python = self._python(text, frozenset(known)).strip()
        try:
            body = ast.parse(python, mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else error
            reason = "'=' does not compare, '==' does" if _ASSIGNMENT.search(_TEXT.sub("", text)) else reason
            raise ExpressionError(f"'{text[:100]}' is no expression: {reason}. {_HELP}") from None
        self._evaluate = self._compile(body)
        self.keys = frozenset(self._names.values())

    def __call__(self, fields: Fields) -> Any:
        """Returns the value for a run's fields; None if a key is missing or the types don't fit.

        In a comparison that is no match, negated or not; the other side of an `or` may still match.
        """
        try:
            return self._evaluate(fields)
        except (KeyError, TypeError, ValueError, ArithmeticError):
            return None

    def _python(self, text: str, known: Collection[str]) -> str:
        """Returns the text with a Python name for each key."""
        parts, end = [], 0
        while found := _TOKEN.search(text, end):
            parts.append(text[end : found.start()])
            word, end = found["word"], found.end()
            if word is None or word in _NOT_A_KEY:
                parts.append(found[0])
                continue
            key = _longest_key(word, known)
            if key is None:
                raise ExpressionError(_unknown(word, known))
            name = f"key{len(self._names)}"
            self._names[name] = key
            parts.append(f" {name} ")
            end = found.start() + len(key)
        return "".join(parts) + text[end:]

    def _compile(self, node: ast.expr, depth: int = 0) -> Evaluate:
        """Returns the function of a node. Each kind of node is on the list below, or is refused."""
        if depth > _DEEPEST:
            raise ExpressionError(f"'{self.text[:100]}' is nested too deeply")
        match node:
            case ast.Constant(value=str() | int() | float() | None as value):
                return lambda fields: value
            case ast.Name(id=name) if name in self._names:
                key = self._names[name]
                return lambda fields: fields[key]
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                items = [self._compile(each, depth + 1) for each in elements]
                return lambda fields: [item(fields) for item in items]
            case ast.BoolOp(op=op, values=values):
                parts = [self._compile(each, depth + 1) for each in values]
                return _all_of(parts) if isinstance(op, ast.And) else _any_of(parts)
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                inner = self._compile(operand, depth + 1)
                return _negated(inner) if isinstance(node.op, ast.Not) else lambda fields: -_number(inner(fields))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return _computed(_BINARY[type(op)], self._compile(left, depth + 1), self._compile(right, depth + 1))
            case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARE for op in ops):
                sides = [self._compile(each, depth + 1) for each in (left, *comparators)]
                pairs = zip(ops, sides, sides[1:], strict=False)
                return _all_of([_compared(_COMPARE[type(op)], left, right) for op, left, right in pairs])
        raise ExpressionError(f"'{self.text[:100]}' has a part that is not allowed. {_HELP}")


_HELP = "Write comparisons such as \"hparams/lr > 1e-4 and status == 'finished'\"; a division has spaces around '/'."


def _compared(compare: Callable[[Any, Any], Any], left: Evaluate, right: Evaluate) -> Evaluate:
    """Returns the comparison: None, which matches nothing, if a key is missing or the types don't fit."""

    def evaluate(fields: Fields) -> Any:
        try:
            return compare(left(fields), right(fields))
        except (KeyError, TypeError, ValueError, ArithmeticError):
            return None

    return evaluate


def _computed(compute: Callable[[Any, Any], Any], left: Evaluate, right: Evaluate) -> Evaluate:
    return lambda fields: compute(_number(left(fields)), _number(right(fields)))


def _number(value: Any) -> float | int:
    """Returns a number as it is. A text times a number could fill the memory, as could integers without end.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, (int, float)) or (isinstance(value, int) and abs(value) > sys.float_info.max):
        raise TypeError(f"{value!r} is not a number")
    return value


def _negated(inner: Evaluate) -> Evaluate:
    def evaluate(fields: Fields) -> Any:
        value = inner(fields)
        return None if value is None else not value

    return evaluate


def _all_of(parts: list[Evaluate]) -> Evaluate:
    """Returns `and`: false if a part is, else None if one is None (SQL's three-valued logic)."""

    def evaluate(fields: Fields) -> Any:
        values = [part(fields) for part in parts]
        return False if any(value is not None and not value for value in values) else None if None in values else True

    return evaluate


def _any_of(parts: list[Evaluate]) -> Evaluate:
    """Returns `or`: true if a part is, else None if one is None."""

    def evaluate(fields: Fields) -> Any:
        values = [part(fields) for part in parts]
        return True if any(values) else None if None in values else False

    return evaluate


def _longest_key(word: str, known: Collection[str]) -> str | None:
    """Returns the longest known key that the word begins with and that ends where a name may end."""
    ends = (end for end in range(len(word), 0, -1) if end == len(word) or not re.match(r"[\w/]", word[end]))
    return next((word[:end] for end in ends if word[:end] in known), None)


def _unknown(word: str, known: Collection[str]) -> str:
    """Returns the error for a word that is no key: the keys that it may mean."""
    word = word.rstrip("./-@")
    parts = word.split("/")
    for cut in range(1, len(parts)):
        left, right = "/".join(parts[:cut]), "/".join(parts[cut:])
        if all(part in known or _NUMBER.fullmatch(part) for part in (left, right)):
            return f"unknown key '{word}'. To divide, write spaces around the '/': '{left} / {right}'."
    ending = sorted(key for key in known if key.endswith(f"/{word}"))
    if ending:
        return f"unknown key '{word}'; did you mean '{ending[0]}'?"
    near = difflib.get_close_matches(word, known, n=1)
    return f"unknown key '{word}'; " + (f"did you mean '{near[0]}'?" if near else "'trackkit ls --json' lists the keys")
