"""Keeps secrets out of everything that is recorded."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

_NAMES = re.compile(
    r"(?:^|[./])tokens?$|(?:^|[_\-./ ])(?:(?:api|access|secret|private)[_-]?key|secret|passw(?:or)?d|passwd|passphrase|"
    r"credentials?|authorization|(?:auth|hub|hf|access|api|bearer|refresh|session|github|wandb)[_-]?token)s?$",
    re.IGNORECASE,
)
_VALUES = re.compile(
    r"hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|sk-[A-Za-z0-9_\-]{20,}|AKIA[0-9A-Z]{16}|"
    r"xox[abpr]-[A-Za-z0-9\-]{10,}|\bwandb_v1_\w{20,}|"
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    re.DOTALL,
)
_URL_LOGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.\-]*://)[^/\s@]+@", re.IGNORECASE)
# `--token=x`, `--token`, and Hydra's `token=x`, `+trainer.token=x`.
_ARGUMENT = re.compile(
    r"^(?:--?(?=[\w\-.]+$)|-{0,2}\+{0,2}(?=[^=]+=))(?P<name>[\w\-.]+)(?:=(?P<value>.*))?$", re.DOTALL
)


def is_secret(name: str, value: Any) -> bool:
    """Whether `value` under `name`, or a program argument such as `--token=...`, looks like a secret."""
    if isinstance(value, str):
        if _VALUES.search(value) or _URL_LOGIN.search(value):
            return True
        argument = _ARGUMENT.match(value)
        if argument and not name and argument["value"] is not None and _NAMES.search(argument["name"]):
            return True
    return bool(value) and isinstance(value, (str, bytes)) and bool(name) and bool(_NAMES.search(name))


def redact(name: str, value: Any) -> Any:
    """`value` with what looks like a secret masked; mappings and sequences are gone through, never changed."""
    if isinstance(value, dict):
        return {key: redact(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(name, item) for item in value]
    if not isinstance(value, str) or not is_secret(name, value):
        return value
    if name and _NAMES.search(name):
        return MASK
    return _URL_LOGIN.sub(rf"\g<scheme>{MASK}@", _VALUES.sub(MASK, value))


def redact_arguments(arguments: list[str]) -> list[str]:
    """A command line with the values of secret options masked, given as `--token=x` or as `--token x`."""
    kept, mask_next = [], False
    for word in arguments:
        option = _ARGUMENT.match(word)
        secret = option is not None and bool(_NAMES.search(option["name"]))
        if mask_next and option is None:
            kept.append(MASK)
        elif option is not None and secret and option["value"] is not None:
            kept.append(f"{word.split('=', 1)[0]}={MASK}")
        else:
            kept.append(redact("", word))
        mask_next = option is not None and secret and option["value"] is None
    return kept
