"""Counts the samples and tokens of a batch, without reading the device.

A tensor's shape alone does not show which dimension counts samples (time may come first), so it is compared with the
loader's batch size. If the two disagree, the count is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trackkit.integrations.huggingface import _compat

if TYPE_CHECKING:
    from trackkit.record.description import Description


class BatchSizes:
    """Counts the samples of one data loader's batches.

    Args:
        size: samples of a full batch; None if unknown.
        rest: samples of an epoch's last batch; None if it is full or unknown.

    Attributes:
        size: as given.
    """

    def __init__(self, size: int | None = None, rest: int | None = None) -> None:
        self.size, self._rest = size, rest
        # Whether the first dimension of the first batch's tensors was the number of samples; None before that batch.
        self._by_first: bool | None = None

    def count(self, batch: Any, ends: bool = False) -> int | None:
        """Returns the samples of a batch; None if its shapes contradict the loader's batch size or one another.

        Args:
            batch: tensors in lists, tuples and mappings. None, which a loader that has ended gives beside longer ones,
                has no samples.
            ends: whether the batch is the epoch's last.
        """
        if batch is None:
            return 0
        size = self.size
        if self._by_first is not None and size is not None and _leading(batch) == size:
            return size
        firsts: set[int] = set()
        lengths: set[int] = set()
        _gather(batch, firsts, lengths)
        if size is None:
            return firsts.pop() if len(firsts) == 1 else None
        known = firsts | lengths
        if self._by_first is None:
            self._by_first = firsts == {size}
        if ends and self._rest is not None and (self._rest in known or not known):
            return self._rest
        if size in known or not known:
            return size
        # Other batches may be smaller too: each worker ends with one, and a collate function may drop samples.
        return firsts.pop() if self._by_first and len(firsts) == 1 and min(firsts) < size else None


def loader_sizes(loader: Any) -> BatchSizes:
    """Returns a counter for the batches of a loader.

    It knows the batch size of torch's and torchdata's own batch samplers, and of those that accelerate shares out among
    the ranks. The user's own may give batches of any size, whatever their `batch_size` says.
    """
    from torch.utils.data import DataLoader

    # Fabric's loaders have the attributes of torch's.
    torchs = isinstance(loader, DataLoader) or is_of(loader, "lightning", "lightning_fabric")
    sampler: Any = _compat.bare_batch_sampler(loader) if torchs else None
    if not is_of(sampler, "torch", "torchdata") or _compat.splits_batches(loader):
        return BatchSizes()
    if sampler is not loader.batch_sampler:
        return BatchSizes(sampler.batch_size)
    try:
        rest = len(sampler.sampler) % sampler.batch_size
    except TypeError:
        return BatchSizes(sampler.batch_size)
    return BatchSizes(sampler.batch_size, None if sampler.drop_last or not rest else rest)


def describe_data(known: Description, loader: Any, size: int | None, accumulation: int | None, ranks: int) -> None:
    """Adds the training data to the run config.

    Args:
        known: gets them.
        loader: of the training data; None if unknown.
        size: samples of a batch on one rank; None if unknown.
        accumulation: batches per optimizer step; None if unknown.
        ranks: of the training.
    """
    from trackkit.record.run_config import data_config, fingerprint_config

    dataset = known.ask("the data set", lambda: getattr(loader, "dataset", None), None)
    known.add("the data", lambda: data_config(dataset, size, accumulation, ranks))
    known.add("the sampler", lambda: sampler_config(loader))
    known.add("the data's fingerprint", lambda: fingerprint_config(dataset))


def sampler_config(loader: Any) -> dict[str, Any]:
    """Returns `data/sampler`, the class that orders a loader's samples, and `data/shuffle`, without what is unknown."""
    from torch.utils.data import SequentialSampler

    sampler = getattr(_compat.bare_batch_sampler(loader), "sampler", None)
    if sampler is None:
        return {}
    config: dict[str, Any] = {"data/sampler": type(sampler).__name__}
    shuffle = getattr(sampler, "shuffle", None)
    if isinstance(shuffle, bool) and not hasattr(sampler, "sampler"):
        config["data/shuffle"] = shuffle
    elif isinstance(sampler, SequentialSampler):
        config["data/shuffle"] = False
    elif hasattr(sampler, "generator"):
        # As torch's random samplers and those by length have.
        config["data/shuffle"] = True
    return config


def is_of(thing: Any, *packages: str) -> bool:
    """Returns whether the class of `thing` is from one of the packages, not from the user's or a library's code."""
    return type(thing).__module__.partition(".")[0] in packages


def token_count(batch: Any) -> int:
    """Returns the number of elements of `input_ids`; 0 without them. Padding counts: skipping it would need a sync."""
    # A list, as most loaders give, is found to be no mapping at a third of the cost.
    ids = batch.get("input_ids") if type(batch) is not list and isinstance(batch, Mapping) else None
    return int(ids.numel()) if ids is not None and hasattr(ids, "numel") else 0


def loss_parts(outputs: Any) -> dict[str, Any]:
    """Returns what a model or a training step gives beside its loss, name to scalar: numbers of a nested
    mapping (`loss_dict`) by their own names. Empty without a `loss`.
    """
    if not isinstance(outputs, Mapping) or outputs.get("loss") is None:
        return {}
    found: dict[str, Any] = {}
    for name, value in outputs.items():
        if isinstance(value, Mapping):
            found.update({inner: each for inner, each in value.items() if is_scalar(each)})
        elif name != "loss" and is_scalar(value):
            found[name] = value
    return found


def is_scalar(value: Any) -> bool:
    """Returns whether a value is a float, or a floating-point tensor without dimensions."""
    if isinstance(value, float):
        return True
    return hasattr(value, "is_floating_point") and value.ndim == 0 and bool(value.is_floating_point())


def source_of(batch: Any) -> str:
    """Returns the data source that a batch names in its field `source`; "" if it has none, or samples of several."""
    # `hasattr` is quicker than `isinstance`, and most batches are lists.
    source = batch.get("source") if hasattr(batch, "get") and isinstance(batch, Mapping) else None
    if isinstance(source, (list, tuple)) and source and isinstance(source[0], str):
        source = source[0] if all(each == source[0] for each in source) else None
    return source if isinstance(source, str) else ""


def _leading(batch: Any) -> int | None:
    """Returns the first dimension of the first tensor of a flat batch; None for any other."""
    kind = type(batch)
    if kind is list or kind is tuple:
        batch = batch[0] if batch else None
    elif kind is dict:
        batch = next(iter(batch.values()), None)
    shape = getattr(batch, "shape", None)
    return shape[0] if shape else None


def _gather(batch: Any, firsts: set[int], lengths: set[int]) -> None:
    """Adds the first dimensions of all tensors to `firsts`, and the lengths of lists and tuples to `lengths`."""
    if hasattr(batch, "shape") and hasattr(batch, "ndim"):
        if len(batch.shape):
            firsts.add(int(batch.shape[0]))
        return
    if isinstance(batch, Mapping):
        batch = batch.values()
    elif isinstance(batch, (list, tuple)):
        lengths.add(len(batch))
    else:
        return
    for item in batch:
        _gather(item, firsts, lengths)
