"""Training loops of many kinds, each with the truth: weights, and the norm of every step before clipping.

Each takes a function that makes the tracker, `trackkit.loop` or `Untracked`, and trains 8 steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.checkpoint import checkpoint

STEPS = 8


@dataclass
class Trained:
    """The truth of a training.

    Attributes:
        weights: at its end.
        norms: of each step's gradients, unscaled, before clipping; `others` those of the second optimizer.
    """

    weights: dict[str, torch.Tensor]
    norms: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)


class Untracked:
    """Replaces what `trackkit.loop` returns."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __enter__(self) -> Untracked:
        return self

    def __exit__(self, *_: object) -> None: ...

    def batches(self, loader: Iterable[Any]) -> Iterable[Any]:
        return loader

    def step(self, *args: Any, **kwargs: Any) -> None: ...


Make = Callable[..., Any]


def network(unused: bool = False) -> nn.Module:
    torch.manual_seed(7)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    if unused:
        net.register_module("spare", nn.Linear(3, 3))
        used: Any = net[:5]
        net.forward = used.forward  # type: ignore[method-assign]
    return net


def batches(count: int = STEPS) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    made = [torch.randn(4, 6, generator=generator) for _ in range(count)]
    return [(each, each.sum(1, keepdim=True).sin()) for each in made]


def true_norm(parameters: Iterable[nn.Parameter], scale: float = 1.0) -> float:
    grads = [each.grad.detach().double().flatten() for each in parameters if each.grad is not None]
    return float(torch.linalg.vector_norm(torch.cat(grads))) / scale


def train(
    make: Make,
    net: nn.Module | None = None,
    optimizer: Any = None,
    accumulation: int = 1,
    clip: float = 0.1,
    forward: Callable[[torch.Tensor], torch.Tensor] | None = None,
    step: Callable[[], Any] | None = None,
    around: Callable[[], Any] | None = None,
    wrapped: Any = None,
    **given: Any,
) -> Trained:
    """Trains with one optimizer."""
    net = net or network()
    optimizer = optimizer or torch.optim.AdamW(net.parameters(), lr=0.01)
    truth = Trained({})
    with make(net, wrapped or optimizer, total_steps=STEPS, **given) as track:
        for number, (x, y) in enumerate(track.batches(batches(STEPS * accumulation))):
            loss: Any = nn.functional.mse_loss((forward or net)(x), y)
            if around is None:
                (loss / accumulation).backward()
            else:
                with around():
                    (loss / accumulation).backward()
            if (number + 1) % accumulation == 0:
                truth.norms.append(true_norm(net.parameters()))
                if clip:
                    clip_grad_norm_(net.parameters(), clip)
                (step or (wrapped or optimizer).step)()
                optimizer.zero_grad()
            track.step(loss)
    truth.weights = net.state_dict()
    return truth


def adamw(make: Make) -> Trained:
    return train(make)


def fused(make: Make) -> Trained:
    net = network()
    return train(make, net, torch.optim.AdamW(net.parameters(), lr=0.01, fused=True))


def foreach_sgd(make: Make) -> Trained:
    net = network()
    return train(make, net, torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, foreach=True), clip=0.0)


def derived_optimizer(make: Make) -> Trained:
    class Derived(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    net = network()
    return train(make, net, Derived(net.parameters(), lr=0.01))


def accumulation(make: Make) -> Trained:
    return train(make, accumulation=3)


def bf16(make: Make) -> Trained:
    net = network()

    def forward(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net(x).float()  # type: ignore[no-any-return]

    return train(make, net, forward=forward)


def unused_parameters(make: Make) -> Trained:
    return train(make, network(unused=True))


def reentrant_checkpointing(make: Make) -> Trained:
    net = network()
    first, rest = net[:2], net[2:]  # type: ignore[index]

    def forward(x: torch.Tensor) -> torch.Tensor:
        return rest(checkpoint(first, x.requires_grad_(), use_reentrant=True))  # type: ignore[no-any-return]

    return train(make, net, forward=forward)


def compiled_model(make: Make) -> Trained:
    net = network()
    return train(make, net, forward=torch.compile(net, backend="aot_eager"))


def compiled_step(make: Make) -> Trained:
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=torch.tensor(0.01))

    @torch.compile(backend="eager")
    def step() -> None:
        optimizer.step()

    return train(make, net, optimizer, step=step)


def compiled_training_step(make: Make) -> Trained:
    net, truth = network(), Trained({})
    optimizer = torch.optim.AdamW(net.parameters(), lr=torch.tensor(0.01))

    @torch.compile(backend="eager")
    def step(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss: Any = nn.functional.mse_loss(net(x), y)
        loss.backward()
        norm = clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()
        return loss, norm

    with make(net, optimizer, total_steps=STEPS) as track:
        for x, y in track.batches(batches()):
            loss, norm = step(x, y)
            truth.norms.append(norm.item())
            track.step(loss)
    truth.weights = net.state_dict()
    return truth


def compiled_autograd(make: Make) -> Trained:
    from torch._dynamo.compiled_autograd import _enable

    return train(make, around=lambda: _enable(torch.compile(backend="eager", fullgraph=True)))


def wrapped_optimizer(make: Make) -> Trained:
    from accelerate import Accelerator

    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    return train(make, net, optimizer, wrapped=Accelerator(cpu=True).prepare(optimizer))


def _scaled(make: Make, told: bool, late: bool = False, **given: Any) -> Trained:
    """Trains with a gradient scaler, of which one step overflows."""
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, **given)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    truth = Trained({})
    with make(net, optimizer, total_steps=STEPS, **({"scaler": scaler} if told else {})) as track:
        for number, (x, y) in enumerate(track.batches(batches())):
            loss: Any = nn.functional.mse_loss(net(x), y)
            scale = scaler.get_scale()
            scaler.scale(loss * float("inf") if number == 4 else loss).backward()
            truth.norms.append(true_norm(net.parameters(), scale))
            if number != 4:
                scaler.unscale_(optimizer)
                clip_grad_norm_(net.parameters(), 0.1)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            track.step(loss, scaler=scaler if late else None)
    truth.weights = net.state_dict()
    return truth


def scaler_told(make: Make) -> Trained:
    return _scaled(make, told=True)


def scaler_told_late(make: Make) -> Trained:
    return _scaled(make, told=False, late=True)


def scaler_found(make: Make) -> Trained:
    return _scaled(make, told=False)


def scaler_fused(make: Make) -> Trained:
    return _scaled(make, told=True, fused=True)


def two_optimizers(make: Make) -> Trained:
    """A discriminator's step, then a generator's, whose backward also reaches the discriminator."""
    torch.manual_seed(5)
    maker, judge = nn.Linear(6, 6), nn.Linear(6, 1)
    optimizers = [torch.optim.SGD(judge.parameters(), lr=0.1), torch.optim.AdamW(maker.parameters(), lr=0.01)]
    truth = Trained({})
    with make([maker, judge], optimizers, total_steps=STEPS) as track:
        for x, _ in track.batches(batches()):
            optimizers[0].zero_grad()
            loss: Any = judge(x).sigmoid().mean() - judge(maker(x).detach()).sigmoid().mean()
            loss.backward()
            truth.others.append(true_norm(judge.parameters()))
            clip_grad_norm_(judge.parameters(), 0.01)
            optimizers[0].step()
            optimizers[1].zero_grad()
            judge(maker(x)).sigmoid().mean().backward()
            truth.norms.append(true_norm(maker.parameters()))
            clip_grad_norm_(maker.parameters(), 0.01)
            optimizers[1].step()
            track.step(loss)
    truth.weights = {**maker.state_dict(prefix="maker."), **judge.state_dict(prefix="judge.")}
    return truth


def lbfgs(make: Make) -> Trained:
    """The norm is that of the last closure."""
    net = network()
    optimizer: Any = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=3)
    truth, norms = Trained({}), [0.0]
    with make(net, optimizer, total_steps=STEPS) as track:
        for x, y in track.batches(batches()):

            def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> Any:
                optimizer.zero_grad()
                loss: Any = nn.functional.mse_loss(net(x), y)
                loss.backward()
                norms.append(true_norm(net.parameters()))
                return loss

            loss = optimizer.step(closure)
            truth.norms.append(norms[-1])
            track.step(loss)
    truth.weights = net.state_dict()
    return truth


CASES: dict[str, Callable[[Make], Trained]] = {
    each.__name__: each
    for each in (
        *(adamw, fused, foreach_sgd, derived_optimizer, accumulation, bf16, unused_parameters),
        *(reentrant_checkpointing, compiled_model, compiled_step, compiled_training_step, compiled_autograd),
        *(wrapped_optimizer, scaler_told, scaler_told_late, scaler_found, scaler_fused, two_optimizers, lbfgs),
    )
}
