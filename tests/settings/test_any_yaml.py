"""Whatever text a settings file has, it gives settings or a ConfigError."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from trackkit import ConfigError, TrackKit


@seed(0)
@settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(st.sampled_from(list("abc:-[]{}&*!|>?'\"\n\t #$,%@1.e0~")), max_size=60))
def test_any_yaml_gives_settings_or_an_error_of_ours(text: str) -> None:
    Path("trackkit.yaml").write_text(text)
    with suppress(ConfigError):
        TrackKit()
