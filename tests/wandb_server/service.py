"""Holds what all answers need: the state, the server's URL, and the features it claims to have."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from .artifacts import Collection, Version
from .state import State

FEATURES = (
    "ARTIFACT_TAGS",
    "CLIENT_IDS",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILES",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILE_DOWNLOAD_HANDLER",
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION",
    "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
    "ARTIFACT_COLLECTIONS_FILTERING_SORTING",
    "ARTIFACT_V2_DOWNLOAD_HANDLER_SUPPORTS_ARTIFACT_ID",
    "MARK_RUN_FILES_UPLOADED",
    "FILESTREAM_GZIP",
    "ARTIFACT_DIGEST_ALGORITHM",
    "ARTIFACT_MEMBERSHIP_IN_LINK_ARTIFACT_RESPONSE",
)


@dataclass
class Service:
    """The state, and what is needed to build answers from it."""

    state: State
    url: str = ""
    features: tuple[str, ...] = field(default=FEATURES)

    def blob_url(self, key: str) -> str:
        return f"{self.url}/storage/blob/{key}"

    def manifest_url(self, manifest_id: str) -> str:
        return f"{self.url}/storage/manifest/{manifest_id}"

    def run_file_url(self, path: str, name: str) -> str:
        return f"{self.url}/storage/run/{path}/{name}"

    def version_of(self, artifact_id: str) -> tuple[Collection, Version]:
        found = self.state.version(artifact_id)
        if found is None:
            raise KeyError(f"artifact {artifact_id} not found")
        return found


def timestamp(seconds: float) -> str:
    """Returns a time as the service writes it."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def opaque(text: str) -> str:
    """Returns an id in the service's form."""
    return base64.b64encode(text.encode()).decode()


def md5(data: bytes) -> str:
    """Returns the base64 MD5 digest that identifies a file."""
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def dumps(value: Any) -> str:
    """Returns JSON with NaN and infinities as strings: clients written in Go reject the bare words."""
    return json.dumps(finite(value))


def finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return value
