"""What differs between runs, and where each run lies on it: the axes of parallel coordinates."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trackkit.reading.columns import plain
from trackkit.reading.statistics import is_number

# Where hyperparameters are, those of the user first.
_ROOMS = ("hparams/", "optim/", "data/", "model/", "trainer/", "seed/")
# Columns that differ by nature, and say nothing of a result.
_BY_NATURE = re.compile(
    r"(^|[/_])(dir|path|file|folder|root|host|hostname|name|id|time|url|output|fingerprint)($|[/_])"
)
_SEED = re.compile(r"(^|[/_])(random_)?(seed|seeds)($|[/_])")
_MOST_WORDS = 12
# A positive column is logarithmic if its values span at least this ratio and lie more evenly on such an axis.
_LOG_RATIO = 100.0
_TICKS = 6


@dataclass(frozen=True)
class Dimension:
    """A column as an axis from 0 to 1.

    Attributes:
        column: its name.
        places: of each run on the axis; None for one without a value; shape [runs].
        ticks: place and label.
    """

    column: str
    places: Sequence[float | None]
    ticks: Sequence[tuple[float, str]]


def varied(table: Sequence[Mapping[str, Any]], seeds: bool = False) -> list[str]:
    """Returns the hyperparameters that differ between runs, those of the user first.

    Of several columns with the same last segment and the same values the first is returned.

    Args:
        table: the columns of each run.
        seeds: whether seeds are hyperparameters too.
    """
    found: dict[tuple[str, tuple[str, ...]], str] = {}
    for room in _ROOMS:
        for name in sorted({name for row in table for name in row if name.startswith(room)}):
            if _BY_NATURE.search(name) or (_SEED.search(name) and not seeds):
                continue
            values = [row.get(name) for row in table]
            if not all(value is None or isinstance(value, (bool, int, float, str)) for value in values):
                continue
            texts = tuple(plain(value, 12) for value in values)
            if len({*texts} - {plain(None)}) > 1:
                found.setdefault((name.rpartition("/")[2], texts), name)
    return list(found.values())


def dimensions(table: Sequence[Mapping[str, Any]], result: str | None, most: int = 7) -> list[Dimension]:
    """Returns the axes of parallel coordinates: hyperparameters that differ, the result last; none without any.

    Args:
        table: the columns of each run.
        result: the column of the result.
        most: number of hyperparameters.
    """
    made = [dimension(name, [row.get(name) for row in table]) for name in varied(table)]
    kept = [each for each in made if each is not None][:most]
    last = dimension(result, [row.get(result) for row in table], few=0) if result else None
    return [*kept, last] if kept and last is not None else kept


def axes_data(dims: Sequence[Dimension]) -> dict[str, Any] | None:
    """Returns the data sets `heads` and `ticks` of `charts.parallel_chart`, and the places of each axis."""
    if not dims:
        return None
    return {
        "heads": [{"dim": n, "label": short_name(each.column)} for n, each in enumerate(dims)],
        "ticks": [{"dim": n, "pos": at, "label": text} for n, each in enumerate(dims) for at, text in each.ticks],
        "places": [each.places for each in dims],
    }


def short_name(column: str) -> str:
    """Returns a column's name as a chart shows it."""
    return column.removeprefix("hparams/").removeprefix("final/")


def dimension(column: str, values: Sequence[Any], few: int = _TICKS) -> Dimension | None:
    """Returns a column as an axis; None if it has too many different words, or no value.

    Args:
        column: its name.
        values: of each run.
        few: so many different values, numbers or words, are spread evenly: lines between them are easy to follow.
    """
    known = [value for value in values if value is not None and value == value]
    numbers = [float(value) for value in known if is_number(value)]
    if not known:
        return None
    words = {plain(value, 6) for value in known}
    if len(numbers) == len(known) and (len(words) > few or len(words) == 1):
        return _scale(column, values, sorted(numbers))
    if len(words) > _MOST_WORDS:
        return None
    ordered = sorted(
        words, key=lambda word: (not _is_text_number(word), float(word) if _is_text_number(word) else word)
    )
    at = {word: (number + 0.5) / len(ordered) for number, word in enumerate(ordered)}
    places = [at.get(plain(value, 6)) if value is not None else None for value in values]
    return Dimension(column, places, [(place, word[:24]) for word, place in at.items()])


def _scale(column: str, values: Sequence[Any], ordered: Sequence[float]) -> Dimension:
    low, middle, high = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    log = low > 0 and high / low >= _LOG_RATIO
    if log:
        at = (middle - low) / (high - low), math.log(middle / low) / math.log(high / low)
        log = abs(at[1] - 0.5) < abs(at[0] - 0.5)
    warp = math.log if log else float
    width = warp(high) - warp(low)

    def place(value: Any) -> float | None:
        return (warp(float(value)) - warp(low)) / width if width and is_number(value) else 0.5 if not width else None

    ends = [warp(low) + width * part / 4 for part in range(5)] if width else [warp(low)]
    labels = [plain(math.exp(end) if log else end, 3) for end in ends]
    ticks = [(number / 4 if width else 0.5, label) for number, label in enumerate(labels)]
    return Dimension(column, [place(value) if value is not None else None for value in values], ticks)


def _is_text_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
