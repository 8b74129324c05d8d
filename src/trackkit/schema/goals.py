"""Tells from a metric's name whether lower or higher is better."""

from __future__ import annotations

import re
from typing import Literal

Goal = Literal["min", "max"]

_LESS = """
    bce bpb bpc brier cer crps der ece eer err error errors fid lpips loss losses mae mape mer mse nll perplexity ppl
    regret rmse rmsle smape ter wer xent
"""
_MORE = """
    acc accs accuracies accuracy ap auc auprc auroc bertscore bleu chrf dice em f1 f2 fbeta iou jaccard kappa map mcc
    meteor miou mrr ndcg pearson pearsonr precision psnr r2 recall reward rewards rouge sacrebleu sensitivity spearman
    spearmanr specificity ssim
"""
# A name with one of these words is another quantity's: `acc_std`, `loss_scale`, `neg_mean_squared_error`.
_OTHER = "coef count neg negative scale std stderr step steps threshold time var variance weight"

_DIRECTIONS: dict[str, Goal | None] = {
    **dict.fromkeys(_MORE.split(), "max"),
    **dict.fromkeys(_LESS.split(), "min"),
    **dict.fromkeys(_OTHER.split(), None),
}


def direction(name: str) -> Goal | None:
    """Returns whether lower (`min`) or higher (`max`) is better for a metric; None if its name does not say.

    Looks at the words of the last segment: `epoch/val/loss`, `my_loss`, `top5_acc`, `BinaryF1Score`. A loss or an error
    of something, such as `accuracy_loss`, is `min`.

    Args:
        name: a key, or a name as logged.
    """
    last = name.rstrip("/").rpartition("/")[2]
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last)
    words = {word.lower() for text in (last, parts) for word in re.split(r"[\W_]+", text)}
    # Numbers at the end count or cut off: `rouge2`, `acc5`.
    known = {word if word in _DIRECTIONS else word.rstrip("0123456789") for word in words}
    found = {_DIRECTIONS[word] for word in known if word in _DIRECTIONS}
    if not found or None in found:
        return None
    return "min" if "min" in found else "max"
