"""Samples of a batch are right or unknown, whatever its structure."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    SequentialSampler,
    TensorDataset,
)

from trackkit.integrations.batches import BatchSizes, loader_sizes, token_count


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


BATCHES: dict[str, tuple[Any, int | None]] = {
    "tensor": (ones(4, 2), 4),
    "list": ([ones(4, 2), ones(4)], 4),
    "mapping": ({"x": ones(4, 9), "y": ones(4)}, 4),
    "nested": ({"x": [ones(4, 9), (ones(4), ones(4))]}, 4),
    "scalar beside": ([ones(4, 9), torch.tensor(1.0)], 4),
    "time first, with labels": ([ones(20, 4, 3), ones(4)], 4),
    "time first": ([ones(20, 4, 3), ones(20, 4)], None),
    "short time first": ([ones(3, 4, 3)], None),
    "edges of a graph": ({"edges": ones(2, 30), "x": ones(4, 3)}, 4),
    "views": (ones(8, 3), None),
    "images of their own sizes": (([ones(3, 8, 8)] * 4, [{"boxes": ones(2, 4)}] * 4), 4),
    "strings": (["a", "b", "c", "d"], 4),
    "unknown object": (object(), 4),
    "none": (None, 0),
}


@pytest.mark.parametrize(("batch", "samples"), BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("earlier", [False, True])
def test_batch_of_a_loader_with_a_known_size(batch: Any, samples: int | None, earlier: bool) -> None:
    sizes = BatchSizes(4)
    if earlier:
        assert sizes.count(batch) == samples
    assert sizes.count(batch) == samples


@pytest.mark.parametrize(
    ("batch", "samples"),
    [([ones(5, 2), ones(5)], 5), ([ones(20, 4), ones(4)], None), (["a"], None), ({}, None), (None, 0)],
)
def test_batch_of_a_loader_without_a_size_counts_if_all_tensors_agree(batch: Any, samples: int | None) -> None:
    assert BatchSizes().count(batch) == samples


def test_smaller_batch_counts_once_the_first_dimension_has_counted_samples() -> None:
    sizes = BatchSizes(4)
    assert [sizes.count([ones(size, 2), ones(size)]) for size in (4, 3, 4, 1, 6)] == [4, 3, 4, 1, None]


def test_last_batch_has_the_rest_in_any_layout() -> None:
    sizes = BatchSizes(4, 2)
    assert sizes.count([ones(9, 4, 3), ones(4)]) == 4
    assert sizes.count([ones(9, 2, 3), ones(2)], ends=True) == 2
    assert sizes.count(object(), ends=True) == 2
    assert BatchSizes(4, 3).count([ones(3)], ends=True) == 3


class Stream(IterableDataset[torch.Tensor]):
    def __iter__(self) -> Any:
        return iter(torch.ones(10, 2))


class Buckets(BatchSampler):
    """Batches of other sizes than `batch_size`."""

    def __iter__(self) -> Any:
        yield from ([0], [1, 2, 3])


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_of_all_batches_of_a_loader(workers: int) -> None:
    data = TensorDataset(ones(10, 2))
    sampler = SequentialSampler(data)
    loaders: list[tuple[DataLoader[Any], int]] = [
        (DataLoader(data, 4, num_workers=workers), 10),
        (DataLoader(data, 4, drop_last=True, num_workers=workers), 8),
        (DataLoader(data, batch_sampler=BatchSampler(sampler, 4, False), num_workers=workers), 10),
        (DataLoader(data, batch_sampler=Buckets(sampler, 4, False), num_workers=workers), 4),
        (DataLoader(data, None, num_workers=workers, collate_fn=lambda x: [each[None] for each in x]), 10),
        (DataLoader(Stream(), 4, num_workers=workers), 10 * max(workers, 1)),
    ]
    for loader, samples in loaders:
        sizes = loader_sizes(loader)
        assert sum(sizes.count(batch) or 0 for batch in loader) == samples


def test_batches_shared_out_among_ranks_keep_their_size() -> None:
    """Lightning puts a distributed sampler into a loader; accelerate shares out the batches of its batch sampler."""
    data = TensorDataset(ones(10, 2))
    batches = BatchSampler(SequentialSampler(data), 4, False)
    distributed = DataLoader(data, 4, sampler=DistributedSampler(data, 2, 0))
    shared = DataLoader(data, batch_sampler=BatchSamplerShard(batches, 2, 0))
    split = DataLoader(data, batch_sampler=BatchSamplerShard(batches, 2, 0, split_batches=True))
    own = DataLoader(data, batch_sampler=BatchSamplerShard(Buckets(SequentialSampler(data), 4, False), 2, 0))
    assert [loader_sizes(each).size for each in (distributed, shared, split, own)] == [4, 4, None, None]
    for loader, samples in ((distributed, 5), (shared, 8), (split, 6)):
        sizes = loader_sizes(loader)
        assert sum(sizes.count(batch) or 0 for batch in loader) == samples


def test_tokens_are_the_elements_of_input_ids() -> None:
    assert token_count({"input_ids": ones(4, 7), "labels": ones(4)}) == 28
    assert token_count([ones(4, 7)]) == token_count({"input_ids": None}) == 0
