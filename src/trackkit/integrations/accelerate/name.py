"""The name of TrackKit's tracker in Accelerate."""

from __future__ import annotations


class Name(str):
    """The name `trackkit`, which is also equal to `wandb`.

    Scripts, those of diffusers among them, log pictures only `if tracker.name == "wandb"`. As a key of a dictionary it
    is `trackkit`.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other == "wandb" or str.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


NAME = Name("trackkit")
