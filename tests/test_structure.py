"""The layout: few rooms, few arrows between them, all in one direction, and no circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import trackkit
from tests.support.processes import ROOT, run_python
from tests.support.structure import Import, Package, circles, imported, walk

PACKAGE = Package(Path(trackkit.__file__).parent)
# Rooms of one line may import each other in one direction; every room may import the rooms of later lines.
LEVELS = (
    {"trackkit", "__main__"},
    {"cli", "kit", "launch"},
    {"reading", "sync"},
    {"integrations"},
    {"session"},
    {"settings", "callbacks", "checkpoints", "local_log", "record"},
    {"engine"},
    {"schema", "redaction"},
    {"notices", "errors"},
)
# Notices mask secrets before they are printed. A process that `trackkit run` started imports the whole package.
EXCEPTIONS = {("notices", "redaction"), ("launch", "trackkit")}
PUBLIC_NAMES = {"run", "runs", "log", "loop", "init", "finish"}
FRAMEWORKS = {"lightning", "pytorch_lightning", "transformers", "accelerate", "trl", "wandb"}
FOREIGN = FRAMEWORKS | {"torch", "omegaconf", "pynvml"}


def level(room: str) -> int:
    return next(number for number, rooms in enumerate(LEVELS) if room in rooms)


def top(each: Import) -> str:
    return each.target.split(".")[0]


def test_there_are_at_most_20_rooms_and_85_arrows() -> None:
    assert len(PACKAGE.rooms) <= 20, sorted(PACKAGE.rooms)
    assert len(PACKAGE.arrows) <= 85, sorted(PACKAGE.arrows)


def test_no_rooms_and_no_files_import_each_other_in_a_circle() -> None:
    assert circles(PACKAGE.arrows) == []
    assert circles(PACKAGE.files) == []


def test_rooms_import_downwards_only() -> None:
    upwards = {arrow for arrow in PACKAGE.arrows if level(arrow[0]) > level(arrow[1])}
    assert upwards <= EXCEPTIONS


def test_no_room_has_a_public_name() -> None:
    """Importing such a module would replace the name in the package."""
    assert not PUBLIC_NAMES & PACKAGE.rooms
    code = f"""
import importlib, trackkit
from trackkit import finish
for name in {sorted(PACKAGE.modules)!r}:
    importlib.import_module(name)
assert trackkit.finish is finish
assert trackkit.run is None
"""
    done = run_python(code, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr


def test_only_integrations_import_a_framework() -> None:
    """`sync` may import wandb. Imports for type checking don't count."""
    found = [each for each in PACKAGE.imports if each.when != "typing" and top(each) in FRAMEWORKS]
    allowed = {"integrations": FRAMEWORKS, "sync": {"wandb"}}
    assert found
    assert [each for each in found if top(each) not in allowed.get(PACKAGE.room(each.source), set())] == []


def test_no_file_imports_a_framework_or_torch_at_its_top() -> None:
    assert [each for each in PACKAGE.imports if each.when == "import" and top(each) in FOREIGN] == []


def test_importing_trackkit_loads_no_framework() -> None:
    """Nor does making an instance, or importing every module. For the time it takes: `benchmarks/import_time.py`."""
    code = f"""
import importlib, sys
import trackkit
def loaded(foreign):
    return sorted(foreign & set(sys.modules))
assert not loaded({FOREIGN!r}), loaded({FOREIGN!r})
trackkit.TrackKit()
for name in {sorted(PACKAGE.modules)!r}:
    importlib.import_module(name)
assert not loaded({FOREIGN - {"omegaconf"}!r}), loaded({FOREIGN!r})
"""
    done = run_python(code, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr


def test_no_test_imports_from_another_test_module() -> None:
    """Shared helpers are in `tests/support`."""
    tests = Package(ROOT / "tests")
    modules = {name for name in tests.modules if name.rpartition(".")[2].startswith("test_")}
    assert modules
    assert {(source, target) for source, target in tests.files if target in modules} == set()


def test_every_way_to_write_an_import_is_found() -> None:
    source = """
import a.b
try:
    from c import d
except ImportError:
    pass
class C:
    from .e import f
    def method(self):
        import g
if TYPE_CHECKING:
    import h
else:
    import i
LAZY = {"name": "trackkit.j.k:L"}
"""
    found = {(name, when) for node, when in walk(ast.parse(source)) for name in imported(node, "p.q")}
    expected = {"a.b": "import", "c.d": "import", "p.q.e.f": "import", "g": "call", "h": "typing", "i": "import"}
    assert found == {*expected.items(), ("trackkit.j.k", "import")}


@pytest.mark.parametrize(
    ("arrows", "expected"),
    [
        ([("a", "b"), ("b", "c")], []),
        ([("a", "b"), ("b", "a"), ("b", "c")], [["a", "b"]]),
        ([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("e", "d")], [["a", "b", "c"], ["d", "e"]]),
    ],
)
def test_circles_are_found(arrows: list[tuple[str, str]], expected: list[list[str]]) -> None:
    assert circles(arrows) == expected
