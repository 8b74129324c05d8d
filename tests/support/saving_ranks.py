"""Saves checkpoints under torchrun, into `OUT/ckpt`: `saving_ranks.py OUT ddp|fsdp2|fsdp2-async|huggingface [killed]`.

Rank 1 writes its first parts late: by two seconds with Hugging Face, by three with `fsdp2-async`. It may be killed as
it writes its second ones.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from trackkit import TrackKit


def main() -> None:
    out, kind, killed = Path(sys.argv[1]), sys.argv[2], "killed" in sys.argv[3:]
    torch.set_num_threads(1)
    if kind == "huggingface":
        import transformers

        if os.environ["RANK"] == "1":
            transformers.Trainer._save_rng_state = _late(transformers.Trainer._save_rng_state, 2.0, killed)  # type: ignore[method-assign]  # noqa: SLF001 -- the last file that a rank writes
        from tests.support.huggingface_toys import make_trainer

        make_trainer(out / "ckpt", [TrackKit(dir=str(out))], save_strategy="steps", save_steps=2).train()
    else:
        if os.environ["RANK"] == "1":
            from torch.distributed.checkpoint.filesystem import FileSystemWriter as writer

            seconds = 3.0 if kind == "fsdp2-async" else 0.0
            writer.write_data = _late(writer.write_data, seconds, killed)  # type: ignore[method-assign]
        _lightning(out, kind)


def _late(save: Any, seconds: float, killed: bool) -> Any:
    pauses = [seconds]

    def late(*args: Any) -> Any:
        if killed and not pauses:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(pauses.pop() if pauses else 0.0)
        return save(*args)

    return late


def _lightning(out: Path, kind: str) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.plugins.io import AsyncCheckpointIO
    from lightning.pytorch.strategies import ModelParallelStrategy
    from torch.distributed.fsdp import fully_shard

    from tests.support.lightning_toys import Logging, data, trainer

    class Sharded(Logging):
        def configure_model(self) -> None:
            assert self.device_mesh is not None
            fully_shard(self.layer, mesh=self.device_mesh["data_parallel"])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", float(3 - self.current_epoch), sync_dist=True)

    best = ModelCheckpoint(out / "ckpt", monitor="val_loss", save_top_k=-1)
    sharded = kind.startswith("fsdp2")
    strategy = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1) if sharded else kind
    module = Sharded() if sharded else Logging()
    given: dict[str, Any] = {"strategy": strategy, "devices": 2, "enable_checkpointing": True, "max_epochs": 2}
    given["plugins"] = [AsyncCheckpointIO()] if kind == "fsdp2-async" else None
    trainer([TrackKit(dir=str(out)), best], **given).fit(module, data(4), data(2, seed=5))


if __name__ == "__main__":
    main()
