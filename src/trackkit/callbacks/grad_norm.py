"""Measures the gradient norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from trackkit.engine.callback import Callback, Values
from trackkit.engine.norms import are_sharded, norms_of, with_gradients
from trackkit.notices import logger
from trackkit.schema.keys import sanitize

if TYPE_CHECKING:
    import torch

    from trackkit.engine.records import Gradients, Moment
    from trackkit.engine.window import Window


class GradNorm(Callback):
    """Measures the global L2 norm of a step's gradients: unscaled, before clipping, over the optimizer's parameters.

    Computes it only on steps that may make a row, with one fused kernel per device and type, without reading it.

    | key | unit | what |
    |---|---|---|
    | `batch/grad_norm` | L2 | of the optimizer that stepped last |
    | `batch/grad_norm/<optimizer>` | L2 | per optimizer, if there are several |
    | `batch/grad_norm/layer/<parameter>` | L2 | per parameter, with `per_layer` |

    Args:
        per_layer: records one value per parameter too, by its name: `batch/grad_norm/layer/encoder/weight`.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("per_layer",)

    def __init__(self, per_layer: bool = False) -> None:
        if not isinstance(per_layer, bool):
            raise TypeError(f"'per_layer' must be true or false; got {per_layer!r}")
        self.per_layer = per_layer
        self._warned = False
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
        if are_sharded(grads):
            self._missed = "the gradients are sharded"
            # Combining the shards would need a collective, and TrackKit never issues one.
            if not self._warned:
                self._warned = True
                logger.warning("Gradients are sharded; their norm is not recorded.")
            return
        self._measured = True
        with torch.no_grad():
            norms = norms_of(grads) if gradients.norms is None else gradients.norms
            total = torch.linalg.vector_norm(torch.stack(norms))
            if gradients.scale is not None:
                total = total / gradients.scale.to(total.device)
        self._norms["batch/grad_norm"] = total
        if gradients.name:
            self._norms[f"batch/grad_norm/{gradients.name}"] = total
        if self.per_layer:
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
