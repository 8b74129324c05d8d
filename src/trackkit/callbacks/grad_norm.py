"""Measures the gradient norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from trackkit.engine import ranks
from trackkit.engine.callback import Callback, Values
from trackkit.engine.norms import are_sharded, holders, norms_of, own_parts, with_gradients
from trackkit.engine.ranks import SHARDS
from trackkit.schema.keys import sanitize

if TYPE_CHECKING:
    import torch

    from trackkit.engine.records import Gradients, Moment
    from trackkit.engine.window import Window


class GradNorm(Callback):
    """Measures the global L2 norm of a step's gradients: unscaled, before clipping, over the optimizer's parameters.

    Computes it only on steps that may make a row, with one fused kernel per device and type, without reading it. Where
    gradients are sharded (FSDP2, tensor parallelism), each rank gives the sum of squares of its own part, divided by
    the number of ranks that have the same part; rank 0 adds them up. No collective is issued.

    | key | unit | what |
    |---|---|---|
    | `batch/grad_norm` | L2 | of the optimizer that stepped last |
    | `batch/grad_norm/<optimizer>` | L2 | per optimizer, if there are several |
    | `batch/grad_norm/layer/<parameter>` | L2 | per parameter, with `per_layer` |

    Args:
        per_layer: records one value per parameter too, by its name: `batch/grad_norm/layer/encoder/weight`.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("per_layer",)
    REDUCE: ClassVar[Mapping[str, str]] = {SHARDS: "root_sum"}

    def __init__(self, per_layer: bool = False) -> None:
        if not isinstance(per_layer, bool):
            raise TypeError(f"'per_layer' must be true or false; got {per_layer!r}")
        self.per_layer = per_layer
        self._norms: dict[str, torch.Tensor] = {}
        self._names: dict[int, str] = {}
        self._missed = ""
        self._measured = False

    def unused(self) -> Mapping[str, str]:
        missed = self.per_layer and not self._measured and self._missed
        return {"callbacks: grad_norm: per_layer": missed} if missed else {}

    def gradients(self, gradients: Gradients) -> None:
        if gradients.clipped:
            self._missed = "the framework clips the gradients before TrackKit sees them"
            return
        import torch

        parameters = with_gradients(gradients.optimizer)
        grads = [parameter.grad for _, parameter in parameters]
        if not grads:
            return
        sharded = are_sharded(grads) and ranks.current().world_size > 1
        with torch.no_grad():
            norms = norms_of(own_parts(grads)) if gradients.norms is None else gradients.norms
            stacked = torch.stack(norms)
            if gradients.scale is not None:
                stacked = stacked / gradients.scale.to(stacked.device)
            total = _squares(stacked, grads) if sharded else torch.linalg.vector_norm(stacked)
        prefix = SHARDS if sharded else ""
        self._norms[f"{prefix}batch/grad_norm"] = total
        if gradients.name:
            self._norms[f"{prefix}batch/grad_norm/{gradients.name}"] = total
        if sharded:
            self._missed = "the gradients are sharded"
        elif self.per_layer:
            self._measured = True
            for (index, parameter), norm in zip(parameters, norms, strict=True):
                scaled = norm if gradients.scale is None else norm / gradients.scale
                name = self._name(gradients, parameter) or f"{gradients.name or 'parameter'}_{index}"
                self._norms[f"batch/grad_norm/layer/{name}"] = scaled

    def _name(self, gradients: Gradients, parameter: torch.nn.Parameter) -> str:
        """Returns a parameter's name in the model, with slashes for dots; "" if the model does not have it."""
        if id(parameter) not in self._names and gradients.module is not None:
            named = gradients.module.named_parameters()
            self._names = {id(each): sanitize(name.replace(".", "/")) for name, each in named}
        return self._names.get(id(parameter), "")

    def forget(self) -> None:
        self._norms = {}

    def row(self, moment: Moment, window: Window) -> Values:
        norms, self._norms = self._norms, {}
        return norms


def _squares(norms: torch.Tensor, grads: Sequence[Any]) -> torch.Tensor:
    """Returns this rank's share of the sum of squares over all ranks, a scalar.

    Args:
        norms: of this rank's part of each gradient.
        grads: the gradients.
    """
    world_size = ranks.current().world_size
    counts = norms.new_tensor([holders(grad, world_size) for grad in grads])
    return (norms.square() / counts).sum()
