"""`trackkit run` replaces itself by the command, and changes nothing but what its Python processes can import."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import venv
from dataclasses import fields
from pathlib import Path

import pytest

from tests.support.processes import clean_env
from trackkit.integrations import FRAMEWORKS
from trackkit.launch import command
from trackkit.settings.config import TrackKitConfig

STUB = Path(command.FOLDER, "sitecustomize.py")
PRINT = "import os, sys; print(os.getpid(), os.getcwd(), sys.stdin.read(), sorted(sys.argv[1:]))"


def start(*arguments: str, cwd: Path, **env: str) -> subprocess.Popen[str]:
    """Starts `trackkit run`."""
    return subprocess.Popen(
        [sys.executable, "-m", "trackkit", "run", *arguments],
        cwd=cwd,
        env=clean_env(**env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, cwd: Path, given: str = "", **env: str) -> tuple[int, str, str]:
    """Returns exit code, output and errors of `trackkit run`."""
    process = start(*arguments, cwd=cwd, **env)
    out, errors = process.communicate(given, timeout=60)
    return process.returncode, out, errors


def test_command_has_process_id_folder_input_and_exit_code_of_its_own(tmp_path: Path) -> None:
    process = start(sys.executable, "-c", f"{PRINT}; sys.exit(37)", "-x", "--project", cwd=tmp_path)
    out, errors = process.communicate("input", timeout=60)
    assert out == f"{process.pid} {tmp_path} input ['--project', '-x']\n"
    assert (process.returncode, errors) == (37, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV])
def test_command_ends_by_the_signal_that_it_gets(number: signal.Signals, tmp_path: Path) -> None:
    code = run(sys.executable, "-c", f"import os; os.kill(os.getpid(), {int(number)})", cwd=tmp_path)[0]
    assert code == -number


def test_command_ends_when_nobody_reads_its_output(tmp_path: Path) -> None:
    """Python ignores SIGPIPE, and a command started by it inherits that: `yes` would go on with an error."""
    process = start("yes", cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "y\n"
    process.stdout.close()
    assert process.wait(60) == -signal.SIGPIPE


def test_settings_become_variables_and_the_folder_stands_first_once(tmp_path: Path) -> None:
    """An empty entry of PYTHONPATH stays: it is the working directory. Folders are those of the command line."""
    names = ("TRACKKIT_PROJECT", "TRACKKIT_TAGS", "TRACKKIT_DIR", "PYTHONPATH")
    code = f"import os; print(*(os.environ[name] for name in {names}))"
    nested = [sys.executable, "-m", "trackkit", "run", "--project", "inner", sys.executable, "-c", code]
    found = run(
        "--project=outer", "--tags", "a,b", "--dir", "out", *nested, cwd=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}"
    )
    assert found == (0, f"inner a,b {tmp_path}/out {command.FOLDER}{os.pathsep}{tmp_path}{os.pathsep}\n", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "no command is given"),
        (["", "train.py"], 2, "no command is given"),
        (["--everywhere=1", "env"], 2, "'--everywhere' takes no value. Leave out '=1'"),
        (["--mode", "offline"], 2, "no command is given"),
        (["--projct", "x", "env"], 2, "unknown option '--projct'; did you mean '--project'"),
        (["--mode", "bogus", "env"], 2, "mode='bogus' is not one of auto, online"),
        (["--project"], 2, "'--project' has no value"),
        (["--config", "nothing.yaml", "env"], 2, f"{os.sep}nothing.yaml'. Create it"),
        (["no-such-command"], 127, "cannot run 'no-such-command': no such command"),
        (["python -c pass"], 127, "Write the command without quotes"),
        (["SEED=1", "python", "train.py"], 127, "Write variables in front of `trackkit run`"),
        (["train.py"], 127, "Write `trackkit run python train.py`"),
        (["./train.py"], 126, "Permission denied. Write `trackkit run python ./train.py`"),
        (["./script"], 127, "the interpreter that its first line names is missing"),
        (["./train.sh"], 126, "Exec format error. Write `trackkit run bash ./train.sh`"),
        (["."], 126, "Permission denied"),
        (["train"], 127, "cannot run 'train': no such command"),
    ],
)
def test_what_cannot_be_run_is_an_error(arguments: list[str], code: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    (tmp_path / "train.sh").write_text("echo no interpreter is named\n")
    (tmp_path / "train").mkdir()
    for name in ("script", "train.sh"):
        (tmp_path / name).chmod(0o755)
    found, out, errors = run(*arguments, cwd=tmp_path)
    assert (found, out) == (code, "")
    assert errors.startswith("trackkit run: ")
    assert message in errors
    assert errors.count("\n") == 1


def test_wrong_settings_file_is_an_error_before_the_command_starts(tmp_path: Path) -> None:
    (tmp_path / "trackkit.yaml").write_text("log_every: 5")
    status, out, errors = run("--everywhere", "env", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert errors.startswith("trackkit run: unknown setting 'log_every' in 'trackkit.yaml'; set it in the framework")


def test_help_is_shown_alone_and_among_the_commands(tmp_path: Path) -> None:
    assert run("--help", cwd=tmp_path) == (0, command.HELP, "")
    listed = subprocess.run([sys.executable, "-m", "trackkit", "--help"], capture_output=True, text=True, check=True)
    assert "run" in {line.split()[0] for line in listed.stdout.splitlines() if line.split()}


@pytest.mark.parametrize("broken", [False, True])
def test_another_sitecustomize_runs_as_without(broken: bool, tmp_path: Path) -> None:
    """Once in the process of `trackkit run` itself, once in the command."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text("print('other', __name__)\n" + "1 / 0\n" * broken)
    code = """
import sys
print(getattr(sys.modules.get("sitecustomize"), "__file__", None), type(sys.meta_path[0]).__name__)
"""
    plain = subprocess.run(
        [sys.executable, "-c", code], env=clean_env(PYTHONPATH=str(other)), capture_output=True, text=True, check=True
    )
    found, out, errors = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(other))
    said, file = plain.stdout.splitlines()
    assert found == 0
    assert out.splitlines() == [said, said, f"{file.partition(' ')[0]} TrackKitFinder"]
    assert errors == 2 * plain.stderr


@pytest.mark.parametrize("found", ["none", "one that this Python can't read"])
def test_python_without_trackkit_says_so_once_and_goes_on(found: str, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    package = tmp_path / "lib/transformers"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for name in ("trainer", "trainer_callback"):
        (package / f"{name}.py").write_text("")
    python = str(tmp_path / "venv/bin/python")
    if found != "none":
        (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
        (site / "trackkit.py").write_text("a newer syntax")
    code = "import transformers.trainer, transformers.trainer_callback; print('trained')"
    status, out, errors = run(python, "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "lib"))
    assert (status, out) == (0, "trained\n")
    assert errors.count("cannot import TrackKit") == errors.count("\n") == 1


def test_nothing_is_imported_before_a_framework_is(tmp_path: Path) -> None:
    code = "import sys; print([name for name in sys.modules if name.startswith(('trackkit', 'typing', 'torch'))])"
    assert run(sys.executable, "-c", code, cwd=tmp_path) == (0, "[]\n", "")


def test_lists_written_out_for_speed_are_complete() -> None:
    (wanted,) = [
        node.value
        for node in ast.parse(STUB.read_text()).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "WANTED"
    ]
    names = {each.value for each in ast.walk(wanted) if isinstance(each, ast.Constant)}
    known = {name for each in FRAMEWORKS.values() for name in (*each.bases, *each.on_import, *each.everywhere)}
    assert names == known
    assert {*command.SETTINGS} == {each.name for each in fields(TrackKitConfig)}
