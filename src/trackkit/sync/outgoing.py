"""Masks secrets once more before anything leaves: a run may have been recorded by others, or before a rule existed."""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence
from functools import cache
from typing import Any

from trackkit.redaction.patterns import mask, mask_name
from trackkit.redaction.redact import redact, redact_arguments

_NUMBERS = (float, int, bool, type(None))
_name = cache(mask_name)


def redacted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns columns or the values of a row with secrets masked; W&B's references to media stay as they are."""
    return {
        _name(key): value if type(value) in _NUMBERS or _is_media(value) else redact(key, value)
        for key, value in values.items()
    }


def mask_message(message: Any) -> Any:
    """Masks the secrets in all strings of a protobuf message; returns it."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        if isinstance(value, MutableSequence):
            if field.type == field.TYPE_STRING:
                value[:] = redact_arguments(list(value))
            else:
                for each in value:
                    mask_message(each)
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, mask(value))
        elif hasattr(value, "ListFields"):
            mask_message(value)
        else:
            for key in value:
                if isinstance(value[key], str):
                    value[key] = mask(value[key])
                else:
                    mask_message(value[key])
    return message


def _is_media(value: Any) -> bool:
    return isinstance(value, dict) and "_type" in value
