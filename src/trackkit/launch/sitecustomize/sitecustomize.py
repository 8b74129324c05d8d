"""Makes TrackKit known to a Python process that `trackkit run` has started, once it imports a framework that trains.

Python imports this file at its start. It may be any Python 3, with or without TrackKit: so the syntax is old, and
nothing else is imported before a framework is.
"""

# mypy: ignore-errors
# ruff: noqa: UP031

import os
import sys

# Every module of `trackkit.integrations.FRAMEWORKS`; a test compares.
WANTED = frozenset(
    [
        "accelerate.tracking",
        "lightning.fabric.fabric",
        "lightning.pytorch.callbacks.callback",
        "lightning_fabric.fabric",
        "pytorch_lightning.callbacks.callback",
        "transformers.integrations.integration_utils",
        "transformers.trainer",
        "transformers.trainer_callback",
    ]
)


class TrackKitFinder:
    """Imports TrackKit when a framework is imported, which installs TrackKit's own finder; then steps aside."""

    def __init__(self):
        self.waits = True

    def find_spec(self, fullname, path=None, target=None):
        if not self.waits or fullname not in WANTED:
            return None
        self.waits = False
        try:
            import trackkit  # noqa: F401
        except Exception as error:  # noqa: BLE001 -- one of another Python's errors, such as SyntaxError
            sys.stderr.write(
                "trackkit run: nothing is recorded: '%s' cannot import TrackKit (%s). Install it there.\n"
                % (sys.executable, error)
            )
            return None
        for finder in list(sys.meta_path):
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    return spec
        return None


def import_next():
    """Imports the `sitecustomize` that this one stands in front of, which then takes this module's name."""
    here = os.path.dirname(os.path.abspath(__file__))
    path, own = sys.path[:], sys.modules.pop(__name__, None)
    sys.path[:] = [each for each in path if os.path.abspath(each) != here]
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if getattr(error, "name", None) != __name__:
            raise
    finally:
        sys.path[:] = path + [each for each in sys.path if each not in path]
        if own is not None:
            sys.modules.setdefault(__name__, own)


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, TrackKitFinder())
    import_next()
