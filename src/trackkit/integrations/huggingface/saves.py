"""Reports the checkpoints that a training saves, before older ones are deleted, and what is pushed to the Hub."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trackkit.engine.records import Checkpoint
from trackkit.integrations.guard import Kit, call_guarded
from trackkit.integrations.huggingface import _compat
from trackkit.integrations.patches import Patch
from trackkit.redaction.patterns import mask_url

if TYPE_CHECKING:
    from trackkit.engine.tracker import Tracker
    from trackkit.session.per_trainer import Runs


class Saves:
    """Follows the checkpoints of one training; saves nothing itself.

    `on_save` comes after older checkpoints were deleted, never for those of `enable_jit_checkpoint`, and without the
    folder, which for a trial of a search is not in `output_dir`. So the trainer's state reports: a trainer writes it
    into every checkpoint as the last of its files, before it deletes any.

    Args:
        kit: the TrackKit that records the trainer.
        tracker: of the run.
        args, state: of the training.
    """

    def __init__(self, kit: Kit, tracker: Tracker, args: Any, state: Any) -> None:
        self._kit, self._tracker = kit, tracker
        self._args, self._state = args, state
        self._incomplete: Checkpoint | None = None
        self._patch = Patch(state, "save_to_json", self._save_to_json)

    def ends(self) -> None:
        """Ends the training; reports a just-in-time checkpoint that has been completed since it was saved."""
        self._patch.remove()
        checkpoint, self._incomplete = self._incomplete, None
        if checkpoint is not None and _compat.is_complete(checkpoint.path):
            self._tracker.checkpoint(replace(checkpoint, complete=True))

    def _save_to_json(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def save_to_json(json_path: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(json_path, *args, **kwargs)
            call_guarded(self._kit, "save_to_json", self._saved, os.path.dirname(os.path.abspath(json_path)))
            return result

        return save_to_json

    def _saved(self, folder: str) -> None:
        args, state = self._args, self._state
        # `Trainer.save_state` writes into the output folder.
        if os.path.basename(folder) != _compat.checkpoint_name(state.global_step) or not state.is_world_process_zero:
            return
        monitor = args.metric_for_best_model or ""
        if monitor and not monitor.startswith("eval_"):
            monitor = f"eval_{monitor}"
        checkpoint = Checkpoint(
            folder,
            state.global_step,
            "huggingface",
            state.epoch,
            monitor=monitor,
            value=self._value(monitor),
            goal=("max" if args.greater_is_better else "min") if monitor else "",
            resumable=not args.save_only_model,
            complete=_compat.is_complete(folder),
            # Nothing makes the ranks wait for each other after they have written their parts.
            shared=args.world_size > 1,
            parts=() if args.save_only_model or args.world_size == 1 else _compat.last_parts(args.world_size),
        )
        self._incomplete = None if checkpoint.complete else checkpoint
        self._tracker.checkpoint(checkpoint)

    def _value(self, monitor: str) -> float | None:
        """Returns the metric of these weights; None if they were not evaluated."""
        for entry in reversed(self._state.log_history):
            if entry.get("step") != self._state.global_step:
                break
            if monitor in entry:
                return float(entry[monitor])
        return None


class Pushes:
    """Records the commit that each push to the Hub makes, during a training and after it.

    Args:
        kit: the TrackKit that records the trainer.
        runs: the trainer's runs.
        trainer: the trainer; its two methods that push stay wrapped.
    """

    def __init__(self, kit: Kit, runs: Runs, trainer: Any) -> None:
        self._kit, self._runs = kit, runs
        for name in _compat.PUSHES:
            if hasattr(trainer, name):
                Patch(trainer, name, self._push)

    def _push(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def push(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            call_guarded(self._kit, "push_to_hub", self._pushed, result, original)
            return result

        return push

    def _pushed(self, result: Any, method: Any) -> None:
        for each in [result] if result is not None else _compat.pushes_in_progress(method):
            if isinstance(each, Future):
                each.add_done_callback(lambda job: call_guarded(self._kit, "push_to_hub", self._done, job, method))
            else:
                self._record(each, method)

    def _done(self, job: Future[Any], method: Any) -> None:
        if not job.cancelled() and job.exception() is None:
            self._record(job.result(), method)

    def _record(self, commit: Any, method: Any) -> None:
        from trackkit.session.session import open_sessions

        url, session = getattr(commit, "commit_url", None), self._runs.session
        if not url or session not in open_sessions():
            return
        fitted = session.phase == "fitted"
        session.tracker.pushed(mask_url(str(url)), _compat.loaded_best(method) if fitted else "")
        if fitted:
            session.evaluated()
