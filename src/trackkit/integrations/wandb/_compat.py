"""The private names of wandb that TrackKit uses: all of them, and nowhere else.

Each function says what happens when its names are gone. `missing()` lists those that the installed wandb lacks.
"""

# ruff: noqa: SLF001 -- this file is where private names are reached

from __future__ import annotations

import contextlib
import functools
import os
import types
from collections import ChainMap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.integrations import private
from trackkit.integrations.private import Private

if TYPE_CHECKING:
    import wandb

_SETUP = "wandb.sdk.wandb_setup"
_CONNECTION = "wandb.sdk.lib.service.service_connection:ServiceConnection"
_ARTIFACT = "wandb.sdk.artifacts.artifact:Artifact"
_EXIT_WAITS = "The program's exit waits for a wandb-core that does not respond."
_STALE = "The next run of the process fails if wandb-core did not respond at the end of this one."


PRIVATE = [
    Private(
        "wandb.sdk.wandb_run:Run._partial_history_callback",
        "Rows logged by other code wait while TrackKit's row gets its step.",
        "0.31.0",
        "Every row asks wandb-core for the current step, and another logger's row in between may drop it.",
    ),
    Private(f"{_SETUP}:singleton", "Finds the connection to wandb-core.", "0.31.0", _EXIT_WAITS),
    Private(f"{_SETUP}:_WandbSetup._connection", "The connection to wandb-core.", "0.31.0", _EXIT_WAITS),
    Private(f"{_SETUP}:_singleton", "Lets the next run start a new wandb-core.", "0.31.0", _STALE),
    Private(f"{_CONNECTION}._proc", "Tells whether this process started wandb-core.", "0.31.0", _EXIT_WAITS),
    Private(f"{_CONNECTION}._cleanup", "Unregisters wandb's exit handler.", "0.31.0", _EXIT_WAITS),
    Private(
        f"{_CONNECTION}._finalizer",
        "Ends the thread that cleans up after garbage collection.",
        "0.31.0",
        "The thread prints a traceback at exit.",
    ),
    Private(
        "wandb.sdk.lib.service.service_finalizer:ServiceFinalizer._queue",
        "Ends the thread that cleans up after garbage collection.",
        "0.31.0",
        "The thread prints a traceback at exit.",
    ),
    Private("wandb.sdk.lib.service.service_token:clear_service_in_env", "As _singleton.", "0.31.0", _STALE),
    Private("wandb.sdk.lib.module:unset_globals", "Resets `wandb.run`.", "0.31.0", "`wandb.run` stays set."),
    Private(
        "wandb.sdk.lib.wbauth:read_netrc_auth",
        "Reads the API key from ~/.netrc without prompting.",
        "0.31.0",
        "Only WANDB_API_KEY and wandb's settings file provide a key.",
    ),
    Private(
        "wandb.env:os",
        "Moves wandb's cache and staged artifacts out of the home folder.",
        "0.31.0",
        "They go to the home folder, unless WANDB_CACHE_DIR and WANDB_DATA_DIR are set.",
    ),
    Private(
        "wandb.sdk.lib.service.service_process:os",
        "Moves the logs of wandb-core out of the home folder.",
        "0.31.0",
        "They go to the home folder, unless WANDB_CACHE_DIR is set.",
    ),
    Private(
        "wandb.sdk.wandb_settings:Settings.x_transaction_log_flush_interval",
        "Writes the run's file every second instead of every 15.",
        "0.31.0",
        "A killed run loses up to 15 s of wandb's file; `trackkit sync` restores them from the local log.",
    ),
    Private(
        "wandb.sdk.wandb_settings:Settings.x_disable_meta",
        "Keeps secrets among the program's arguments and Slurm's variables from W&B.",
        "0.31.0",
        "W&B stores the program's arguments unmasked.",
    ),
    Private(
        f"{_ARTIFACT}._add_local_file",
        "Adds a file whose MD5 is known already.",
        "0.31.0",
        "Each checkpoint is hashed twice, in the background.",
    ),
    Private(
        f"{_ARTIFACT}._save_handle",
        "Tells when an upload has ended, or was refused.",
        "0.31.0",
        "The server is asked instead, and a refused checkpoint waits for `trackkit sync`.",
    ),
    Private(
        "wandb.apis.public.artifacts:RunArtifacts._convert",
        "Reads the artifacts of a run that has a pending one: wandb's own way ends with an AssertionError.",
        "0.31.0",
        "A run with an upload that broke off can't be synced.",
    ),
    Private(
        "wandb.apis.public.api:Api._service_api",
        "Deletes pending versions, which `Artifact.delete` refuses.",
        "0.31.0",
        "Uploads that broke off stay at W&B as pending versions.",
    ),
    Private(
        "wandb.sdk.artifacts.artifact_manifest_entry:ArtifactManifestEntry",
        "Refers to a remote checkpoint without asking its storage.",
        "0.31.0",
        "W&B asks the storage, with a package such as boto3.",
    ),
    Private(
        "wandb.proto.wandb_internal_pb2:Record",
        "Reads and writes wandb's files.",
        "0.31.0",
        "Offline runs cannot be resumed or synced.",
    ),
    Private(
        "wandb.apis.public.summary:Summary._json_dict",
        "Reads a run's summary from the server as plain JSON.",
        "0.31.0",
        "`trackkit sync` cannot verify a run.",
    ),
]


def missing() -> list[str]:
    """Returns the names in `PRIVATE` that the installed wandb lacks."""
    return private.missing(PRIVATE)


def known_settings(values: Mapping[str, Any]) -> wandb.Settings:
    """Returns wandb settings; drops those the installed wandb does not know."""
    import wandb

    names = wandb.Settings.model_fields
    return wandb.Settings(**{name: value for name, value in values.items() if name in names})


def keep_out_of_home(folder: Path) -> None:
    """Moves wandb's logs, cache and staged artifacts to a folder, unless WANDB_CACHE_DIR or WANDB_DATA_DIR is set.

    wandb has no setting for this, only the variables. TrackKit must not change the process's environment, so the two
    modules that read them see it with these defaults. Without the private names, the files go to the home folder.
    """
    with contextlib.suppress(ImportError):
        from wandb import env
        from wandb.sdk.lib.service import service_process

        defaults = {"WANDB_CACHE_DIR": str(folder / ".cache"), "WANDB_DATA_DIR": str(folder / ".data")}
        seen = types.SimpleNamespace(**{**vars(os), "environ": ChainMap(os.environ, defaults)})
        env.os = service_process.os = seen  # type: ignore[assignment, attr-defined]


def intercept_rows(run: wandb.Run, around: Callable[[Callable[[], None]], None]) -> Callable[[], None]:
    """Calls `around` for every row that any code logs to a run; `around` calls its argument to let the row pass.

    Without the private name, `around` is never called.

    Returns:
        A function that ends the interception.
    """
    try:
        publish = run._partial_history_callback
    except AttributeError:
        return lambda: None

    def intercepted(*args: Any, **kwargs: Any) -> None:
        around(functools.partial(publish, *args, **kwargs))

    def restore() -> None:
        run._partial_history_callback = publish  # type: ignore[method-assign]

    run._partial_history_callback = intercepted  # type: ignore[method-assign]
    return restore


def abandon_core(run: wandb.Run | None) -> None:
    """Abandons a wandb-core that does not respond, so that wandb's exit handler cannot block forever.

    The next run starts a new wandb-core. The abandoned one ends by itself after the program, once it has written all
    that it received. Steps whose private names are gone are skipped.

    Args:
        run: the run it should have finished; None if that belongs to other code.
    """
    import wandb

    if run is not None and wandb.run is run:
        with contextlib.suppress(AttributeError, ImportError):
            from wandb.sdk.lib import module

            module.unset_globals()  # type: ignore[no-untyped-call]
    with contextlib.suppress(AttributeError, ImportError):
        from wandb.sdk import wandb_setup
        from wandb.sdk.lib.service import service_token

        connection: Any = wandb_setup.singleton()._connection
        if connection is None or connection._proc is None:
            return
        connection._cleanup()
        service_token.clear_service_in_env()
        wandb_setup._singleton = None
        connection._finalizer._queue.put(None)


def add_hashed_file(artifact: wandb.Artifact, path: Path, name: str, md5: str) -> None:
    """Adds a file to an artifact, without copying or hashing it; without the private name, it is hashed."""
    try:
        add = artifact._add_local_file
    except AttributeError:
        artifact.add_file(str(path), name, skip_cache=True, policy="immutable")
        return
    add(name, str(path), digest=md5, skip_cache=True, policy="immutable")


def add_reference(artifact: wandb.Artifact, url: str, name: str) -> None:
    """Adds a URL to an artifact, without asking what is behind it; without the private name, its storage is asked."""
    try:
        from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry
    except ImportError:
        artifact.add_reference(url, name, checksum=False)
        return
    artifact.manifest.add_entry(ArtifactManifestEntry(path=name, ref=url, digest=url))  # type: ignore[arg-type]


def wait_for_upload(artifact: wandb.Artifact) -> str:
    """Waits until the upload of a logged artifact has ended; returns why it failed, "" if it did not.

    Unlike `Artifact.wait`, it asks the server nothing: concurrent questions are mixed up. Without the private name,
    returns at once.

    Raises:
        Exception: wandb-core is gone.
    """
    handle = getattr(artifact, "_save_handle", None)
    return str(handle.wait_or(timeout=None).response.log_artifact_response.error_message) if handle is not None else ""


def logged_artifacts(run: Any, per_page: int = 50) -> tuple[list[wandb.Artifact], list[Any]]:
    """Returns the committed artifacts that a run has logged, and the pending ones as W&B's answer describes them.

    Without the private name, a pending one is an AssertionError, as in wandb itself.

    Args:
        run: of the public API.
        per_page: how many are asked for at once.
    """
    found = run.logged_artifacts(per_page)
    pending: list[Any] = []
    with contextlib.suppress(AttributeError):
        convert = found._convert

        def keep(node: Any) -> Any:
            if node.state == "COMMITTED":
                return convert(node)
            pending.extend([node] * (node.state == "PENDING"))
            return None

        found._convert = keep
    return list(found), pending


_DELETE = "mutation DeleteArtifact($input: DeleteArtifactInput!) { deleteArtifact(input: $input) { artifact { id } } }"


def delete_pending(api: wandb.Api, artifact_id: str) -> None:
    """Deletes a version that is pending; without the private name, it stays."""
    with contextlib.suppress(AttributeError):
        given = {"artifactID": artifact_id, "deleteAliases": True}
        api._service_api.execute_graphql(_DELETE, variables={"input": given})


def netrc_key(url: str) -> str | None:
    """Returns the API key for a server from ~/.netrc; None without one, or without the private name."""
    try:
        from wandb.sdk.lib.wbauth import read_netrc_auth
    except ImportError:
        return None
    return read_netrc_auth(host=url)


def parse_record(data: bytes) -> Any:
    """Returns a serialized record of a wandb file as a protobuf message (wandb ships no types for it).

    Raises:
        ImportError: the private name is gone.
    """
    from wandb.proto import wandb_internal_pb2

    record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
    record.ParseFromString(data)
    return record


def resumes_from_files() -> bool:
    """Returns whether a wandb file can ask the server to resume its run, as `trackkit sync` needs it."""
    from wandb.proto import wandb_internal_pb2

    return "resume" in wandb_internal_pb2.RunRecord.DESCRIPTOR.fields_by_name  # type: ignore[attr-defined]


def summary_dict(run: Any) -> dict[str, Any]:
    """Returns the summary of a `wandb.apis.public.Run` as plain JSON values.

    Raises:
        AttributeError: the private name is gone.
    """
    return dict(run.summary._json_dict)
