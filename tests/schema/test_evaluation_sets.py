"""Several evaluation sets: every value of every set is recorded under its own set's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.huggingface_toys import evaluate_plainly, plain_loop, train
from tests.support.lightning_toys import Silent, data, epoch_rows, trainer
from tests.support.toy import Points
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink
from trackkit.schema.keys import Where
from trackkit.schema.names import EvaluationSets

SECOND = "en_us_b0ad4ba8"


class Numbered(Silent):
    """Logs values that depend on the set."""

    def evaluate(self, split: str, index: int) -> None:
        self.log(f"{split}_x", 10.0 + index)
        self.log("both", 20.0 + index, on_step=True, on_epoch=True)
        self.log("time_step", 40.0 + index, on_step=True, on_epoch=False)
        self.log("time", 50.0 + index)

    def validation_step(self, batch: Any, _: int, dataloader_idx: int = 0) -> None:
        self.evaluate("val", dataloader_idx)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.evaluate("test", dataloader_idx)


def expected(split: str, names: list[str]) -> dict[str, float]:
    values = {"x": 10.0, "both": 20.0, "time_step": 40.0, "time": 50.0}
    return {f"epoch/{split}/{set}/{name}": value + i for i, set in enumerate(names) for name, value in values.items()}


def found(sink: MemorySink) -> dict[str, float]:
    return {key: value for row in epoch_rows(sink) for key, value in row.items() if key.count("/") > 1}


SETS = [
    ({"\u03b1": 0, "β": 0}, ["\u03b1", "β"]),
    ({"en-us": 0, "en_us": 0}, ["en_us", SECOND]),
    ({"a/b": 0, "A b": 0}, ["a_b", "A_b_b8211a33"]),
    ({"a": [0, 0], "b": 0}, ["dataloader_0", "dataloader_1", "dataloader_2"]),
    ({"b": {"x": 0}, "a": 0}, ["dataloader_0", "dataloader_1"]),
    ([0, [0, 0]], ["dataloader_0", "dataloader_1", "dataloader_2"]),
]


def loaders(shape: Any) -> Any:
    """Returns the same shape with a loader in every place."""
    if isinstance(shape, dict):
        return {name: loaders(each) for name, each in shape.items()}
    return [loaders(each) for each in shape] if isinstance(shape, list) else data(2)


@pytest.mark.parametrize(("shape", "names"), SETS, ids=lambda value: str(value))
@pytest.mark.parametrize("verb", ["fit", "test"])
def test_lightning_sets_have_their_own_values(shape: Any, names: list[str], verb: str) -> None:
    sink = MemorySink()
    run = trainer(TrackKit(sinks=[sink]))
    if verb == "fit":
        run.fit(Numbered(), data(3), loaders(shape))
    else:
        run.test(Numbered(), loaders(shape), verbose=False)
    assert found(sink) == expected("val" if verb == "fit" else "test", names)
    assert len(run.callback_metrics) >= 4 * len(names)


def test_validation_after_a_fit_uses_its_own_set_names() -> None:
    sink, module = MemorySink(), Numbered()
    run = trainer(TrackKit(sinks=[sink]))
    run.fit(module, data(3), {"a": data(2), "b": data(2)})
    run.validate(module, {"c": data(2), "d": data(2)}, verbose=False)
    assert found(sink) == {**expected("val", ["a", "b"]), **expected("val", ["c", "d"])}


def test_hugging_face_sets_have_their_own_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sets = {"en-us": Points(5, 12), "en_us": Points(6, 8), "β": Points(7, 8)}
    sink, run = train(
        tmp_path, val=sets, eval_strategy="epoch", save_strategy="epoch", num_train_epochs=2,
        load_best_model_at_end=True, metric_for_best_model="en_us_loss", save_only_model=True,
    )  # fmt: skip
    net = plain_loop(epochs=2)[1]
    for (given, points), segment in zip(sets.items(), ("en_us", SECOND, "β"), strict=True):
        history = sink.history(f"epoch/val/{segment}/loss")
        assert history == [
            (x["step"], x[f"eval_{given}_loss"]) for x in run.state.log_history if f"eval_{given}_loss" in x
        ]
        assert history[-1] == (12, pytest.approx(evaluate_plainly(net, points)[0], rel=1e-5))
        assert sink.settings["trackkit/renames"][f"eval_{given}_loss"] == f"epoch/val/{segment}/loss"
    best = {key: value for key, value in sink.columns.items() if "best" in key}
    assert best[f"final/best/val/{SECOND}/loss"] == run.state.best_metric
    columns = {f"final/best/val/{segment}/loss" for segment in ("en_us", SECOND, "β")}
    assert set(best) == columns | {f"{column}_step" for column in columns}
    notice = f"The evaluation sets 'en-us' and 'en_us' both map to 'en_us'; the latter is recorded as '{SECOND}'."
    assert caplog.messages.count(notice) == 1


def test_set_keeps_its_segment_within_its_split() -> None:
    sets = EvaluationSets()
    names = [
        sets.resolve(Where("epoch", "val", name)).dataset for name in ("en-us", "en_us", "en-us", "EN us", "en_us")
    ]
    assert names[:3] == ["en_us", SECOND, "en_us"]
    assert names[4] == SECOND
    assert len({name.lower() for name in names}) == 3
    assert sets.resolve(Where("epoch", "test", "en_us")).dataset == "en_us"
    assert sets.resolve(Where("epoch", "val")) == Where("epoch", "val")
    assert len(sets.notices()) == 2
    assert sets.notices() == []
