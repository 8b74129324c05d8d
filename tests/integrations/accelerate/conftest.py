"""Keeps tests of Accelerate apart: its accelerators share their state within a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState, GradientState


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Forgets what earlier accelerators share, those of other folders' tests and of trainers included."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001 -- Accelerate's own tests use it
    GradientState._reset_state()  # noqa: SLF001
