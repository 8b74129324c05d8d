"""`trackkit run [SETTINGS] COMMAND...`: replaces itself by the command, with TrackKit known to its Python processes.

It takes milliseconds: it imports nothing that it does not need, and no command line library.
"""

from __future__ import annotations

import os
import signal
import sys

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sitecustomize")
EVERYWHERE = "TRACKKIT_EVERYWHERE"

# A shell's exit codes.
USAGE, CANNOT_RUN, NOT_FOUND = 2, 126, 127

# The fields of `settings.config.TrackKitConfig`, which would take longer to import; a test compares.
SETTINGS = (
    *("project", "entity", "name", "group", "job_type", "tags", "notes", "mode", "dir", "names", "synonyms"),
    *("epoch_axis", "resume", "finish_timeout", "console", "wandb_footer", "callbacks"),
)
HELP = """\
Usage: trackkit run [--SETTING VALUE]... [--everywhere] COMMAND...

Runs a command with TrackKit available in every Python process that it starts:
`report_to="trackkit"`, `--report_to trackkit` and `log_with="trackkit"` work in
scripts that never import TrackKit.

  --everywhere   record every training by Lightning or Hugging Face that has no
                 TrackKit, and what a script logs to W&B through Accelerate
  --SETTING      any setting, such as --project, --name, --tags a,b or
                 --mode offline; --config names a YAML file
  --help         show this text

Examples:
  trackkit run --project mine python run_clm.py --report_to trackkit
  trackkit run --everywhere torchrun --nproc_per_node 2 train.py
"""


def run(arguments: list[str]) -> int:
    """Replaces this process by a command; returns an exit code only if that can't be done.

    The command keeps this process's id, input, output, terminal and working directory. The exit code is the command's.

    Args:
        arguments: settings, then the command and its own arguments.
    """
    # Python ignores these two, and a command that it becomes would inherit that: `yes | head` would not end.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    variables, command, trouble = _parse(arguments)
    if "--help" in variables:
        print(HELP, end="")
        return 0
    os.environ.update(variables)
    if not trouble and variables:
        trouble = _wrong_setting()
    if trouble or not "".join(command[:1]):
        return _fail(trouble or "no command is given. Write, for example, `trackkit run python train.py`.", USAGE)
    # An empty entry is the working directory, unless PYTHONPATH has no other.
    path = os.environ.get("PYTHONPATH", "")
    folders = [each for each in path.split(os.pathsep) if each != FOLDER] if path else []
    os.environ["PYTHONPATH"] = os.pathsep.join([FOLDER, *folders])
    try:
        os.execvp(command[0], command)
    except OSError as error:
        return _cannot_run(command, error)


def _parse(arguments: list[str]) -> tuple[dict[str, str], list[str], str]:
    """Returns the variables that the options stand for, the command, and what is wrong with the options."""
    variables: dict[str, str] = {}
    left = list(arguments)
    while left and left[0].startswith("-"):
        option = left.pop(0)
        if option == "--":
            break
        name, has_value, value = option.partition("=")
        field = name[2:].replace("-", "_")
        if option in ("--help", "-h"):
            return {"--help": ""}, [], ""
        if option == "--everywhere":
            variables[EVERYWHERE] = "1"
        elif name == "--everywhere":
            return {}, [], f"'--everywhere' takes no value. Leave out '={value}'."
        elif not name.startswith("--") or field not in (*SETTINGS, "config"):
            from trackkit.errors import did_you_mean

            known = [f"--{each.replace('_', '-')}" for each in ("everywhere", "config", *SETTINGS)]
            return {}, [], f"unknown option '{name}'{did_you_mean(name, known)}"
        elif not has_value and not left:
            return {}, [], f"'{name}' has no value."
        else:
            value = value if has_value else left.pop(0)
            if value and field in ("config", "dir"):
                # The command may change its working directory.
                value = os.path.abspath(os.path.expanduser(value))
            variables[f"TRACKKIT_{field.upper()}"] = value
    return variables, left, ""


def _wrong_setting() -> str:
    """Returns what is wrong with the settings that the command will find; "" if nothing is."""
    from trackkit.errors import ConfigError
    from trackkit.settings.sources import load_config

    try:
        load_config()
    except ConfigError as error:
        return str(error)
    return ""


def _cannot_run(command: list[str], error: OSError) -> int:
    name, is_missing = command[0], isinstance(error, FileNotFoundError)
    why = "no such command" if is_missing else str(error.strerror)
    interpreter = {".py": "python", ".sh": "bash"}.get(os.path.splitext(name)[1])
    if interpreter and os.path.isfile(name):
        why += f". Write `trackkit run {interpreter} {name}`"
    elif is_missing and os.path.isfile(name):
        why = "the interpreter that its first line names is missing, or it is not on the PATH"
    elif is_missing and "=" in name:
        why += ". Write variables in front of `trackkit run`"
    elif is_missing and " " in name:
        why += ". Write the command without quotes"
    return _fail(f"cannot run '{name}': {why}.", NOT_FOUND if is_missing else CANNOT_RUN)


def _fail(text: str, code: int) -> int:
    print(f"trackkit run: {text}", file=sys.stderr)
    return code
