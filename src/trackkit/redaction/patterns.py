"""Patterns of secrets: their names, their own forms, names before them in a text, values of the environment."""

from __future__ import annotations

import os
import re
from functools import lru_cache

MASK = "***"
# Shorter values may be any word.
MIN_LENGTH = 8

_OWNERS = (
    "api|access|secret|private|auth|oauth|hub|hf|huggingface|wandb|openai|anthropic|gemini|google|gcp|azure|aws|cohere|"
    "mistral|groq|replicate|together|comet|neptune|kaggle|mlflow|databricks|github|gitlab|slack|npm|pypi"
)
_NAMES = re.compile(
    rf"(?:^|[_\- ])(?:(?:{_OWNERS}|encryption|signing|ssh|account|subscription|deploy|master)[_-]?key(?:[_-]?id)?|"
    rf"(?:{_OWNERS}|bearer|refresh|session|security|bot|deploy|personal|service|csrf|jwt)[_-]?token|"
    r"(?:client)?secret|passphrase|passcode|(?<=[_\-])pwd|credential|authorization|jwt|cookie)s?$|passw(?:or)?ds?$",
    re.IGNORECASE,
)
_BARE_TOKEN = re.compile(r"tokens?$", re.IGNORECASE)
# Names in a text that may also name something harmless.
_WEAK = re.compile(r"^tokens?$|(?P<signature>(?:^|[_\-])sig(?:nature)?$)|(?P<folder>^pwd$)", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_VARIABLES = re.compile(
    r"(?:^|_)(?:TOKEN|PASS|KEY_ID)$|PASSWORD|PASSWD|(?:^|_)(?:SECRET|PASSPHRASE|API_?KEY|CREDENTIAL)", re.IGNORECASE
)
_ORDINARY_VARIABLES = re.compile(
    r"_(?:FILE|PATH|DIR|NAME|HOST|PORT|TYPE|ARN|VERSION|STORE|HELPER)$|"
    r"(?:^|_)(?:PAD|EOS|BOS|UNK|SEP|CLS|MASK|IMAGE|AUDIO|VIDEO|USER|SYSTEM|ASSISTANT|START|END|STOP|MAX|NEW)_TOKEN$",
    re.IGNORECASE,
)

_VALUES = re.compile(
    r"hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w\-]{20,}|sk-[A-Za-z0-9_\-]{20,}|"
    r"A[KS]IA[0-9A-Z]{16}|AIza[\w\-]{35}|xox[abeprs]-[A-Za-z0-9\-]{10,}|\bwandb_v1_\w{20,}|"
    r"\beyJ[\w\-]{8,}\.eyJ[\w\-]{8,}\.[\w\-]+|\bBearer\s+[\w.~+/\-]{8,}=*|"
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    re.DOTALL,
)
# Passwords may have characters that URLs do not allow; a port is no password.
_URL_LOGIN = re.compile(
    r"(?P<scheme>(?<![a-z])[a-z][a-z0-9+.\-]*://)(?:[^/\s:\"']+:(?!\d+(?:[/?#]|$))[^\s\"']*|[^/\s?#\"']+)@",
    re.IGNORECASE,
)
_QUERY = re.compile(
    r"(?P<kept>[?&](?:[\w.\-]*[_\-])?"
    r"(?:sig|signature|key|awsaccesskeyid|credential|auth|token|password|pwd|secret|jwt)=)[^&\s\"'\\]+",
    re.IGNORECASE,
)
_NAME_BEFORE = re.compile(
    r"(?<![\w.\-])(?P<option>--?)?(?P<name>[A-Za-z_][\w.\-]*)(?P<quote>\\*[\"'])?"
    r"(?:[ \t]*(?P<sign>=>|=(?!=)|:(?!//|:))[ \t]*|(?(option)[ \t]+(?!-)|(?!)))"
)
_VALUE = re.compile(
    # In quotes, escaped ones too; in brackets; up to a semicolon; one word.
    r"(?P<open>[bBrRuUfF]{0,2}(?P<quote>\\*[\"']))(?P<quoted>(?:(?!(?P=quote))(?:\\.|.))*)|[\[{(][^\]})]*|"
    r"[^\s;\"'\\]+(?: [^\s;&\"'\\=\-][^\s;&\"'\\=]*)*(?=;)|"
    r"(?:(?:Basic|Digest|Token) )?(?:(?!\\+[\"'])[^\s;&\"'])+?(?=[,)\]}]*(?:[\s;&\"']|\\+[\"']|$))",
    re.DOTALL,
)
_NO_SECRET = re.compile(r"\s*(?:true|false|none|null|\*+)?\s*$", re.IGNORECASE)


def names_secret(name: str) -> bool:
    """Returns whether a name is that of a secret; for a path such as `secrets/db.login`, whether any part is."""
    *outer, last = re.split(r"[./]", _CAMEL.sub("_", name))
    return bool(_BARE_TOKEN.match(last)) or any(_NAMES.search(part) for part in (*outer, last))


def mask(text: str) -> str:
    """Returns `text` with its secrets masked; their names stay."""
    for value in _of_environment() if len(text) >= MIN_LENGTH else ():
        text = text.replace(value, MASK)
    text = _URL_LOGIN.sub(rf"\g<scheme>{MASK}@", _VALUES.sub(MASK, text))
    return _mask_named(_QUERY.sub(rf"\g<kept>{MASK}", text))


def _mask_named(text: str) -> str:
    """Masks `password=x`, `password: x`, `"password": "x"` and `--password x`."""
    kept: list[str] = []
    done = 0
    for before in _NAME_BEFORE.finditer(text):
        if before.start() < done or not (_WEAK.search(before["name"]) or names_secret(before["name"])):
            continue
        value = _VALUE.match(text, before.end())
        if value is None or not _is_secret_pair(before, value):
            continue
        kept += [text[done : before.end()], value["open"] or "", MASK]
        done = value.end()
    return "".join([*kept, text[done:]])


def _is_secret_pair(before: re.Match[str], value: re.Match[str]) -> bool:
    given = value["quoted"] if value["open"] else value[0]
    if _NO_SECRET.match(given):
        return False
    weak = _WEAK.search(before["name"])
    if weak is None:
        return True
    random = len(given) >= MIN_LENGTH and any(each.isdigit() for each in given)
    if weak["signature"]:
        return random
    if weak["folder"]:
        return before["sign"] == "=" and not set("/\\") & set(given)
    # A token may also be a number, a list of words or a word of prose.
    prose = before["sign"] == ":" and not before["quote"]
    return not re.match(r"[\[{(]|\d+(?:/|$)", given) and (random or not prose)


def _of_environment() -> list[str]:
    """Returns the secrets in the environment variables, longest first."""
    found = {value for name, value in os.environ.items() if _is_secret_variable(name, value)}
    return sorted(found, key=len, reverse=True)


@lru_cache(maxsize=4096)
def _is_secret_variable(name: str, value: str) -> bool:
    if len(value) < MIN_LENGTH or _ORDINARY_VARIABLES.search(name):
        return False
    if name.upper().endswith("_KEY") and len(value) >= 2 * MIN_LENGTH and any(each.isdigit() for each in value):
        return True
    # Many variables name a file with the secret.
    return bool(_VARIABLES.search(name) or names_secret(name)) and not os.path.exists(value)
