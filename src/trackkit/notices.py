"""Logs TrackKit's messages: with one logger, or as plain lines on stderr if the program has set up no logging."""

from __future__ import annotations

import logging
import sys

from trackkit.redaction.patterns import mask

logger = logging.getLogger("trackkit")
_formatter = logging.Formatter()


def _mask_secrets(record: logging.LogRecord) -> bool:
    """Masks secrets, such as a login in a server's address: W&B records what the program prints."""
    text = record.getMessage()
    if (masked := mask(text)) != text:
        record.msg, record.args = masked, None
    if record.exc_info:
        record.exc_text = mask(_formatter.formatException(record.exc_info))
    return True


logger.addFilter(_mask_secrets)


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to the current `sys.stderr`, which notebooks and tests replace."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("trackkit: %(message)s"))

    @property
    def stream(self):  # type: ignore[no-untyped-def]
        return sys.stderr


_said: set[str] = set()


def say_once(notice: str, *args: object, level: int = logging.INFO) -> None:
    """Logs a notice with its arguments, once per process."""
    if first_time(notice % args if args else notice):
        logger.log(level, notice, *args)


def first_time(text: str) -> bool:
    """Returns whether a text is new in this process, and remembers it."""
    new = text not in _said
    _said.add(text)
    return new


def ensure_heard() -> None:
    """Makes notices visible: in the program's own logging if it has any, else on stderr."""
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        logger.addHandler(_Stderr())
