"""Secrets in a text are masked, by the name before them or as values of the environment."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from trackkit.notices import logger
from trackkit.redaction.patterns import mask, names_secret
from trackkit.redaction.redact import MASK, redact, redact_arguments, slurm_has_secrets

M = MASK


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Server=x;User=u;Password=connPw123;", f"Server=x;User=u;Password={M};"),
        ("Server=x;Pwd=a,b&c d;Timeout=5", f"Server=x;Pwd={M};Timeout=5"),
        ("host=db password=pg dbname=x", f"host=db password={M} dbname=x"),
        ("AccountName=me;AccountKey=abc+/==;Suffix=x", f"AccountName=me;AccountKey={M};Suffix=x"),
        ('{"hub_token": "plain"}', f'{{"hub_token": "{M}"}}'),
        ('{"a": {"token": "plain", "lr": 0.1}}', f'{{"a": {{"token": "{M}", "lr": 0.1}}}}'),
        ("{'password': 'it is \\' so'}", f"{{'password': '{M}'}}"),
        (json.dumps({"in": '{"api_key": "x y"}'}), f'{{"in": "{{\\"api_key\\": \\"{M}\\"}}"}}'),
        ('{"passwords": ["a", "b"], "n": 1}', f'{{"passwords": {M}], "n": 1}}'),
        ('{"password": "cut off', f'{{"password": "{M}'),
        ("Config(password='x', lr=0.1)", f"Config(password='{M}', lr=0.1)"),
        ("Config(api_key=abc, lr=0.1)", f"Config(api_key={M}, lr=0.1)"),
        ("Config(key=b'abc', secret=b'abc')", f"Config(key=b'abc', secret=b'{M}')"),
        ("password: hunter2\nlr: 0.1", f"password: {M}\nlr: 0.1"),
        ("Authorization: Basic dXNlcjpwdw==", f"Authorization: {M}"),
        ("curl -H 'X: Bearer abcd1234'", f"curl -H 'X: {M}'"),
        ("train.py --hub_token abc --lr 0.1 --api-key=d", f"train.py --hub_token {M} --lr 0.1 --api-key={M}"),
        ("export OPENAI_API_KEY=abc; python x.py", f"export OPENAI_API_KEY={M}; python x.py"),
        ("x=password=abc", f"x=password={M}"),
        ("https://h/y?X-Amz-Signature=ab&x=1&token=c#d", f"https://h/y?X-Amz-Signature={M}&x=1&token={M}"),
        ("https://h/y?sv=1&sig=a%2Fb", f"https://h/y?sv=1&sig={M}"),
        ("postgresql://me:p@ss/wo?rd@db/x", f"postgresql://{M}@db/x"),
    ],
)
def test_secret_in_a_text_is_masked_and_its_surroundings_stay(text: str, masked: str) -> None:
    assert mask(text) == masked
    assert mask(masked) == masked
    assert redact("notes", text) == masked


@pytest.mark.parametrize(
    "text",
    [
        *("tokenizer=bert", "max_new_tokens=128", "num_tokens: 5", "tokens=128", "token: 17", "token_type_ids=x"),
        *("pad_token=<pad>", 'eos_token="</s>"', "{'unk_token': '<unk>', 'cls_token': '[CLS]'}", "special_tokens: <s>"),
        *("lr: 0.1, key: value", '{"sort_key": "name", "label_key": "y"}', "author: me", "secretary: me", "monkey=1"),
        *("use_auth_token=True", "hub_token=None", '{"token": null}', "hub_token=", "--token --lr 1"),
        *("by token: faster than by word", "no token left", "https://h/models?sort=key&max_tokens=5"),
        *("git@github.com:org/name.git", "https://github.com/org/name.git", "ssh://host:22/x@y", "models:/name@prod"),
        *("http://localhost:5000/models/x@prod", "/data/secret/train.txt", "/data/tokens=5/x", r"C:\data\token"),
        *("diff --git a/token.py b/token.py", "+    token = tokenizer.next()"[:12], "signature=serving_default"),
        *("a == b", "std::string secret::x", "train.py --tokens 5 --tokenizer t"),
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert mask(text) == text
    assert redact("notes", text) == text


@pytest.mark.parametrize(
    "name",
    [
        *(
            "wandb_key",
            "hf_key",
            "openai_key",
            "openaiKey",
            "HFToken",
            "dbPassword",
            "PGPASSWORD",
            "db_pwd",
            "SLURM_JWT",
        ),
        *(
            "aws_access_key_id",
            "security_token",
            "oauth_token",
            "clientsecret",
            "session_cookie",
            "secrets/db",
            "a.secret.b",
        ),
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert names_secret(name)
    assert redact(name, "x") == MASK


@pytest.mark.parametrize(
    "name", ["user_token", "cls_token", "label_key", "sort_key", "pwd", "s3_key", "signature", "passes", "token/kind"]
)
def test_names_of_other_things_are_none(name: str) -> None:
    assert not names_secret(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567"),
        ("MY_TOKEN", "correct7Horse-battery"),
        ("AWS_ACCESS_KEY_ID", "no7InAf0rm"),
        ("PGPASSWORD", "xK3v9Qm2"),
        ("THE_SECRET_THING", "several-uncommon-words-together"),
        ("SOME_KEY", "abcdefgh12345678"),
    ],
)
def test_secret_of_the_environment_is_masked_anywhere(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"a{value}b"
    assert redact("x", text) == text
    monkeypatch.setenv(name, value)
    assert redact("x", text) == f"a{MASK}b"
    assert redact("x", [{"y": value, value: 1}]) == [{"y": MASK, value: 1}]
    assert redact_arguments(["train.py", value]) == ["train.py", MASK]
    monkeypatch.delenv(name)
    assert redact("x", text) == text


def test_other_values_of_the_environment_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.touch()
    ordinary = {
        "USE_AUTH_TOKEN": "true",
        "SHORT_PASSWORD": "1234567",
        "TOKENIZERS_PARALLELISM": "notsecret",
        "EOS_TOKEN": "<|endoftext|>",
        "GOOGLE_APPLICATION_CREDENTIALS": str(file),
        "HF_TOKEN_PATH": "/home/me/token",
        "MY_SECRET_NAME": "database-login",
        "LABEL_KEY": "sentiment",
    }
    for name, value in ordinary.items():
        monkeypatch.setenv(name, value)
    text = " ".join(ordinary.values())
    assert redact("notes", text) == text


def test_containers_are_masked() -> None:
    given = {"credentials": {"user": "me", "n": 1}, "argv": ["--api-key", "x", "--lr", "1"], "db_password": 12345678}
    assert redact("", given) == {
        "credentials": {"user": MASK, "n": 1},
        "argv": ["--api-key", MASK, "--lr", "1"],
        "db_password": MASK,
    }
    assert redact_arguments(["--password", "abc=="]) == ["--password", MASK]


def test_log_messages_are_masked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trackkit")
    try:
        raise ValueError("password=abc")
    except ValueError:
        logger.error("%s failed for %d s: %s", "https://me:pw@host", 3, "x", exc_info=True)
    logger.info("%s is as it was", "tokenizer")
    assert f"https://{MASK}@host failed for 3 s: x" in caplog.text
    assert f"ValueError: password={MASK}" in caplog.text
    assert "abc" not in caplog.text
    assert caplog.records[1].args == ("tokenizer",)


def test_secrets_of_slurm_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NAME", "tokens")
    assert not slurm_has_secrets()
    monkeypatch.setenv("SLURM_JWT", "x")
    assert slurm_has_secrets()
