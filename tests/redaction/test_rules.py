"""Secrets of every vendor are masked wherever they are recorded, in linear time, and next to nothing else is."""

from __future__ import annotations

import json
import logging
import random
import re
from pathlib import Path

import pytest
from detect_secrets.core.scan import scan_line
from detect_secrets.settings import default_settings

from tests.support.secret_samples import fill, samples, secret_end
from trackkit.notices import logger
from trackkit.record.run_config import flatten, recorded
from trackkit.redaction.patterns import clip, mask, mask_name
from trackkit.redaction.redact import MASK, redact, redact_arguments
from trackkit.redaction.rules import RULES
from trackkit.schema.keys import Where
from trackkit.schema.names import Names
from trackkit.session.console import Console

INNOCENT = (Path(__file__).parent / "innocent.txt").read_text(encoding="utf-8").splitlines()
# What detect-secrets finds by entropy alone, commit hashes included, and addresses of the network.
NO_FORMS = {"Base64 High Entropy String", "Hex High Entropy String", "Public IP (ipv4)"}
# Forms that detect-secrets finds by the name before them.
NAMED = [
    "aws_secret_access_key = '{p40}'",
    "AccountKey={p86}==;",
    "cloudant_password = '{x64}'",
    "cl_key='{x64}'",
    "https://account:{x64}@account.cloudant.com",
    "ibm_cloud_iam_api_key = '{b44}'",
    "ibm_key: {b44}",
    "cos_secret_access_key = '{x48}'",
    "softlayer_api_key = '{x64}'",
    "sl_token: '{x64}'",
    "//registry.npmjs.org/:_authToken=npm_{w36}",
    "//registry.npmjs.org/:_authToken={UUID}",
    "https://user:{w12}@example.org/x",
    *(
        f"{name}{form}"
        for name in ("password", "passwd", "api_key", "apikey", "secret", "db_password", "service_key", "db_key")
        for form in (' = "{w12}"', ": '{w12}'", "={w12}", ' := "{w12}"', ' == "{w12}"', ' => "{w12}"')
    ),
    *(
        f'{name} = "{{w12}}"'
        for name in ("auth_key", "account_key", "database_key", "priv_key", "client_key", "db_pass")
    ),
    *(f'{name} = "{{w12}}"' for name in ("key_pass", "database_pass", "private_key", "client_secret", "pwd")),
]


@pytest.mark.parametrize("seed", range(5))
def test_every_form_is_masked_in_every_text(seed: int) -> None:
    for vendor, secret in samples(seed):
        texts = [secret, f"use {secret}, please", f"error: <{secret}>", f"x={secret}", json.dumps({"x": f"\n{secret}"})]
        for text in texts:
            assert secret_end(secret) not in mask(text).replace(r"\n", "\n"), (vendor, text)
            assert mask(mask(text)) == mask(text)


def test_every_rule_has_a_source_and_a_sample() -> None:
    assert {rule.vendor for rule in RULES} == {vendor for vendor, _ in samples()}
    for rule in RULES:
        assert re.match(r"github:|gitleaks:|[\w.-]+\.[a-z]+(/|$)", rule.source), rule
        assert re.compile(rule.pattern)


def test_only_the_end_of_a_pattern_repeats_without_a_bound() -> None:
    for rule in RULES:
        if rule.vendor != "Private key":
            assert not re.search(
                r"(?:[*+]|\d,\})(?!(?:[=\\.]*[)?*]|=\{0,\d\}|=\*)*(?:\||$|\())(?!\()", _bare(rule.pattern)
            ), rule


def _bare(pattern: str) -> str:
    """Returns a pattern without its sets and escaped characters."""
    return re.sub(r"\\.", "_", re.sub(r"\[[^\]]*\]", "_", pattern))


@pytest.mark.parametrize("seed", range(3))
def test_what_detect_secrets_finds_is_masked(seed: int) -> None:
    generator = random.Random(seed)
    texts = [text for _, secret in samples(seed) for text in secret.splitlines()[:1]]
    texts += [fill(form, generator) for form in NAMED]
    kinds = set()
    with default_settings():
        for text in texts:
            for line in (text, f'x = "{text}"'):
                found = [each for each in scan_line(line) if each.type not in NO_FORMS]
                kinds.update(each.type for each in found)
                kept = mask(line)
                assert all(each.secret_value not in kept for each in found if each.secret_value), (line, kept, found)
    assert len(kinds) > 15


def test_one_of_300_innocent_values_is_masked_at_most() -> None:
    assert len(INNOCENT) > 360
    changed = [
        line
        for line in INNOCENT
        if not (
            mask(line) == mask_name(line) == redact("notes", line) == line
            and mask(f"INFO: {line}") == f"INFO: {line}"
            and redact_arguments(line.split(" ")) == line.split(" ")
        )
    ]
    assert len(changed) * 300 <= len(INNOCENT), changed


@pytest.mark.parametrize(
    "password",
    ["training", "postgres", "password", "changeme123", "resnet50", "segmentation", "transformers", "my-cool-project"],
)
def test_weak_password_of_the_environment_changes_no_text(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", password)
    monkeypatch.setenv("MY_TOKEN", password)
    for text in (password, f"{password}-run", f"the {password} of today", f"/data/{password}/x"):
        assert mask(text) == text
        assert redact("notes", [text, {"x": text, f"{text}-x": 1}]) == [text, {"x": text, f"{text}-x": 1}]


def test_secret_of_the_environment_rewrites_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "xK3v9Qm2pL")
    assert redact("", {"hparams/xK3v9Qm2pL": "xK3v9Qm2pL"}) == {"hparams/xK3v9Qm2pL": MASK}


def test_changed_environment_is_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("xK3v9Qm2pL", "aB7wR4tY8u"):
        monkeypatch.setenv("DB_PASSWORD", value)
        assert mask(f"x{value}") == f"x{MASK}"
    monkeypatch.delenv("DB_PASSWORD")
    assert mask("xaB7wR4tY8u") == "xaB7wR4tY8u"


@pytest.mark.parametrize(
    "part",
    [
        *(
            "a-",
            "a.b-",
            "x://u:",
            "x://",
            "u:@",
            "password: x ",
            "password=)",
            "password=\\",
            "password=(",
            "sig=",
            "?a_a&",
        ),
        *("token: ", "eyJaaaaaaaa-", "-----BEGIN ", "sk-", "sk-a-", "hf_", "glpat-", "\\", '"', "://@", "1:", "M."),
    ],
)
def test_long_text_is_masked_to_its_end(part: str) -> None:
    """A quadratic search would take hours for 1 MB."""
    secret = "ghp_" + "a1B2" * 9
    text = part * (1_000_000 // len(part)) + f" \n{secret}\n"
    assert secret not in mask(text)


def test_cut_leaves_no_part_of_a_secret() -> None:
    secret = "sk-ant-api03-" + "a1B2" * 23 + "AA"
    for length in range(90, 250):
        assert "a1B" not in mask(clip("word " * 20 + secret + " and more", length))
    assert clip("one two three", 9) == "one two "
    assert clip("short", 9) == "short"
    assert len(clip("a" * 10_000, 9000)) < 9000


@pytest.mark.parametrize(("vendor", "secret"), samples(1), ids=lambda value: str(value)[:12])
def test_every_channel_masks_every_form(vendor: str, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    end = secret_end(secret)
    spelled = re.sub(r"[^A-Za-z0-9]+", "_", end).strip("_").lower()
    assert end not in json.dumps(recorded({f"trainer/{secret}": f"a {secret}", "list": [secret], "deep": {secret: 1}}))
    assert end not in json.dumps(flatten("hparams", {"note": secret, "in": {"deep": [f"b {secret}"]}}))
    assert end not in str(redact("", {"tags": (secret, "x"), "notes": f"see {secret}"}))
    assert end not in " ".join(redact_arguments(["train.py", "--note", secret, f"x={secret}", f"+a.b={secret}"]))
    assert end not in redact("", f"https://{secret.splitlines()[0]}:x@example.org/o/n.git")
    for mode in ("canonical", "keep"):
        names = Names(mode, clean=mask_name)
        for name in (secret, f"loss_{secret}", f"{secret}/loss"):
            (key,) = names.resolve([name], Where("epoch", "val", secret)).values()
            assert spelled not in key.lower()
        assert spelled not in re.sub(r"[^A-Za-z0-9]+", "_", str(names.renames)).lower()
    caplog.set_level(logging.INFO, "trackkit")
    try:
        raise ValueError(secret)
    except ValueError:
        logger.error("failed with %s", secret, exc_info=True)
    assert end not in caplog.text


def test_console_masks_every_form(tmp_path: Path) -> None:
    failures: list[str] = []
    forms = samples(1)
    for _, secret in forms:
        console = Console(0, lambda: tmp_path, lambda lines: None, lambda what, error: failures.append(what))
        console._add("stdout", f"it is {secret}\n")  # noqa: SLF001 -- as if printed
        console.close()
    found = (tmp_path / "console.jsonl").read_text(encoding="utf-8")
    assert not failures
    assert found.count("it is ") == len(forms)
    assert not [vendor for vendor, secret in forms if secret_end(secret) in found]
