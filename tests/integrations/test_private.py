"""Private names that are gone are found, wherever they were defined."""

from __future__ import annotations

import pytest

from trackkit.integrations.private import Private, missing


@pytest.mark.parametrize(
    ("name", "exists"),
    [
        ("wandb.sdk.wandb_setup:singleton", True),
        ("wandb.sdk.wandb_setup:_WandbSetup._connection", True),
        ("wandb.sdk.wandb_setup:_WandbSetup._no_attribute", False),
        ("wandb.sdk.wandb_settings:Settings.x_disable_meta", True),
        ("wandb.sdk.wandb_settings:Settings.x_no_field", False),
        ("wandb.sdk.no_module:name", False),
        ("accelerate.optimizer:AcceleratedOptimizer.scaler", True),
        ("accelerate.optimizer:AcceleratedOptimizer.scaler_before_a_rename", False),
        ("wandb.sdk.wandb_setup:_gone.attribute", False),
    ],
)
def test_only_names_that_are_gone_are_reported(name: str, exists: bool) -> None:
    assert missing([Private(name, "a test", "none", "nothing")]) == ([] if exists else [name])
