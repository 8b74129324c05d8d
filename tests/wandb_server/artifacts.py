"""Holds the received artifacts as plain data: collections, their versions, and the bytes of files."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from typing import Any


def digest_hex(digest: str) -> str:
    """Returns a manifest's base64 digest as hexadecimal digits, as used in URLs."""
    return base64.b64decode(digest).hex()


@dataclass
class Manifest:
    """One manifest record of a version; its bytes come later, by a PUT."""

    id: str
    artifact_id: str
    kind: str
    digest: str
    base_id: str | None = None
    data: bytes | None = None

    def add_base(self, contents: dict[str, dict[str, Any]]) -> None:
        """Adds the base's contents to an incremental manifest, which names only what is new."""
        if self.data is not None:
            own = json.loads(self.data)
            own["contents"] = {**contents, **own["contents"]}
            self.data = json.dumps(own).encode()


@dataclass
class Version:
    """One artifact version: `state` is PENDING, COMMITTED or DELETED; it has an index only once committed."""

    id: str
    collection_id: str
    digest: str
    client_id: str | None = None
    run: str | None = None
    state: str = "PENDING"
    index: int | None = None
    description: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    digest_algorithm: str = "MANIFEST_MD5"
    ttl_seconds: int | None = None
    history_step: int | None = None
    created_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
    manifests: list[Manifest] = field(default_factory=list)
    aliases_before_deletion: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Returns `v3` and the like, or `pending`."""
        return "pending" if self.index is None else f"v{self.index}"

    @property
    def deleted(self) -> bool:
        return self.state == "DELETED"

    @property
    def manifest(self) -> Manifest | None:
        """Returns the newest manifest whose bytes have arrived."""
        return next((manifest for manifest in reversed(self.manifests) if manifest.data is not None), None)

    @property
    def contents(self) -> dict[str, dict[str, Any]]:
        """Returns the manifest's entries by file name: digest, size, birthArtifactID, or ref for a reference."""
        manifest = self.manifest
        if manifest is None or manifest.data is None:
            return {}
        contents: dict[str, dict[str, Any]] = json.loads(manifest.data)["contents"]
        return contents

    @property
    def size(self) -> int:
        return sum(int(entry.get("size") or 0) for entry in self.contents.values())


@dataclass
class Portfolio:
    """A collection of links, such as one of a registry: `members` are ids of versions, in the order of linking."""

    id: str
    entity: str
    project: str
    name: str
    members: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    """Alias to the id of its version."""

    def link(self, version: Version, aliases: list[str]) -> None:
        """Adds a version, and moves the aliases, and `latest`, to it."""
        if version.id not in self.members:
            self.members.append(version.id)
        self.aliases.update(dict.fromkeys([*aliases, "latest"], version.id))


@dataclass
class Collection:
    """A named sequence of versions. Aliases are unique in it; the index of a deleted version is not used again."""

    id: str
    entity: str
    project: str
    name: str
    type: str
    description: str | None = None
    tags: list[str] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    next_index: int = 0
    deleted: bool = False
    created_at: float = field(default_factory=time.time)

    @property
    def live(self) -> list[Version]:
        """Returns the committed versions, oldest first."""
        return [version for version in self.versions if version.state == "COMMITTED"]

    @property
    def aliases(self) -> dict[str, str]:
        """Maps each alias to the name of its version."""
        return {alias: version.name for version in self.live for alias in version.aliases}

    def find(self, name: str) -> Version | None:
        """Returns the committed version with an alias, a name such as `v2`, or a digest."""
        for version in self.live:
            if name in version.aliases or name in (version.name, version.digest):
                return version
        return None

    def commit(self, version: Version) -> None:
        """Gives a pending version its index and moves its aliases to it."""
        if version.state == "PENDING":
            version.state, version.index = "COMMITTED", self.next_index
            self.next_index += 1
            self.move_aliases(version, version.aliases)

    def move_aliases(self, target: Version, aliases: list[str]) -> None:
        """Points aliases at a version and removes them from all others."""
        for version in self.live:
            if version is not target:
                version.aliases = [alias for alias in version.aliases if alias not in aliases]
        target.aliases = list(dict.fromkeys([*target.aliases, *aliases]))
        target.updated_at = time.time()

    def delete(self, version: Version) -> None:
        """Deletes a version and its aliases; `latest` does not move to an older version."""
        version.aliases_before_deletion, version.aliases = version.aliases, []
        version.state, version.updated_at = "DELETED", time.time()
