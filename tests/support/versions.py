"""What older versions of transformers do differently, for the tests that `make test-oldest` runs too."""

from __future__ import annotations

from importlib.metadata import version

from packaging.version import Version

_TRANSFORMERS = Version(version("transformers"))

LOGS_UNCLIPPED_NORM = Version("5.3") <= _TRANSFORMERS
"""Whether the Trainer logs the gradient norm with `max_grad_norm=0` too."""

EVALUATES_LAST_STEP = Version("5.4") <= _TRANSFORMERS
"""Whether `eval_strategy="steps"` evaluates at the last step too, if that is no multiple of `eval_steps`."""
