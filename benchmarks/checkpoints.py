"""Measures what a checkpoint costs the training thread and the disk, beside WandbCallback's and WandbLogger's.

    python benchmarks/checkpoints.py [--GB 1] [--rounds 3] [--saves 200]

Each tool gets files of one size, in rounds, in a process of its own, offline. Prints of each round the time
that the call took in the training thread, beyond the framework's own saving, and the disk space used beyond the file.
Then saves small checkpoints with top-k 3 to a server on this machine, and compares what it has with the retention rule.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.saving import Saver
from tests.wandb_server import WandbServer
from trackkit.checkpoints.aliases import wanted

TOOLS = ("trackkit", "WandbCallback", "WandbLogger")
LIMIT_MS, SHARE, TOP_K = 20.0, 0.02, 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--GB", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--saves", type=int, default=200)
    parser.add_argument("--child", choices=(*TOOLS, "many"))
    given = parser.parse_args()
    if given.child == "many":
        save_many(given.saves)
    elif given.child:
        measure(given.child, int(given.GB * 1e9), given.rounds)
    else:
        compare(given.GB, given.rounds)
        retain(given.saves)


def child(folder: str, *arguments: str, **env: str) -> str:
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    given = {**os.environ, "WANDB_SILENT": "true", "TRACKKIT_INDEX": os.devnull, "WANDB_LOG_MODEL": "checkpoint", **env}
    done = subprocess.run(command, cwd=folder, env=given, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def compare(gigabytes: float, rounds: int) -> None:
    medians = {}
    for tool in TOOLS:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            env = {"WANDB_MODE": "offline", "WANDB_DATA_DIR": folder, "WANDB_CACHE_DIR": folder, "WANDB_DIR": folder}
            lines = child(folder, "--child", tool, "--GB", str(gigabytes), "--rounds", str(rounds), **env).split("\n")
        times = [float(line.split()[1]) for line in lines if line.startswith("round")]
        medians[tool] = statistics.median(times)
        print(f"{tool}: {medians[tool]:.1f} ms per save of {gigabytes:g} GB")
        print("\n".join(f"  {line}" for line in lines if line), flush=True)
    ours, best = medians["trackkit"], min(medians[tool] for tool in TOOLS[1:])
    good = ours < LIMIT_MS and ours < SHARE * best
    print(f"{'ok' if good else 'MISSED'}: {ours:.2f} ms, {100 * ours / best:.2f}% of the faster peer's {best:.0f} ms")


def measure(tool: str, size: int, rounds: int) -> None:
    save, done = {"trackkit": trackkit, "WandbCallback": wandb_callback, "WandbLogger": wandb_logger}[tool]()
    home = Path.cwd()
    for number in range(1, rounds + 1):
        folder = home / "saves" / f"checkpoint-{number}"
        folder.mkdir(parents=True)
        path = folder / "model.ckpt"
        block = os.urandom(1 << 20)
        with path.open("wb") as file:
            for at in range(0, size, len(block)):
                file.write(block[: size - at])
        before = used(home)
        began = time.perf_counter()
        save(number, path)
        took = time.perf_counter() - began
        print(f"round {took * 1e3:.2f} ms, {(used(home) - before) / 1e6:.1f} MB more on disk", flush=True)
    done()
    print(f"at the end: {(used(home) - used(home / 'saves')) / 1e6:.1f} MB beside the files")


def used(folder: Path) -> int:
    """Returns the bytes on disk below a folder; of hard links, the file is counted once."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            stat = os.lstat(os.path.join(place, name))
            found[stat.st_ino] = stat.st_blocks * 512
    return sum(found.values())


Tool = tuple[Callable[[int, Path], object], Callable[[], object]]


def trackkit() -> Tool:
    saver = Saver(Path.cwd(), "offline", keep=100)
    return lambda step, path: saver.save(step, 1.0 / step, path=path.parent), saver.close


def wandb_callback() -> Tool:
    import wandb
    from transformers.integrations import WandbCallback

    run = wandb.init(project="p")
    callback = WandbCallback()
    callback._initialized = True  # noqa: SLF001 -- as its `setup` does, which needs a trainer

    def save(step: int, path: Path) -> None:
        args = SimpleNamespace(output_dir=str(path.parent.parent), run_name="run")
        state = SimpleNamespace(is_world_process_zero=True, global_step=step, epoch=float(step))
        callback.on_save(args, state, None)

    return save, run.finish


def wandb_logger() -> Tool:
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import WandbLogger

    logger = WandbLogger(project="p", log_model="all")
    run = logger.experiment
    checkpoints = ModelCheckpoint(monitor="val_loss", save_top_k=-1)

    def save(step: int, path: Path) -> None:
        checkpoints.best_k_models[str(path)] = checkpoints.current_score = torch.tensor(1.0 / step)
        checkpoints.best_model_path = str(path)
        logger.after_save_checkpoint(checkpoints)

    return save, run.finish


def save_many(saves: int) -> None:
    saver = Saver(Path.cwd(), "online", keep=TOP_K)
    kept: list[tuple[float, Path]] = []
    for step in range(saves):
        value = abs(step - saves * 0.6) + (step % 7)
        kept.append((value, saver.save(step, value, os.urandom(10_000))))
        kept.sort()
        for _, path in kept[TOP_K:]:
            path.unlink()
        del kept[TOP_K:]
        time.sleep(0.1)
    saver.close()


def retain(saves: int) -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, WandbServer() as server:
        child(folder, "--child", "many", "--saves", str(saves), **server.env(Path(folder)), WANDB_MODE="online")
        entries = Saver(Path(folder)).entries
        live = server.state.collection("model-toy").live
        names = wanted(each for each in entries if each.state == "committed")
        expected = {entry.digest: sorted(names[entry.number]) for entry in entries if entry.state == "committed"}
        found = {version.digest: sorted(version.aliases) for version in live}
        states = {state: sum(each.state == state for each in entries) for state in {each.state for each in entries}}
        print(f"{saves} saves, top-k {TOP_K}: {states}")
        print(f"{len(live)} versions, {sum(each.size for each in live)} bytes: {sorted(found.values())}")
        newest = [entry.digest for entry in entries[-TOP_K:]]
        best = [digest for digest, aliases in found.items() if {"best", "was-best"} & set(aliases)]
        print("ok" if found == expected and set(found) == {*newest, *best} else f"MISSED: expected {expected}")


if __name__ == "__main__":
    main()
