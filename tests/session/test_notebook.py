"""In a real Jupyter kernel, the cells print the same with and without TrackKit, and the console is recorded."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

from tests.support.processes import clean_env
from trackkit import read_run

SETUP = """
import sys, warnings
warnings.filterwarnings("ignore")
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

class Model(BoringModel):
    def training_step(self, batch, number):
        print("step", number, flush=True)
        sys.stderr.write(f"warned {number}\\n")
        return super().training_step(batch, number)

def train(*callbacks):
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    Trainer(max_steps=3, limit_val_batches=0, default_root_dir="out", callbacks=list(callbacks), **off).fit(Model())
"""


def test_cells_print_the_same_and_are_recorded(tmp_path: Path) -> None:
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path), env=clean_env())

    def run(cell: str) -> dict[str, str]:
        streams: dict[str, str] = defaultdict(str)

        def keep(message: dict[str, Any]) -> None:
            content = message["content"]
            assert message["msg_type"] != "error", content
            if message["msg_type"] == "stream":
                streams[content["name"]] += content["text"]

        client.execute_interactive(cell, timeout=300, output_hook=keep)
        return streams

    try:
        run(SETUP)
        bare = run("train()")
        tracked = run("from trackkit import TrackKit; train(TrackKit())")
        run("import trackkit; trackkit.finish()")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert bare["stdout"] == tracked["stdout"] == "step 0\nstep 1\nstep 2\n"
    own = [line for line in tracked["stderr"].splitlines(keepends=True) if line.startswith("trackkit: ")]
    assert len(own) == 1
    assert tracked["stderr"].replace(own[0], "") == bare["stderr"]
    printed = [line.text for line in read_run(tmp_path / "out").console]
    assert [text for text in printed if text.startswith("step")] == ["step 0", "step 1", "step 2"]
    assert "warned 2" in printed
