"""The gradient norm, compared with one computed here in Python."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.callback_bench import Bench, announced
from trackkit.callbacks.grad_norm import GradNorm
from trackkit.engine.records import Gradients


def stepping(*grads: torch.Tensor | None) -> torch.optim.Optimizer:
    """Returns an optimizer whose parameters have these gradients."""
    parameters = []
    for grad in grads:
        shape = (2,) if grad is None else tuple(grad.shape)
        dtype = torch.float32 if grad is None else grad.dtype
        parameter = nn.Parameter(torch.zeros(shape, dtype=dtype))
        parameter.grad = grad
        parameters.append(parameter)
    return torch.optim.SGD(parameters, lr=0.1)


def expected(*grads: torch.Tensor) -> float:
    """Returns the norm in Python's own arithmetic."""
    dense = [grad.to_dense() if grad.layout is not torch.strided else grad for grad in grads]
    return math.sqrt(math.fsum(abs(value) ** 2 for grad in dense for value in grad.flatten().tolist()))


def noise(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    wide = torch.complex128 if dtype.is_complex else torch.float64
    return (torch.randn(*shape, generator=generator, dtype=wide) * scale).to(dtype)


@pytest.mark.parametrize(
    "grads",
    [
        [noise(3, 4), noise(5)],
        [noise(3, 4, dtype=torch.float64)],
        [noise(30, 40, dtype=torch.bfloat16), noise(50, dtype=torch.bfloat16)],
        [noise(30, 40, dtype=torch.float16, scale=500.0)],
        [noise(4, dtype=torch.float64), noise(5), noise(6, dtype=torch.bfloat16)],
        [noise(3, 4, dtype=torch.complex64), noise(5)],
        [noise(7, dtype=torch.complex128)],
        [noise(6, 4).relu().to_sparse(), noise(5)],
        [noise(6, 4).to_sparse(1)],
        [torch.zeros(3)],
        [noise(1).reshape(()), noise(2)],
        [noise(8, 8).t()[::2]],
    ],
    ids=lambda grads: "+".join(str(grad.dtype).removeprefix("torch.") for grad in grads),
)
def test_norm_is_the_root_of_the_sum_of_squares(grads: list[torch.Tensor]) -> None:
    before = [grad.clone() for grad in grads]
    values = announced(GradNorm(), stepping(*grads, None))
    assert values == {"batch/grad_norm": pytest.approx(expected(*grads), rel=1e-6)}
    assert all(torch.equal(grad.to_dense(), kept.to_dense()) for grad, kept in zip(grads, before, strict=True))


def test_duplicate_rows_of_a_sparse_gradient_add_up() -> None:
    embedding = nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1, 1, 4])).square().sum().backward()
    grad = embedding.weight.grad
    assert grad is not None
    values = announced(GradNorm(), torch.optim.SGD(embedding.parameters(), lr=0.1))
    assert values["batch/grad_norm"] == pytest.approx(expected(grad), rel=1e-6)


def test_loss_scale_is_divided_out() -> None:
    grads = [noise(3), noise(4)]
    values = announced(GradNorm(per_layer=True), stepping(*(grad * 8 for grad in grads)), scale=torch.tensor(8.0))
    assert values["batch/grad_norm"] == pytest.approx(expected(*grads))
    assert values["batch/grad_norm/layer/parameter_1"] == pytest.approx(expected(grads[1]))


def test_per_layer_numbers_parameters_without_a_gradient_too() -> None:
    grads = [noise(3), None, noise(4)]
    values = announced(GradNorm(per_layer=True), stepping(*grads))
    layers = {key: value for key, value in values.items() if "/layer/" in key}
    assert layers == {
        "batch/grad_norm/layer/parameter_0": pytest.approx(expected(noise(3))),
        "batch/grad_norm/layer/parameter_2": pytest.approx(expected(noise(4))),
    }


def test_per_layer_has_the_names_of_the_models_parameters() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Tanh(), torch.nn.Linear(1, 1))
    module(torch.ones(3, 2)).sum().backward()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    bench = Bench(GradNorm(per_layer=True))
    bench.tracker.gradients(Gradients(optimizer, module=module))
    layers = {key: value for key, value in bench.step(0.0).items() if "/layer/" in key}
    assert layers == {
        f"batch/grad_norm/layer/{name.replace('.', '/')}": pytest.approx(expected(parameter.grad))
        for name, parameter in module.named_parameters()
    }


def test_several_optimizers_have_own_norms_and_the_last_is_the_norm() -> None:
    bench = Bench(GradNorm())
    for name, grad in (("G", noise(3)), ("D", noise(4))):
        bench.tracker.gradients(Gradients(stepping(grad), name=name))
    values = bench.step(0.0)
    assert values["batch/grad_norm/G"] == pytest.approx(expected(noise(3)))
    assert values["batch/grad_norm"] == values["batch/grad_norm/D"] == pytest.approx(expected(noise(4)))


@pytest.mark.parametrize(("optimizer", "more"), [(stepping(None), {}), (stepping(noise(3)), {"clipped": True})])
def test_no_norm_without_gradients_or_after_clipping(optimizer: Any, more: dict[str, Any]) -> None:
    assert announced(GradNorm(), optimizer, **more) == {}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nonfinite_gradient_gives_a_nonfinite_norm(value: float) -> None:
    norm = announced(GradNorm(), stepping(torch.tensor([1.0, value])))["batch/grad_norm"]
    assert not math.isfinite(norm)


def test_norm_does_not_change_with_later_gradients() -> None:
    bench, grad = Bench(GradNorm()), noise(3)
    bench.tracker.gradients(Gradients(stepping(grad)))
    before = expected(grad)
    grad.mul_(100)
    assert bench.step(0.0)["batch/grad_norm"] == pytest.approx(before)
