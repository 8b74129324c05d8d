"""A metric's name says whether less or more of it is better."""

from __future__ import annotations

import pytest

from trackkit.schema.goals import direction

LESS = (
    "loss", "epoch/val/loss", "val/hard/loss", "val_loss", "my_loss", "loss_ce", "loss2", "TrainLoss", "error",
    "top1_error", "perplexity", "ppl", "wer", "WER", "WordErrorRate", "cer", "mae", "mse", "rmse", "MeanSquaredError",
    "accuracy_loss", "map_loss", "recall_error",
)  # fmt: skip
MORE = (
    "acc", "val/acc", "val_acc", "top5_acc", "acc@1", "acc5", "accuracy", "MulticlassAccuracy", "f1", "f1_macro",
    "BinaryF1Score", "auc", "AUROC", "map", "mAP", "map_50", "bleu", "bleu4", "rouge1", "rougeL", "rougeLsum",
    "precision", "recall", "recall_at_10", "reward", "eval_rewards/accuracies", "mIoU",
)  # fmt: skip
UNKNOWN = (
    "", "/", "x", "损失", "lossless_ratio", "lossy", "mapping", "accumulated", "score", "loss/total", "rewards/chosen",
    "acc_std", "loss_scale", "loss_step", "neg_mean_squared_error", "runtime_s", "samples_per_s",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [(name, "min") for name in LESS] + [(name, "max") for name in MORE] + [(name, None) for name in UNKNOWN],
)
def test_direction_of_a_metric(name: str, expected: str | None) -> None:
    assert direction(name) == expected
