"""Reads a report's page back, as a browser would: its data and its curves."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any


class Page:
    """A page as plain data: `text`, `data` (what its scripts read) and the curves."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        self.data: dict[str, Any] = json.loads(self._element("report-data"))

    def column(self, name: str) -> list[Any]:
        """Returns a column's value of each run."""
        column = next(each for each in self.data["columns"] if each["name"] == name)
        return list(column["values"]) if "values" in column else [column["same"]] * len(self.data["pages"])

    def curves(self, key: str) -> dict[int, dict[str, Any]]:
        """Returns each run's curve of a metric, with the positions on each axis."""
        pool = self._unpacked("pool")
        number = [each["key"] for each in self.data["metrics"]].index(key)
        found = {}
        for run, curve in self._unpacked(f"metric-{number}").items():
            found[int(run)] = {**curve, "x": {axis: pool[at] for axis, at in curve["x"].items()}}
        return found

    def _unpacked(self, name: str) -> Any:
        return json.loads(gzip.decompress(base64.b64decode(self._element(name))))

    def _element(self, name: str) -> str:
        found = re.search(rf'<script [^>]*id="{name}">(.*?)</script>', self.text, re.DOTALL)
        assert found is not None, name
        return found[1]
