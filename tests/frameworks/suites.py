"""The frameworks' own tests that judge TrackKit: where they come from, which are run, which may fail and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Suite:
    """The tests of one framework, as its repository keeps them.

    `tests` are what is run and `kept` what they need, as paths in the repository.
    `allowed` maps a test id (or a pattern of ids) to the reason why TrackKit may make that test fail. `apart` puts
    TrackKit's files outside of the training's own folder (the setting `dir`).
    """

    package: str
    repository: str
    tag: str
    kept: tuple[str, ...]
    tests: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    allowed: Mapping[str, str] = field(default_factory=dict)
    apart: bool = False


_CLOCK = "replaces time.perf_counter by a list of answers for the whole process; filelock, which TrackKit uses, asks it"
_EXACT_CALLBACKS = "asserts the exact list of the trainer's callbacks"
_ENTRIES = "counts the entries of output_dir, where TrackKit's folder lies"

LIGHTNING = Suite(
    package="lightning",
    repository="https://github.com/Lightning-AI/pytorch-lightning",
    tag="{version}",
    kept=("tests/tests_pytorch", "pyproject.toml", "requirements"),
    tests=(
        "tests/tests_pytorch/callbacks",
        "tests/tests_pytorch/checkpointing",
        "tests/tests_pytorch/loops",
        "tests/tests_pytorch/models/test_hooks.py",
        "tests/tests_pytorch/models/test_restore.py",
        "tests/tests_pytorch/trainer/connectors/test_callback_connector.py",
        "tests/tests_pytorch/trainer/connectors/test_checkpoint_connector.py",
        "tests/tests_pytorch/trainer/connectors/test_logger_connector.py",
        "tests/tests_pytorch/trainer/connectors/test_signal_connector.py",
        "tests/tests_pytorch/trainer/logging_",
        "tests/tests_pytorch/trainer/optimization",
        "tests/tests_pytorch/trainer/properties/test_estimated_stepping_batches.py",
        "tests/tests_pytorch/tuner",
    ),
    left_out=(
        # It loads checkpoints that are downloaded.
        "tests/tests_pytorch/checkpointing/test_legacy_checkpoints.py",
        # Two processes for each of its many cases, for many minutes.
        "tests/tests_pytorch/callbacks/test_spike.py",
    ),
    allowed={
        f"tests/tests_pytorch/trainer/connectors/test_callback_connector.py::{test}": _EXACT_CALLBACKS
        for test in (
            "test_checkpoint_callbacks_are_last",
            "test_attach_model_callbacks",
            "test_configure_external_callbacks",
        )
    }
    | {"tests/tests_pytorch/callbacks/test_throughput_monitor.py::*": _CLOCK},
    # Dozens of these tests list the folder of the checkpoints, which is the training's.
    apart=True,
)

TRANSFORMERS = Suite(
    package="transformers",
    repository="https://github.com/huggingface/transformers",
    tag="v{version}",
    kept=("tests/__init__.py", "tests/trainer", "tests/fixtures", "conftest.py", "pyproject.toml"),
    tests=("tests/trainer",),
    left_out=(
        # They need several accelerators, or no Trainer.
        "tests/trainer/distributed",
        "tests/trainer/test_data_collator.py",
    ),
    allowed={
        f"tests/trainer/test_trainer_checkpointing.py::TrainerBestModelTest::{test}": _ENTRIES
        for test in ("test_best_model_checkpoint_behavior", "test_save_best_checkpoint")
    },
)

SUITES = {suite.package: suite for suite in (LIGHTNING, TRANSFORMERS)}
