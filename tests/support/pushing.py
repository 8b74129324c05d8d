"""Trains with Hugging Face's trainer and pushes to a Hub without a network: `pushing.py OUT`."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import transformers.trainer

from tests.support.huggingface_toys import Sequential, make_trainer
from tests.support.toy import Points
from trackkit import TrackKit


class Hub:
    """A Hub client: each upload makes a commit."""

    repo_id = "me/model"

    def __init__(self) -> None:
        self.commits: list[str] = []

    def create_repo(self, *_: Any, **__: Any) -> Hub:
        return self

    def upload_folder(self, *, run_as_future: bool = False, **_: Any) -> Any:
        self.commits.append(f"https://huggingface.co/me/model/commit/{len(self.commits) + 1}")
        commit = SimpleNamespace(commit_url=self.commits[-1])
        done: Future[Any] = Future()
        done.set_result(commit)
        return done if run_as_future else commit


class Publishing(Sequential):
    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Does nothing: the model card would be filled from the network."""


def main() -> None:
    hub = Hub()
    vars(transformers.trainer)["hf_api"] = lambda: hub
    best = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "learning_rate": 30.0}
    given: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "push_to_hub": True, **best}
    trainer = make_trainer(sys.argv[1], [TrackKit(project="p")], kind=Publishing, val=Points(5, 12), **given)
    trainer.train()
    trainer.push_to_hub()


if __name__ == "__main__":
    main()
