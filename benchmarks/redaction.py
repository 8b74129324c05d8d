"""What masking secrets costs: a line of a log, a line with a path, a long text, and texts made to be slow.

    python benchmarks/redaction.py

Prints the CPU time per ordinary line of 100 characters (median of 7 rounds; target: 10 us), and the seconds for texts
of 0.5 MB and 1 MB: the latter should take twice as long, whatever the text.
"""

from __future__ import annotations

import statistics
import time

from trackkit.redaction.patterns import mask
from trackkit.redaction.rules import RULES

LINES = {
    "log line": "2024-05-01 12:00:00,123 INFO trainer: epoch 3/10 step 1200 loss 0.1234 lr 3.0e-05 norm 1.2, 12 ms",
    "metrics": "{'loss': 0.1234, 'grad_norm': 1.23, 'learning_rate': 3e-05, 'epoch': 1.0, 'samples_per_second': 123.4}",
    "path": "Saving model checkpoint to /home/me/project/outputs/2024-05-01/checkpoint-1200/model.safetensors, 548 MB",
    "names": "Loading tokenizer: pad_token=<pad>, eos_token=</s>, key_dim=64, author=me, max_new_tokens=128",
}
SLOW = {
    "a-": "a-",
    "password: x ": "password: x ",
    "x://u:": "x://u:",
    "brackets": "password=)",
    "backslashes": "password=\\",
    "eyJ": "eyJaaaaaaaa-",
    "query": "?a_a&",
    "words": "the quick brown fox ",
    "letters": "a",
    "digits": "1",
}


def seconds(text: str, rounds: int = 3) -> float:
    """Returns the best of some rounds."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        mask(text)
        times.append(time.process_time() - begin)
    return min(times)


def main() -> None:
    for name, line in LINES.items():
        rounds = []
        for _ in range(7):
            begin = time.process_time()
            for _ in range(2000):
                mask(line)
            rounds.append((time.process_time() - begin) / 2000)
        print(f"{name:20} {statistics.median(rounds) * 1e6:8.1f} us a line of {len(line)} characters")
    keywords = {f"keyword {each}": each for rule in RULES for each in rule.keywords}
    worst = []
    for name, part in {**SLOW, **keywords}.items():
        one, two = (seconds((part * (size // len(part) + 1))[:size], 1) for size in (500_000, 1_000_000))
        if name in SLOW:
            print(f"{name:20} {one:8.3f} s for 0.5 MB, {two:8.3f} s for 1 MB")
        else:
            worst.append((one, two, name))
    one, two, name = max(worst)
    print(f"slowest {name:12} {one:8.3f} s for 0.5 MB, {two:8.3f} s for 1 MB")


if __name__ == "__main__":
    main()
