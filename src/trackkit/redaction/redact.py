"""Keeps secrets out of everything that is recorded."""

from __future__ import annotations

import os
import re
from typing import Any

from trackkit.redaction.patterns import MASK, mask, names_secret

__all__ = ["MASK", "is_secret", "redact", "redact_arguments", "slurm_has_secrets"]

_PASSWORD = re.compile(r"passw(?:or)?ds?$|passphrases?$|passcodes?$", re.IGNORECASE)
# `--token=x`, `--token`, and Hydra's `token=x`, `+trainer.token=x`.
_ARGUMENT = re.compile(
    r"^(?:--?(?=[\w\-.]+$)|-{0,2}\+{0,2}(?=[^=]+=))(?P<name>[\w\-.]+)(?:=(?P<value>.*))?$", re.DOTALL
)


def is_secret(name: str, value: Any) -> bool:
    """Whether `value` under `name`, or a program argument such as `--token=...`, looks like a secret."""
    if isinstance(value, str) and value and mask(value) != value:
        return True
    if isinstance(value, (str, bytes)):
        return bool(value) and names_secret(name)
    # A password of digits alone is a number by the time that a command line or a YAML file has been read.
    return isinstance(value, int) and not isinstance(value, bool) and bool(_PASSWORD.search(name))


def redact(name: str, value: Any) -> Any:
    """`value` with what looks like a secret masked; mappings and sequences are gone through, never changed.

    Args:
        name: of the value; a path's parts are apart by `/`. What lies in `credentials` is a secret whatever its name.
        value: what JSON can hold.
    """
    if isinstance(value, dict):
        return {_key(key): redact(f"{name}/{key}", item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        if not names_secret(name) and all(isinstance(item, str) for item in value):
            return redact_arguments(list(value))
        return [redact(name, item) for item in value]
    if isinstance(value, str) and not names_secret(name):
        return mask(value)
    return MASK if is_secret(name, value) else value


def redact_arguments(arguments: list[str]) -> list[str]:
    """A command line with the values of secret options masked, given as `--token=x` or as `--token x`."""
    kept, mask_next = [], False
    for word in arguments:
        option = _ARGUMENT.match(word)
        secret = option is not None and names_secret(option["name"])
        if mask_next and not word.startswith("-"):
            kept.append(MASK)
        elif option is not None and secret and option["value"] is not None:
            kept.append(f"{word.split('=', 1)[0]}={MASK}")
        else:
            kept.append(mask(word))
        mask_next = option is not None and secret and option["value"] is None
    return kept


def slurm_has_secrets() -> bool:
    """Whether a SLURM_* variable holds a secret, such as SLURM_JWT: W&B's metadata has them all."""
    return any(is_secret(name, value) for name, value in os.environ.items() if name.startswith("SLURM_"))


def _key(key: Any) -> Any:
    return mask(key) if isinstance(key, str) else key
