"""Finds the event that logged a metric from its name, where no framework says it: in plain loops and Accelerate."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any

from trackkit.schema.keys import BATCH, SPLIT_WORDS, Split, Where

# Names that say where the training stands.
_STEPS = ("step", "global_step")
_POSITION = ("epoch", *_STEPS)
_SPLIT_OF: dict[str, Split] = {word: split for split, words in SPLIT_WORDS.items() for word in words}
_WORDS = "|".join(_SPLIT_OF)
_EXPLICIT = re.compile(rf"^({_WORDS})[\W_]+(?=\w)|/({_WORDS})$", re.IGNORECASE)


def event_of(values: Mapping[str, Any]) -> list[tuple[Where, dict[str, Any]]]:
    """Sorts values that were logged without an event into the events that logged them.

    | name | without `epoch` among the values | with it |
    |---|---|---|
    | `val_acc`, `eval/acc`, `acc/val`, `test acc` | `epoch/val/*`, `epoch/test/*` | the same |
    | `train_loss`, `train/loss`, `loss/train` | `batch/*` | `epoch/train/*` |
    | `loss` | `batch/*` | `epoch/*`, since nothing says the split |

    Args:
        values: name to value. Mappings among them are flattened: `{"glue": {"f1": 1}}` is `glue/f1`. `epoch`, `step`
            and `global_step` say where the training stands (see `position_of`) and are left out. So is None.

    Returns:
        Pairs of an event and its values by logged name, in the order in which the events appear.
    """
    sorted_values: dict[Where, dict[str, Any]] = {}
    by_epoch = values.get("epoch") is not None
    for name, value in flat(values).items():
        if name not in _POSITION and value is not None:
            sorted_values.setdefault(_event(name, by_epoch), {})[name] = value
    return list(sorted_values.items())


def position_of(values: Mapping[str, Any]) -> tuple[int | None, float | None]:
    """Returns the step (`step`, else `global_step`) and the epoch among logged values; None for what is missing.

    NumPy's numbers count.
    """
    given = {name: values[name] for name in _POSITION if isinstance(values.get(name), Real)}
    numbers = {name: float(value) for name, value in given.items() if math.isfinite(value)}
    step = next((int(numbers[name]) for name in _STEPS if name in numbers), None)
    return step, numbers.get("epoch")


def _event(name: str, by_epoch: bool) -> Where:
    found = _EXPLICIT.search(name)
    split: Split = _SPLIT_OF[(found[1] or found[2]).lower()] if found else ""
    return BATCH if split in ("", "train") and not by_epoch else Where("epoch", split)


def flat(values: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """Returns values without the mappings among them: `{"glue": {"f1": 1}}` is `{"glue/f1": 1}`."""
    flattened: dict[str, Any] = {}
    for name, value in values.items():
        found = flat(value, f"{section}{name}/") if isinstance(value, Mapping) else {f"{section}{name}": value}
        flattened.update(found)
    return flattened
