"""Masks secrets that a name before them marks: `password=x`, `password: x`, `"password": "x"`, `--password x`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from trackkit.redaction.randomness import is_jumbled
from trackkit.redaction.rules import MASK

_OWNERS = (
    "api|app|access|secret|private|priv|auth|oauth|hub|hf|huggingface|wandb|openai|anthropic|gemini|google|gcp|azure|aws|"
    "ibm|iam|cos|cloudant|cloud|cl|softlayer|sl|cohere|mistral|groq|replicate|together|comet|neptune|kaggle|mlflow|databricks|"
    "github|gitlab|slack|npm|pypi|datadog|dd|artifactory|jfrog|cloudflare|okta|meraki|heroku|mailgun|twilio|stripe"
)
_NAMES = re.compile(
    rf"(?:^|[_\- ])(?:"
    rf"(?:{_OWNERS}|encryption|signing|ssh|account|subscription|deploy|master|service|client|db|database)[_-]?(?:api[_-]?)?key(?:[_-]?id)?|"
    rf"(?:{_OWNERS}|bearer|refresh|session|security|bot|deploy|personal|service|csrf|jwt)"
    r"[_-]?(?:api[_-]?)?(?:token|pw|pwd)|"
    r"(?:db|database|key|api|admin|root|user|smtp|imap|ftp|redis|pg|mysql)[_-]?pass|"
    r"(?:client)?secret|passphrase|passcode|(?<=[_\-])pwd|credential|authorization|jwt|cookie)s?$|passw(?:or)?ds?$",
    re.IGNORECASE,
)
_BARE_TOKEN = re.compile(r"token$", re.IGNORECASE)
_TOKEN = re.compile(r"tokens?$", re.IGNORECASE)
# Names that may also stand before something harmless: the value decides whether it is a secret.
_WEAK = re.compile(
    r"^tokens?$|(?P<random>^(?:tokens|auth|pass|pw|key)$|(?:^|[_\-])sig(?:nature)?$)|(?P<folder>^pwd$)", re.IGNORECASE
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# A text without any of these has no name of a secret.
_HINTS = ("token", "key", "secret", "pass", "pwd", "pw", "credential", "auth", "jwt", "cookie", "sig")

_NAME_BEFORE = re.compile(
    r"(?<![\w.\-])(?P<option>--?)?(?P<name>[A-Za-z_][\w.\-]*)(?P<quote>\\*[\"'])?"
    r"(?:[ \t]*(?P<sign>=>|:=|[=!]=(?=[ \t]*[\"'])|=(?!=)|:(?!//|:))[ \t]*|(?(option)[ \t]+(?!-)|(?!)))"
)
_VALUE = re.compile(
    # In quotes, escaped ones too; in brackets; up to a semicolon; one word. Only the ends repeat without a bound.
    r"(?P<open>[bBrRuUfF]{0,2}(?P<quote>\\*[\"']))(?P<quoted>(?:(?!(?P=quote))(?:\\.|.))*)|[\[{(][^\]})]*|"
    r"[^\s;\"'\\]{1,200}(?: [^\s;&\"'\\=\-][^\s;&\"'\\=]{0,100}){0,10}(?=;)|"
    r"(?:(?:Basic|Digest|Token|Bearer) )?(?:[^\s;&\"'\\]|\\(?!\\*[\"']))+",
    re.DOTALL,
)
_QUERY = re.compile(
    r"(?P<kept>[?&](?:[\w.\-]{0,60}[_\-])?(?P<name>sig|signature|key|awsaccesskeyid|credential|auth|token|password|pwd|"
    r"secret|jwt)=)(?P<value>[^&\s\"'\\]+)",
    re.IGNORECASE,
)
_STRONG_KEY = re.compile(r"(?:api|secret|private|access|auth|subscription)[_\-]?key=$", re.IGNORECASE)

# Words in place of a value, names of types, places where the value is, and tokens of tokenizers.
_NO_SECRET = re.compile(
    r"\s*(?:true|false|yes|no|on|off|none|null|\*+|required|optional|str|int|bytes|any|(?:typing\.)?optional\[.*|secretstr|"
    r"os\.(?:environ|getenv).*|(?:getenv|getpass|input|env)\(.*|getpass\.\w+.*|(?:self|args|cfg|config|settings|kwargs)[.\[].*|"
    r"\$\{.*|\$\(.*|\{\{.*|\$[A-Z_][A-Z0-9_]*)?\s*$",
    re.IGNORECASE | re.DOTALL,
)
_SPECIAL_TOKEN = re.compile(r"<[^<>]*>$|\[[A-Za-z_0-9 ]+\]$|</?s>|<\||[^\w]{0,4}$|[▁Ġ#]")


# A list, a number, a call and an element in a line of code.
_CODE_OR_COUNT = re.compile(r"[\[{(]|\d+(?:/|$)|[A-Za-z_][\w.]*[(\[]")


def is_placeholder(name: str, value: Any) -> bool:
    """Returns whether a value under a secret's name is not a secret: empty, `none`, `<image>` as a token."""
    if not isinstance(value, str):
        return False
    return bool(_NO_SECRET.match(value)) or bool(_TOKEN.search(name) and _SPECIAL_TOKEN.match(value))


def names_secret(name: str) -> bool:
    """Returns whether a name marks a secret; for a path such as `secrets/db.login`, whether any part does."""
    return _names_secret(name[-200:])


@lru_cache(maxsize=4096)
def _names_secret(name: str) -> bool:
    *outer, last = re.split(r"[./]", _CAMEL.sub("_", name))
    return bool(_BARE_TOKEN.match(last)) or any(_NAMES.search(part) for part in (*outer, last))


def mask_query(text: str) -> str:
    """Masks `?token=x` and the like; `?key=x` and `?auth=x` only if the value looks random."""
    if "=" not in text or ("?" not in text and "&" not in text):
        return text
    return _QUERY.sub(lambda found: found["kept"] + MASK if _is_secret_query(found) else found[0], text)


def _is_secret_query(found: re.Match[str]) -> bool:
    name, value = found["name"].lower(), found["value"]
    if is_placeholder(name, value):
        return False
    wide = name == "auth" or (name == "key" and not _STRONG_KEY.search(found["kept"]))
    return not wide or is_jumbled(value)


def mask_named(text: str) -> str:
    """Returns `text` with every value masked that follows the name of a secret."""
    lower = text.lower()
    if not any(hint in lower for hint in _HINTS):
        return text
    kept: list[str] = []
    done = 0
    for before in _NAME_BEFORE.finditer(text):
        if before.start() < done or not (_WEAK.search(before["name"][-200:]) or names_secret(before["name"])):
            continue
        value = _VALUE.match(text, before.end())
        if value is None:
            continue
        given, end = _given(value)
        if _is_secret_pair(before, given):
            kept += [text[done : before.end()], value["open"] or "", MASK]
            done = end
    return "".join([*kept, text[done:]]) if done else text


def _given(value: re.Match[str]) -> tuple[str, int]:
    """Returns a value without the quotes and the brackets around it, and where it ends."""
    if value["open"]:
        return value["quoted"], value.end()
    found = value[0]
    if found[0] in "[{(" or "(" in found or "[" in found:
        return found, value.end()
    given = found.rstrip(",)]}")
    return given, value.start() + len(given)


def _is_secret_pair(before: re.Match[str], given: str) -> bool:
    name = before["name"][-200:]
    if is_placeholder(name, given):
        return False
    weak = _WEAK.search(name)
    if weak is None:
        return True
    if weak["folder"]:
        return before["sign"] == "=" and not set("/\\") & set(given)
    # A token may also be a number, a list of words or a word of prose.
    random = is_jumbled(given)
    if weak["random"]:
        return random
    prose = before["sign"] == ":" and not before["quote"]
    return not _CODE_OR_COUNT.match(given) and (random or not prose)
