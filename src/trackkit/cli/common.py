"""What the commands that read runs share: errors as one line, and what a word on the command line means."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from trackkit.errors import TrackKitError
from trackkit.redaction.patterns import mask

if TYPE_CHECKING:
    from trackkit.reading.collection import Runs

_FAILED, _USAGE, _CTRL_C = 1, 2, 130

# The argument of commands on one run, and those of commands on many.
OneRun = Annotated[
    str, typer.Argument(metavar="RUN", help="Run id, run folder, output folder of one run, or entity/project/id.")
]
ManyRuns = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        help="Folder with runs, run id, group, or entity/project on W&B. Default: all your runs.",
        show_default=False,
    ),
]
Where = Annotated[str, typer.Option(help='Only runs for which this is true: "hparams/lr > 1e-4".')]


@contextmanager
def errors() -> Iterator[None]:
    """Prints an error that the user can correct as one line, and ends the command.

    Exit code 2 for an expression, a column or a setting that is wrong; 1 for runs that are missing or can't be read.
    """
    from trackkit.reading.expression import ExpressionError

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name may have characters that the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            # Sums of recorded values may overflow: infinities are shown as such.
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    except TrackKitError as error:
        typer.secho("error:", fg=typer.colors.RED, err=True, nl=False)
        typer.echo(f" {mask(str(error))}", err=True)
        raise typer.Exit(_USAGE if isinstance(error, ExpressionError) else _FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(_CTRL_C) from None
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has enough.
        raise typer.Exit(0) from None


def select(words: Sequence[str]) -> Runs:
    """Returns the runs that words mean: a RUN as `trackkit.read_run` takes it, a folder of runs, or a group's name.

    Without words, all of the user's runs.

    Raises:
        ReadError: a word means no run.
    """
    from trackkit.reading.collection import Runs
    from trackkit.reading.runs import runs

    if not words:
        return runs()
    return Runs({(run.run_id, run.folder): run for named in meant(words) for run in named}.values())


def meant(words: Sequence[str]) -> list[Runs]:
    """Returns the runs that each word means, as `select` takes them; the user's list of runs is read at most once.

    Raises:
        ReadError: a word means no run.
    """
    from trackkit.errors import nearest
    from trackkit.local_log.regular import ReadError
    from trackkit.reading.runs import runs

    mine: Runs | None = None
    found = []
    for word in words:
        try:
            found.append(runs(word))
        except ReadError:
            mine = mine if mine is not None else runs()
            groups = mine.group("group")
            if word not in groups and ("/" in word or os.path.exists(word)):
                raise
            if word not in groups:
                known = {*map(str, groups), *(run.run_id for run in mine)} - {"None"}
                hint = nearest(word, known)
                said = f"no run '{word}': it is neither a folder, nor an id or a group in your list of runs"
                raise ReadError(f"{said}{hint or '. `trackkit ls` shows them.'}") from None
            found.append(groups[word])
    return found
