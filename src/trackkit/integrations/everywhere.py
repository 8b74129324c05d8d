"""The TrackKit that `trackkit run --everywhere` adds to each trainer: it yields to one that the program gives."""

from __future__ import annotations

from typing import ClassVar

from trackkit.kit import TrackKit


class EverywhereTrackKit(TrackKit):
    """Records a trainer that has no other TrackKit."""

    yields: ClassVar[bool] = True
