"""Lines of console output: as many on the server as W&B makes of what was printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import clean_env
from tests.sync.test_sync import plain_wandb_sync, record, row_of, sync, wandb_files
from tests.wandb_server import WandbServer
from trackkit.integrations.wandb.files import read_run_file

PRINTED = {
    "empty lines": r"print('a\n\n\nb'); print(); print('c'); print(); print()",
    "no end of the last line": "print('a'); print('b', end='')",
    "carriage returns": r"[print('\rp', i, end='') for i in range(50)]; print(); print('a\r\nb\r\nc\r\n', end='')",
    "both streams": "[print(i, file=f, flush=True) for i in range(10) for f in (sys.stdout, sys.stderr)]",
    "escapes": r"print('\x1b[31mred\x1b[0m'); print('\x1b[0m'); print('a\x1b[2Bb'); print('a\x1b[3Ab', end='')",
    "spaces": r"print('  '); print('\t'); print('\x07')",
    "bars within bars": """
from tqdm import tqdm
for epoch in tqdm(range(4), mininterval=0):
    for step in tqdm(range(30), leave=False, position=1, mininterval=0):
        pass
    print('epoch', epoch)
""",
    "many": "[print(i) for i in range(3000)]",
}


@pytest.mark.parametrize("what", PRINTED)
def test_a_file_says_how_many_lines_there_will_be(wandb_server: WandbServer, tmp_path: Path, what: str) -> None:
    program = "import sys, wandb\nrun = wandb.init(project='p', id='r1', mode='offline')\n"
    program += f"{PRINTED[what]}\nrun.log({{'a': 1}})\nrun.finish()\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=clean_env(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (path,) = wandb_files(tmp_path)
    plain_wandb_sync(wandb_server, tmp_path, path.parent)
    assert read_run_file(path).console == len(wandb_server.state.run("r1").console) > 0


def test_lines_that_the_server_lost_are_told(wandb_server: WandbServer, tmp_path: Path) -> None:
    record(tmp_path / "out", "r1", 0, 40)
    sync(wandb_server, tmp_path, "r1")
    stream = wandb_server.state.run("r1").streams["output.log"]
    for place in sorted(stream)[5:]:
        del stream[place]
    (tmp_path / "out" / "trackkit-runs" / "r1" / "sync.json").unlink()
    printed = sync(wandb_server, tmp_path, "r1", code=1)
    assert row_of(printed, "r1")[6:] == ["5 of 40 lines", "none", "incomplete"]
    assert "35 of 40 lines of console output are not there" in printed
