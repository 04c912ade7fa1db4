"""What the documentation tests share: the project's files, Markdown's parts, a clone to run in.

The list of files comes from walking the checkout past what `.gitignore` names, not from git: the
tests also run where the sources were copied to. Downside: only the forms of pattern that our own
`.gitignore` has are understood.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


# ---- files


def project_files() -> tuple[Path, ...]:
    """Every file of the project, links not followed, as paths below ROOT."""
    return tuple(sorted(_walk(ROOT, _ignored())))


def _ignored() -> list[str]:
    lines = (ROOT / ".gitignore").read_text().split()
    return [".git", *(line.rstrip("/") for line in lines if not line.startswith("#"))]


def _walk(folder: Path, ignored: list[str]) -> Iterator[Path]:
    for entry in os.scandir(folder):
        path = Path(entry.path)
        relative = path.relative_to(ROOT).as_posix()
        if any(fnmatch(entry.name, p) or fnmatch(relative, p) for p in ignored):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path, ignored)
        else:
            yield path


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def pages() -> tuple[Path, ...]:
    """Every Markdown file."""
    return tuple(path for path in project_files() if path.suffix == ".md")


def all_prose() -> str:
    return "\n".join(page.read_text() for page in pages())


# ---- Markdown


def fenced(text: str, *languages: str) -> list[str]:
    """The fenced blocks of these languages, in order."""
    return [body for said, body in _FENCE.findall(text) if said in languages]


def without_fences(text: str) -> str:
    return _FENCE.sub("", text)


# ---- running


@dataclass(frozen=True)
class Clone:
    """A copy of the project in which the README can be followed without downloading anything."""

    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        """A new shell; packages that this checkout has made already are used again."""
        build = os.environ.get("LAB_BUILD_DIR", str(ROOT / ".lab/build"))
        return {**fresh_environment(), "LAB_BUILD_DIR": build, **more}

    def sh(self, script: str, timeout: float, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a script that stops at the first command that fails; its whole family is ended."""
        process = self.start(script, **more)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            end(process)
            output = f"not done after {timeout:.0f} s\n{process.communicate(timeout=10)[0]}"
        finally:
            end(process)
        return subprocess.CompletedProcess(script, process.returncode, output)

    def start(self, script: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["sh", "-eu", "-c", script],
            cwd=self.folder, env=self.environment(**more), text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def fresh_environment() -> dict[str, str]:
    """This process's, without what AWS tools, another lab's `env` or an outer make put there."""
    others = ("AWS_", "PYTEST_", "MAKE", "MFLAGS", "OPERATOR_CLIENT_SECRET")
    lab = {"RECOVERY_FILE", "API_URL", "CA_FILE", "NAMESERVER", "TOKENS_FILE"}
    return {k: v for k, v in os.environ.items() if not k.startswith(others) and k not in lab}


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> None:
    """End a process and all that it started in its session, if there is still something."""
    for attempt in (number, signal.SIGKILL):
        try:
            os.killpg(process.pid, attempt)
            process.wait(15)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def make_clone(folder: Path) -> Clone:
    """Copy the project as it is now, links kept, and give it a `.venv`.

    That has the console scripts and, by a .pth file, the packages of the environment that runs the
    tests; but `failover`, `lab` and the others come from the copy. So `setup.sh` finds a finished
    environment, nothing is downloaded, and what runs is the copy.
    """
    for path in project_files():
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy, follow_symlinks=False)
    venv = folder / ".venv"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=60
    )
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    shared = sysconfig.get_path("purelib")
    (venv / "lib" / version / "site-packages" / "clone.pth").write_text(f"{folder}\n{shared}\n")
    _copy_scripts(Path(sysconfig.get_path("scripts")), venv / "bin")
    for group in ("demo", "dev"):
        (venv / f".installed-{group}").touch()
    return Clone(folder)


def _copy_scripts(source: Path, target: Path) -> None:
    for script in source.iterdir():
        if (target / script.name).exists() or not script.is_file():
            continue
        text = script.read_bytes()
        if text.startswith(b"#!") and b"python" in text.partition(b"\n")[0]:
            _, _, body = text.partition(b"\n")
            copy = target / script.name
            copy.write_bytes(f"#!{target}/python\n".encode() + body)
            copy.chmod(0o755)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
