"""Trains a loop under torchrun, with and without TrackKit: `loop_ranks.py OUT ddp|fsdp2|fsdp2-silent|init`.

Saves `truth-RANK.pt`: weights of both trainings, and the true norms of each step.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import trackkit
from tests.support.loop_trainings import Untracked, batches, network


def main() -> None:
    out, kind = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    if kind == "init":
        _init()
    else:
        bare, _ = _train(Untracked, kind)
        tracked, norms = _train(trackkit.loop, kind)
        torch.save((bare, tracked, norms), out / f"truth-{dist.get_rank()}.pt")
    dist.destroy_process_group()


def _train(make: Any, kind: str) -> tuple[dict[str, torch.Tensor], list[float]]:
    net: Any = network()
    sharded = kind.startswith("fsdp2")
    if sharded:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
    else:
        net = nn.parallel.DistributedDataParallel(net, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    data = TensorDataset(*(torch.cat(each) for each in zip(*batches(12), strict=True)))
    loader = DataLoader(data, 4, sampler=DistributedSampler(data, shuffle=False))
    norms = []
    with make(net, optimizer, total_steps=12, every=4) as track:
        for _ in range(2):
            for x, y in track.batches(loader):
                loss: Any = nn.functional.mse_loss(net(x), y)
                loss.backward()
                norm: Any = clip_grad_norm_(net.parameters(), 0.1)
                norms.append(float(norm.full_tensor() if sharded else norm))
                optimizer.step()
                optimizer.zero_grad()
                if kind == "fsdp2":
                    track.step(loss, grad_norm=norms[-1])
                else:
                    track.step(loss)
    weights = net.state_dict()
    return {name: value.full_tensor() if sharded else value for name, value in weights.items()}, norms


def _init() -> None:
    run = trackkit.init(config={"lr": 0.1})
    for step in range(1, 4):
        run.log({"loss": step + dist.get_rank() / 2}, step)
    run.finish()


if __name__ == "__main__":
    main()
