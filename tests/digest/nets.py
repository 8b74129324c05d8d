"""Small nets, sound and unsound."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.digest.data import digits


def mlp(features: int = 64, classes: int = 10, width: int = 64, dropout: float = 0.0) -> nn.Module:
    """Returns two layers."""
    return nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, classes))


def convolutional(dropout: float = 0.3) -> nn.Module:
    """Returns two convolutions with normalization for 8x8 images."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(512, 10),
    )


def dead(head: bool = True) -> nn.Module:
    """Returns two layers whose hidden units are never active; without biases in the head nothing gets a gradient."""
    hidden = nn.Linear(64, 64)
    with torch.no_grad():
        hidden.bias.fill_(-100.0)
    return nn.Sequential(hidden, nn.ReLU(), nn.Linear(64, 10, bias=head))


def deep_sigmoid(layers: int = 12) -> nn.Module:
    """Returns a net so deep that its sigmoids let no gradient through."""
    inner = [part for _ in range(layers) for part in (nn.Linear(32, 32), nn.Sigmoid())]
    return nn.Sequential(nn.Linear(64, 32), nn.Sigmoid(), *inner, nn.Linear(32, 10))


def frozen() -> nn.Module:
    """Returns two layers of which only the last biases can change."""
    net = mlp()
    for name, parameter in net.named_parameters():
        parameter.requires_grad = name == "3.bias"
    return net


def pretrained() -> nn.Module:
    """Returns two layers that know the digits already."""
    net, (train, _) = mlp(), digits()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(train.inputs), train.labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net


def autoencoder() -> nn.Module:
    """Returns a net that squeezes 64 features through eight."""
    return nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 8), nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 64))


class Recurrent(nn.Module):
    """Reads a sequence by ReLU units; a gain of recurrence over 1 explodes."""

    def __init__(self, gain: float = 1.0, width: int = 32) -> None:
        super().__init__()
        self.cell, self.head = nn.RNN(4, width, nonlinearity="relu", batch_first=True), nn.Linear(width, 2)
        with torch.no_grad():
            self.cell.weight_hh_l0.copy_(gain * torch.eye(width) + 0.02 * torch.randn(width, width))
            self.head.weight.mul_(0.01)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.cell(inputs)[0][:, -1])  # type: ignore[no-any-return]


class Text(nn.Module):
    """Predicts the next byte by a GRU."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed, self.cell = nn.Embedding(128, width), nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, 128)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.cell(self.embed(inputs))[0])  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Predicts the next byte by one causal transformer layer."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(128, width), nn.Parameter(0.02 * torch.randn(32, width))
        self.layer = nn.TransformerEncoderLayer(width, 4, 96, 0.1, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 128)

    def forward(self, inputs: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(inputs.shape[1])
        return self.head(self.layer(self.embed(inputs) + self.place, mask, is_causal=True))  # type: ignore[no-any-return]


def sequence_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean cross entropy over all places of the sequences."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
