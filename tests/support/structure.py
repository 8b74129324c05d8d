"""Reads the import graph of `src/trackkit` from its source, without importing it.

An import counts wherever it is written: at the top, in a function, under TYPE_CHECKING, or as the text
`"trackkit.module:Name"` of a registry that loads on first use.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

LAZY_NAME = re.compile(r"(trackkit(?:\.\w+)*):\w+")


@dataclass(frozen=True)
class Import:
    """One import.

    Attributes:
        source: the importing module.
        target: the imported name, e.g. `trackkit.engine.rows.Row`.
        when: `import` (with the module), `call` (in a function, or named in a registry) or `typing`.
        place: file and line.
    """

    source: str
    target: str
    when: str
    place: str


@dataclass(frozen=True)
class Package:
    """The package in the folder `root`, e.g. `src/trackkit`."""

    root: Path

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Maps dotted names to files; a folder's `__init__.py` has the folder's name."""
        return {self._name(path): path for path in sorted(self.root.rglob("*.py"))}

    @cached_property
    def imports(self) -> list[Import]:
        """Returns every import of every module, third-party ones included."""
        return [found for name, path in self.modules.items() for found in self._of_module(name, path)]

    @cached_property
    def files(self) -> set[tuple[str, str]]:
        """Returns the arrows between the package's own modules."""
        found = {(each.source, self._module(each.target)) for each in self.imports if self._is_own(each.target)}
        return {(source, target) for source, target in found if source != target}

    @cached_property
    def rooms(self) -> set[str]:
        """Returns the files and folders directly under the root; the root's own `__init__.py` is `trackkit`."""
        return {self.room(name) for name in self.modules}

    @cached_property
    def arrows(self) -> set[tuple[str, str]]:
        """Returns the arrows between rooms."""
        found = {(self.room(source), self.room(target)) for source, target in self.files}
        return {(source, target) for source, target in found if source != target}

    def room(self, module: str) -> str:
        """Returns the room of a module: `engine` for `trackkit.engine.rows`."""
        return module.split(".")[1] if "." in module else module

    def _name(self, path: Path) -> str:
        parts = path.relative_to(self.root.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def _is_own(self, name: str) -> bool:
        return name.split(".")[0] == self.root.name

    def _module(self, name: str) -> str:
        """Returns the module that `name` lies in: `trackkit.engine.rows.Row` lies in `trackkit.engine.rows`."""
        while name not in self.modules:
            name = name.rpartition(".")[0]
        return name

    def _of_module(self, name: str, path: Path) -> Iterator[Import]:
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node, when in walk(ast.parse(path.read_text(encoding="utf-8"))):
            place = f"{path.relative_to(self.root)}:{getattr(node, 'lineno', 0)}"
            for target in imported(node, package):
                yield Import(name, target, "call" if isinstance(node, ast.Constant) else when, place)


def walk(tree: ast.AST, when: str = "import") -> Iterator[tuple[ast.AST, str]]:
    """Yields every syntax node with when it runs: on `import`, on a `call`, or for `typing` only."""
    for node in ast.iter_child_nodes(tree):
        yield node, when
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from walk(ast.Module(node.body, []), "typing")
            yield from walk(ast.Module(node.orelse, []), when)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and when == "import":
            yield from walk(node, "call")
        else:
            yield from walk(node, when)


def imported(node: ast.AST, package: str = "") -> Iterator[str]:
    """Yields the dotted names that one syntax node imports; `package` resolves relative imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        yield from (f"{module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        found = LAZY_NAME.fullmatch(node.value)
        if found:
            yield found[1]


def circles(arrows: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Returns the groups of nodes that reach each other, each sorted: the circles of a graph."""
    arrows = set(arrows)
    nodes = sorted({node for arrow in arrows for node in arrow})
    following = {node: {target for source, target in arrows if source == node} for node in nodes}
    reached = {node: _reach(node, following.__getitem__) for node in nodes}
    groups = {tuple(other for other in nodes if other in reached[node] and node in reached[other]) for node in nodes}
    return sorted(list(group) for group in groups if group)


def _reach(start: str, following: Callable[[str], set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(following(start))
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(following(node))
    return found
