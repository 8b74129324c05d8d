"""Prints pip constraints that hold what TrackKit works with at the lower bounds of pyproject.toml.

    python tests/oldest.py > constraints-oldest.txt

`make test-oldest` installs the development environment under them. What only the tests and the demo need stays free.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
FROM_TEST = ("pytorch-lightning", "jsonargparse")


def pins(project: dict[str, object]) -> list[str]:
    """Returns `name==lowest` for every dependency, those of both frameworks' extras included.

    Raises:
        ValueError: a dependency has no lower bound.
    """
    extras: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    wanted: list[str] = [*project["dependencies"], *extras["lightning"], *extras["transformers"]]  # type: ignore[misc]
    wanted += [requirement for requirement in extras["test"] if requirement.startswith(FROM_TEST)]
    return [pin(requirement) for requirement in wanted]


def pin(requirement: str) -> str:
    found = re.match(r"([\w-]+)(?:\[[\w,]+\])?>=([\w.]+)", requirement)
    if found is None:
        raise ValueError(f"{requirement!r} has no lower bound: write it as 'name>=version'")
    return f"{found[1]}=={found[2]}"


if __name__ == "__main__":
    print("\n".join(pins(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"])))
