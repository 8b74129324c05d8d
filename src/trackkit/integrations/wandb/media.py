"""Makes W&B's media types of what programs log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from trackkit.engine.tables import Table
from trackkit.notices import logger
from trackkit.redaction.patterns import mask

_refused: set[str] = set()


def to_media(key: str, value: Any) -> Any:
    """Returns W&B's type for a value; None, with one warning per key, if W&B has none for it.

    Args:
        key: for the warning.
        value: a W&B type (`wandb.Image`, `wandb.Table`, `wandb.Audio`, ...) or a list of one, a figure of Matplotlib or
            Plotly, a PIL image, a pandas table, a text, or TrackKit's own `Table`, whose secrets are masked.
    """
    import wandb
    from wandb.sdk.data_types.base_types.wb_value import WBValue

    if isinstance(value, WBValue):
        return value
    if isinstance(value, Sequence) and value and all(isinstance(each, WBValue) for each in value):
        return list(value)
    if isinstance(value, Table):
        return wandb.Table(list(value.columns), [[_cell(cell) for cell in row] for row in value.rows])
    if isinstance(value, str):
        return wandb.Table(columns=["text"], data=[[value]])
    package, name = type(value).__module__.partition(".")[0], type(value).__name__
    if package == "plotly":
        return wandb.Plotly(value)
    if package == "pandas" and name == "DataFrame":
        return wandb.Table(dataframe=value)
    if package == "PIL" or (package == "matplotlib" and hasattr(value, "savefig")):
        return wandb.Image(value)
    if key not in _refused:
        _refused.add(key)
        logger.warning("'%s' is of type %s, which W&B can't show, and is not recorded. Log a W&B type.", key, name)
    return None


def _cell(value: Any) -> Any:
    """Returns a cell as W&B takes it in a column of texts: messages as JSON."""
    value = value.tolist() if getattr(value, "ndim", 0) == 1 else value
    if isinstance(value, (list, dict)) and value and not any(hasattr(each, "to_json") for each in value):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return mask(value) if isinstance(value, str) else value
