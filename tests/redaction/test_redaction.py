"""Secrets in names, values, command lines and configs are masked, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from trackkit.integrations.wandb.server import Unanswered, explain
from trackkit.record.run_config import flatten, plain, recorded
from trackkit.redaction.patterns import mask_url
from trackkit.redaction.redact import MASK, is_secret, redact, redact_arguments
from trackkit.sync.server_run import ServerError

HF = "hf_" + "a1B2" * 8
GITHUB = "ghp_" + "a1B2" * 9
OPENAI = "sk-" + "a1B2" * 8


@pytest.mark.parametrize(
    "name",
    [
        *("token", "hub_token", "hf_token", "HF_TOKEN", "auth-token", "push_to_hub_token_access_token", "github.token"),
        *(
            "api_key",
            "apikey",
            "apiKey",
            "api-key",
            "OPENAI_API_KEY",
            "aws_secret_access_key",
            "secret",
            "client_secret",
        ),
        *("password", "db.password", "passwd", "passphrase", "credentials", "private_key", "authorization"),
    ],
)
def test_value_with_the_name_of_a_secret_is_masked(name: str) -> None:
    assert is_secret(name, "x")
    assert redact(name, "x") == MASK
    assert redact(name, ["x"]) == [MASK]
    assert redact("outer", {name: "x", "lr": 0.1}) == {name: MASK, "lr": 0.1}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pad_token", "<pad>"),
        ("eos_token_id", "2"),
        ("unk_token", "<unk>"),
        ("num_tokens", "5"),
        ("max_tokens", "all"),
        ("tokenizer", "bpe"),
        ("token", 17),
        ("token", None),
        ("hub_token", ""),
        ("keyboard", "x"),
        ("monkey", "x"),
        ("key", "x"),
        ("secretary", "x"),
        ("path", "/data/hf_cache/x"),
        ("path", "sk-learn"),
        ("remote", "git@github.com:org/name.git"),
        ("url", "https://example.org/a@b"),
        ("note", "mail me@example.org"),
    ],
)
def test_value_that_only_resembles_a_secret_stays(name: str, value: Any) -> None:
    assert not is_secret(name, value)
    assert redact(name, value) == value


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        (HF, MASK),
        (f"use {HF} please", f"use {MASK} please"),
        (GITHUB, MASK),
        (OPENAI, MASK),
        ("-----BEGIN RSA PRIVATE KEY-----abc-----END RSA PRIVATE KEY-----.", f"{MASK}."),
        ("-----BEGIN PRIVATE KEY-----abc", MASK),
        ("AKIA" + "A1B2" * 4, MASK),
        ("https://me:pw@example.org/x", f"https://{MASK}@example.org/x"),
        (f"https://{GITHUB}@github.com/o/n.git", f"https://{MASK}@github.com/o/n.git"),
        ("postgresql+psycopg://u:p@db/x", f"postgresql+psycopg://{MASK}@db/x"),
    ],
)
def test_value_in_the_form_of_a_secret_is_masked_under_any_name(value: str, masked: str) -> None:
    for name in ("", "notes", "remote"):
        assert is_secret(name, value)
        assert redact(name, value) == masked


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("s3://me:pw@bucket/run/last.ckpt", "s3://bucket/run/last.ckpt"),
        ("https://h/last.ckpt?X-Amz-Date=1&X-Amz-Signature=a/b", "https://h/last.ckpt"),
        ("memory://me:pw@h/run?sig=a1/epoch=0-step=3.ckpt", "memory://h/run/epoch=0-step=3.ckpt"),
        ("s3://bucket/last.ckpt?versionId=3", "s3://bucket/last.ckpt?versionId=3"),
        ("sftp://me@h/last@3.ckpt", "sftp://me@h/last@3.ckpt"),
    ],
)
def test_url_of_a_file_loses_its_secrets_and_still_names_the_file(url: str, kept: str) -> None:
    assert mask_url(url) == kept


def test_login_of_a_server_is_masked_in_what_is_said_about_it() -> None:
    url = "https://me:pw7K@wandb.example.org"
    for said in (explain(url, "timed out"), str(ServerError(f"W&B at {url} does not answer")), str(Unanswered(url))):
        assert "pw7K" not in said
        assert "https://***@wandb.example.org" in said


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["--token=x"], [f"--token={MASK}"]),
        (["--hub_token", "x", "--lr", "1"], ["--hub_token", MASK, "--lr", "1"]),
        (["--api-key", "x"], ["--api-key", MASK]),
        (["-password", "x"], ["-password", MASK]),
        (["trainer.hub_token=x", "+api_key=y", "lr=1"], [f"trainer.hub_token={MASK}", f"+api_key={MASK}", "lr=1"]),
        (["--push", HF, "--url", "https://u:p@h/x"], ["--push", MASK, "--url", f"https://{MASK}@h/x"]),
        (["--token", "--verbose"], ["--token", "--verbose"]),
        (
            ["--pad_token", "<pad>", "--max_tokens=7", "token", "x"],
            ["--pad_token", "<pad>", "--max_tokens=7", "token", "x"],
        ),
    ],
)
def test_secrets_of_a_command_line_are_masked(given: list[str], kept: list[str]) -> None:
    before = list(given)
    assert redact_arguments(given) == kept
    assert given == before


def test_run_config_is_masked_at_every_depth_in_a_copy() -> None:
    own = {"model": {"auth": {"deep": {"api_key": "x", "lr": 1}}}, "urls": ["https://u:p@h"], "hub_token": "x"}
    assert flatten("hparams", own) == {
        "hparams/model/auth/deep": {"api_key": MASK, "lr": 1},
        "hparams/urls": [f"https://{MASK}@h"],
        "hparams/hub_token": MASK,
    }
    assert own["hub_token"] == "x"


def test_text_is_masked_before_it_is_cut() -> None:
    """A secret that spans the cut would leave its beginning, which no longer looks like a secret."""
    text = "x" * 1980 + " hf_" + "a" * 30 + " " + "y" * 100
    assert flatten("hparams", {"notes": text}) == {"hparams/notes": ("x" * 1980 + f" {MASK} " + "y" * 100)[:2000]}
    assert recorded({"trainer/notes": plain(text)})["trainer/notes"].endswith(f"x {MASK} " + "y" * 15)


def test_cut_before_the_search_leaves_no_part_of_a_secret() -> None:
    """Masks shorten a text: what is at the first cut may come before the second."""
    text = ("sk-ant-api03-" + "a1B2" * 25 + " ") * 300
    for shift in range(0, 120, 3):
        (kept,) = flatten("hparams", {"notes": "x" * shift + " " + text}).values()
        assert "a1B" not in kept
