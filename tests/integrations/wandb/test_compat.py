"""The private names of wandb that TrackKit uses."""

from __future__ import annotations

import pytest

from trackkit.integrations.wandb import _compat
from trackkit.integrations.wandb._compat import PRIVATE, missing


def test_installed_wandb_has_every_private_name() -> None:
    assert missing() == []


@pytest.mark.parametrize(
    "name",
    [
        "wandb.sdk.wandb_run.Run._partial_history_callback",
        "wandb.sdk.lib.module.unset_globals",
        "wandb.sdk.wandb_setup._singleton",
        "wandb.proto.wandb_internal_pb2.Record",
    ],
)
def test_removed_name_is_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name in [each.name.replace(":", ".") for each in PRIVATE]
    monkeypatch.delattr(name)
    assert [each.replace(":", ".") for each in missing()] == [name]


def test_rows_pass_without_the_private_name() -> None:
    calls: list[str] = []
    release = _compat.intercept_rows(object(), lambda publish: calls.append("row"))  # type: ignore[arg-type]
    release()
    assert calls == []


def test_settings_unknown_to_wandb_are_dropped() -> None:
    settings = _compat.known_settings({"finish_timeout": 3.0, "x_no_field": 1})
    assert settings.finish_timeout == 3.0
