"""What importing TrackKit costs and loads, and that one class serves every framework in any order of imports."""

from __future__ import annotations

import ast
import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import trackkit
from tests.support.processes import run_python
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink

SOURCE = Path(trackkit.__file__).parent
FOREIGN = {"torch", "lightning", "pytorch_lightning", "transformers", "accelerate", "wandb", "omegaconf", "pynvml"}


def _run(code: str, cwd: Path) -> str:
    done = run_python(code, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_no_framework(tmp_path: Path) -> None:
    """Nor does making an instance. (How long it takes: `benchmarks/import_time.py`.)"""
    code = f"""
import sys
import trackkit
assert not {FOREIGN!r} & set(sys.modules), sorted({FOREIGN!r} & set(sys.modules))
trackkit.TrackKit()
loaded = ({FOREIGN!r} - {{"omegaconf"}}) & set(sys.modules)
assert not loaded, loaded
"""
    _run(code, tmp_path)


def _at_import(tree: ast.AST) -> Iterator[str]:
    """Modules that are imported when the file is: those in functions and under TYPE_CHECKING are not."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from _at_import(ast.Module(node.orelse, []))
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _at_import(node)


def _ever(tree: ast.AST) -> Iterator[str]:
    """Modules that are imported anywhere but under TYPE_CHECKING."""
    yield from _at_import(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _at_import(node)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_no_framework(path: Path) -> None:
    """Only `integrations/` imports a framework, and only within functions; `sync/` may import wandb there."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not FOREIGN & {name.split(".")[0] for name in _at_import(tree)}
    if "integrations" not in path.parts:
        own = FOREIGN - {"torch", "omegaconf", "pynvml"} - ({"wandb"} if path.parent.name == "sync" else set())
        assert not own & {name.split(".")[0] for name in _ever(tree)}


def test_the_check_sees_an_import_wherever_it_hides() -> None:
    """In a class body, a try, an else of TYPE_CHECKING: at import; in a method: later."""
    tree = ast.parse(
        "try:\n import a\nexcept ImportError:\n pass\nclass C:\n import b\n def f(self):\n  import c.d\n"
        "if TYPE_CHECKING:\n import e\nelse:\n from f.g import h\n"
    )
    assert list(_at_import(tree)) == ["a", "b", "f.g"]
    assert set(_ever(tree)) == {"a", "b", "c.d", "f.g"}


BASES = """
from trackkit import TrackKit
from transformers import TrainerCallback
import lightning.pytorch as pl
import pytorch_lightning as ptl
kit = globals().get("kit") or TrackKit()
for base in (TrainerCallback, pl.Callback, ptl.Callback):
    assert isinstance(kit, base), base
    assert issubclass(TrackKit, base), base
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
assert INTEGRATION_TO_CALLBACK["trackkit"] is TrackKit
from tests.support.huggingface_toys import make_trainer
from tests.support.toy import Recipe, with_lightning
from tests.support.local_log import local_run
from pathlib import Path
import trackkit
with_lightning(Recipe(epochs=1), Path("pl"), [kit])
make_trainer("hf", [kit]).train()
trackkit.finish()
for name in ("pl", "hf"):
    run = local_run(Path(name))
    assert len(run.history("batch/loss")) > 2 and run.run["status"] == "finished", (name, run.run)
print("good")
"""

ORDERS = {
    "trackkit first": "import trackkit",
    "frameworks first": "import transformers, lightning.pytorch, pytorch_lightning; import trackkit",
    "in between": "import transformers; import trackkit; import lightning.pytorch",
    "instance first": "import trackkit; kit = trackkit.TrackKit()",
}


@pytest.mark.parametrize("order", ORDERS)
def test_one_object_trains_with_both_frameworks_in_any_order_of_imports(order: str, tmp_path: Path) -> None:
    """`isinstance` holds for three bases, `report_to` is registered, and one instance records a run of each."""
    assert _run(ORDERS[order] + BASES, tmp_path).splitlines()[-1] == "good"


def test_without_an_import_transformers_says_what_it_knows(tmp_path: Path) -> None:
    """`report_to="trackkit"` needs `import trackkit` before `Trainer(...)`, and no sooner."""
    code = """
from transformers import Trainer, TrainingArguments
import torch
args = TrainingArguments("out", report_to="trackkit", use_cpu=True)
try:
    Trainer(torch.nn.Linear(1, 1), args)
except ValueError as error:
    assert "trackkit is not supported" in str(error), error
else:
    raise AssertionError("transformers took an unknown integration")
import trackkit
trainer = Trainer(torch.nn.Linear(1, 1), args)
assert any(isinstance(each, trackkit.TrackKit) for each in trainer.callback_handler.callbacks)
print("good")
"""
    assert _run(code, tmp_path).splitlines()[-1] == "good"


def test_an_instance_can_be_copied_and_pickled_with_both_frameworks_loaded() -> None:
    """Settings and sinks come along, before a training and after one; the open run does not."""
    import lightning.pytorch as pl
    from transformers import TrainerCallback

    kit = TrackKit(project="p", callbacks={"lr": False}, sinks=[MemorySink()])
    for twin in (copy.deepcopy(kit), pickle.loads(pickle.dumps(kit))):
        assert twin is not kit
        assert twin.config == kit.config
        assert twin.config is not kit.config
        assert isinstance(twin, pl.Callback)
        assert isinstance(twin, TrainerCallback)


def test_an_instance_is_copied_while_its_run_is_open(tmp_path: Path) -> None:
    """As Hugging Face's and Lightning's own code does with a trainer's callbacks."""
    from tests.support.huggingface_toys import make_trainer

    sink = MemorySink()
    kit = TrackKit(sinks=[sink])
    make_trainer(tmp_path, [kit]).train()
    twin = pickle.loads(pickle.dumps(kit))
    assert twin.config == kit.config
    make_trainer(tmp_path / "twin", [twin]).train()
    assert [step for step, _ in sink.history("batch/loss")] == [1, 2, 4, 6], "the twin writes to its own sinks"
    assert sink.columns["final/status"] == "finished"


def test_hydra_instantiates_it() -> None:
    """`_target_: trackkit.TrackKit`, with nested settings, alone and among a trainer's callbacks."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    node = OmegaConf.create(
        """
        callbacks:
          - _target_: trackkit.TrackKit
            project: my-project
            tags: [a, b]
            callbacks: {grad_norm: {per_layer: true}, lr: false}
        """
    )
    (kit,) = instantiate(node).callbacks
    assert isinstance(kit, TrackKit)
    assert (kit.config.project, kit.config.tags) == ("my-project", ["a", "b"])
    assert kit.config.callbacks == {"grad_norm": {"per_layer": True}, "lr": False}
