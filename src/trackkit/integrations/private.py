"""Describes the private names that an integration's `_compat.py` reaches, and finds those that are gone."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterable
from importlib import import_module
from typing import Any, NamedTuple


class Private(NamedTuple):
    """A name that may change without notice.

    Attributes:
        name: `module:name` or `module:Class.attribute`; the attribute may be one that only instances have. A module
            with a `missing` of its own may name things otherwise.
        why: what it is used for.
        checked: the versions it was checked on.
        when_gone: what happens without it.
    """

    name: str
    why: str
    checked: str
    when_gone: str


def missing(names: Iterable[Private]) -> list[str]:
    """Returns the names that the installed versions lack."""
    return [each.name for each in names if not _exists(each.name)]


def _exists(name: str) -> bool:
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(module)
    except ImportError:
        return False
    for part in path.split("."):
        if not hasattr(found, part):
            return isinstance(found, type) and part in _instance_attributes(found)
        found = getattr(found, part)
    return True


def _instance_attributes(kind: type) -> set[str]:
    """Returns the names of annotated fields, and of the attributes that the methods set."""
    methods = [each for base in kind.__mro__ for each in vars(base).values() if hasattr(each, "__code__")]
    steps = (step for method in methods for step in dis.get_instructions(method))
    return {*inspect.get_annotations(kind), *(step.argval for step in steps if step.opname == "STORE_ATTR")}
