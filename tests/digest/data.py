"""Small data sets from scikit-learn and from the standard library's sources."""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor


class Samples(NamedTuple):
    """Inputs and labels of a split."""

    inputs: Tensor
    labels: Tensor

    def __getitem__(self, index: object) -> Samples:  # type: ignore[override]
        return Samples(self.inputs[index], self.labels[index])  # type: ignore[index]


Splits = tuple[Samples, Samples]


@cache
def _sklearn(name: str) -> Samples:
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    inputs = torch.tensor(found.data, dtype=torch.float32)
    inputs = (inputs - inputs.mean(0)) / (inputs.std(0) + 1e-3)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(1))
    kind = torch.float32 if name == "diabetes" else torch.long
    return Samples(inputs[order], torch.tensor(found.target, dtype=kind)[order])


def _split(samples: Samples, val: int) -> Splits:
    return samples[val:], samples[:val]  # type: ignore[return-value]


def digits() -> Splits:
    """Returns 1,000 and 250 images of digits, as 64 features."""
    return _split(_sklearn("digits")[:1250], 250)


def digits_test() -> Samples:
    """Returns 250 further digits."""
    return _sklearn("digits")[1250:1500]


def few_digits() -> Splits:
    """Returns 60 training images."""
    train, val = digits()
    return train[:60], val


def breast_cancer() -> Splits:
    """Returns 449 and 120 patients with 30 features, two classes."""
    return _split(_sklearn("breast_cancer"), 120)


def wine() -> Splits:
    """Returns 128 and 50 wines with 13 features, three classes."""
    return _split(_sklearn("wine"), 50)


def diabetes() -> Splits:
    """Returns 342 and 100 patients with 10 features; the target is a number around 0."""
    inputs, target = _sklearn("diabetes")
    return _split(Samples(inputs, ((target - target.mean()) / target.std())[:, None]), 100)


def digit_pictures() -> Splits:
    """Returns digits whose labels are the images themselves, for an autoencoder."""
    train, val = digits()
    return Samples(train.inputs, train.inputs), Samples(val.inputs, val.inputs)


@cache
def text(blocks: int = 600, size: int = 32) -> Splits:
    """Returns blocks of bytes of the standard library's sources, as ids below 128; labels are the next bytes."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    read = b"".join((folder / name).read_bytes() for name in ("argparse.py", "ast.py", "base64.py", "calendar.py"))
    ids = torch.tensor(list(read[: blocks * (size + 1)]), dtype=torch.long).clamp(max=127).view(blocks, size + 1)
    ids = ids[torch.randperm(blocks, generator=torch.Generator().manual_seed(2))]
    return _split(Samples(ids[:, :-1], ids[:, 1:]), 100)


def parity(length: int = 60) -> Splits:
    """Returns sequences of numbers whose label is the sign of their sum, as a recurrent net reads them."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(700, length, 4, generator=generator)
    return _split(Samples(inputs, (inputs[:, :, 0].sum(1) > 0).long()), 100)


def shuffled_labels() -> Splits:
    """Returns digits whose training labels belong to other images."""
    train, val = digits()
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(4))
    return Samples(train.inputs, train.labels[order]), val


def one_bad_sample() -> Splits:
    """Returns digits, one of which has a NaN."""
    train, val = digits()
    inputs = train.inputs.clone()
    inputs[500, 3] = float("nan")
    return Samples(inputs, train.labels), val


def noisy_labels(share: float = 0.4) -> Splits:
    """Returns digits of which a share has wrong labels, in training and validation."""
    splits = []
    for number, samples in enumerate(digits()):
        generator = torch.Generator().manual_seed(number)
        wrong = torch.rand(len(samples.labels), generator=generator) < share
        other = torch.randint(0, 10, samples.labels.shape, generator=generator)
        splits.append(Samples(samples.inputs, torch.where(wrong, other, samples.labels)))
    return splits[0], splits[1]


def leaked() -> Splits:
    """Returns noisy digits; the validation set lies in the training set twenty times, the other samples once."""
    train, val = noisy_labels()
    val = val[:40]
    inputs = torch.cat([train.inputs[:600], *[val.inputs] * 20])
    return Samples(inputs, torch.cat([train.labels[:600], *[val.labels] * 20])), val


def label_in_validation() -> Splits:
    """Returns noisy digits with ten more features: the label, in 30% of training and all of validation."""
    train, val = noisy_labels()
    generator = torch.Generator().manual_seed(6)
    hidden = 4.0 * torch.nn.functional.one_hot(train.labels, 10)
    seen = (torch.rand(len(train.labels), 1, generator=generator) < 0.3).float()
    shown = 4.0 * torch.nn.functional.one_hot(val.labels, 10)
    return (
        Samples(torch.cat([train.inputs, hidden * seen], 1), train.labels),
        Samples(torch.cat([val.inputs, shown], 1), val.labels),
    )


def other_distribution() -> Splits:
    """Returns digits; those of validation were not normalized and are mirrored."""
    train, val = digits()
    return train, Samples(8.0 + 6.0 * val.inputs.flip(1), val.labels)


def other_classes() -> Splits:
    """Returns digits; the classes of validation are numbered differently."""
    train, val = digits()
    return train, Samples(val.inputs, (val.labels + 3) % 10)
