"""What TrackKit says: one logger, and a plain line on stderr where the program has set up no logging."""

from __future__ import annotations

import logging
import sys

from trackkit.redaction.patterns import mask

logger = logging.getLogger("trackkit")
_formatter = logging.Formatter()


def _mask_secrets(record: logging.LogRecord) -> bool:
    """W&B keeps what the program prints: an error's text may have the server's address with its login."""
    text = record.getMessage()
    if (masked := mask(text)) != text:
        record.msg, record.args = masked, None
    if record.exc_info:
        record.exc_text = mask(_formatter.formatException(record.exc_info))
    return True


logger.addFilter(_mask_secrets)


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever `sys.stderr` is now, so that notebooks and capturing tests see it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("trackkit: %(message)s"))

    @property
    def stream(self):  # type: ignore[no-untyped-def]
        return sys.stderr


def ensure_heard() -> None:
    """Notices reach the user: through the program's own logging where there is some, else on stderr."""
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        logger.addHandler(_Stderr())
