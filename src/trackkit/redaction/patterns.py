"""Masks the secrets in a text: those of a known form, in URLs, after a name, and from environment variables."""

from __future__ import annotations

import re

from trackkit.redaction import environment
from trackkit.redaction.named import mask_named, mask_query, names_secret
from trackkit.redaction.randomness import MIN_LENGTH, is_jumbled
from trackkit.redaction.rules import MASK, mask_forms

__all__ = ["MASK", "clip", "mask", "mask_name", "mask_url", "names_secret"]

# A form has at least so many characters in a row.
_LONG = re.compile(r"[A-Za-z0-9_\-]{15}")
# These may be followed by shorter ones.
_SHORT = ("earer ", "EARER ", "Basic ", "PRIVATE KEY", "zapier")
# A secret that a cut goes through has at most so many characters before it.
_MAX_SECRET = 4096

_URL = re.compile(r"[^\s\"']+")
# A folder's URL with a query, to which a framework has added the name of a file.
_FILE_BEHIND_QUERY = re.compile(r"\?.*(?P<file>/[^/?&]+\.[a-z]\w{1,10})$", re.IGNORECASE)
_SCHEME = re.compile(r"(?<![a-z])[a-z][a-z0-9+.\-]{0,30}$", re.IGNORECASE)
_USER = re.compile(r"(?P<user>[^/\s:?#@]{0,512})(?P<colon>:)?(?P<port>\d+(?:[/?#,]|$))?")


def mask(text: str) -> str:
    """Returns `text` with its secrets masked; their names stay. The time is linear in its length."""
    if len(text) < MIN_LENGTH:
        return mask_named(text)
    for value in environment.secrets():
        text = text.replace(value, MASK)
    return mask_name(text)


def mask_name(text: str) -> str:
    """Returns the name of a setting, a metric or a key with secrets masked, but no value of the environment."""
    if _LONG.search(text) or any(hint in text for hint in _SHORT):
        text = mask_forms(text)
    if "://" in text and "@" in text:
        text = _URL.sub(_mask_login, text)
    return mask_named(mask_query(text))


def mask_url(url: str) -> str:
    """Returns the URL of a file without a login, and without its query if that has a secret: it can still be loaded."""
    masked = mask(url).replace(f"://{MASK}@", "://", 1)
    place, _, query = masked.partition("?")
    if MASK not in query:
        return masked
    behind = _FILE_BEHIND_QUERY.search(url)
    return place + (mask(behind["file"]) if behind else "")


def clip(text: str, length: int) -> str:
    """Returns the first `length` characters of `text`, without the beginning of a word that the cut goes through.

    Call it before `mask`, which would not recognize half a secret.
    """
    if len(text) <= length:
        return text
    cut = length
    while cut > max(0, length - _MAX_SECRET) and not text[cut - 1].isspace():
        cut -= 1
    return text[:cut] if cut else text[: max(0, length - _MAX_SECRET)]


def _mask_login(run: re.Match[str]) -> str:
    """Masks the login of a URL. A password may have characters that URLs do not allow: it ends at the last `@`."""
    text = run[0]
    begin, end = text.find("://"), text.rfind("@")
    while -1 < begin < end:
        if _SCHEME.search(text, max(0, begin - 40), begin) and _is_login(text, begin + 3, end):
            return f"{text[: begin + 3]}{MASK}{text[end:]}"
        begin = text.find("://", begin + 3)
    return text


def _is_login(text: str, begin: int, end: int) -> bool:
    """Returns whether a password, or a user that is a token, is between `://` and `@`."""
    user = _USER.match(text, begin, end)
    if user is None or text.startswith("sha256:", end + 1):
        return False
    if user["colon"]:
        return user["port"] is None and user.end("colon") < end
    return user.end() == end and is_jumbled(user["user"])
