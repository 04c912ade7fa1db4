"""A lab of a benchmark's own, started by the command that users type, and what it weighs.

Downside: the time of `lab up` includes the start of the command's own Python, about 0.3 s.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STATELESS = ("health", "service1", "service2")
"""The three services of every goal that speaks of a whole lab."""
UP_SECONDS = 90.0
STOP_SECONDS = 15.0


def clean_environment() -> dict[str, str]:
    """This process's environment without what would lead a tool to somebody's AWS account."""
    return {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}


@dataclass(frozen=True, slots=True)
class RunningLab:
    directory: Path
    seconds: float
    """From typing `lab up` to its end: every service has answered in both regions."""
    face: dict[str, Any]
    """`lab.json`."""

    @property
    def name_server(self) -> tuple[str, int]:
        host, _, port = self.face["nameserver"].partition(":")
        return host, int(port)

    @property
    def ca_file(self) -> Path:
        return Path(self.face["ca_file"])

    @property
    def recovery(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(Path(self.face["recovery_file"]).read_text())
        return document

    def environment(self) -> dict[str, str]:
        """What stateless traffic needs of what `. <lab-dir>/env` sets."""
        return clean_environment() | {
            "API_URL": self.face["api_url"],
            "CA_FILE": self.face["ca_file"],
            "NAMESERVER": self.face["nameserver"],
            "RECOVERY_FILE": self.face["recovery_file"],
        }

    def memory(self) -> Memory:
        return memory_of(self.face["pids"].values())


@contextlib.contextmanager
def running_lab(
    folder: Path, topology: Path, build: Path | None = None, options: Sequence[str] = ()
) -> Iterator[RunningLab]:
    """A lab in `folder`, on addresses of its own, stopped at the end whatever happens.

    `build`: where packages are kept; without it where the checkout keeps them. `options`: further
    ones of `lab up`.
    """
    kept = os.environ.get("LAB_BUILD_DIR", str(ROOT / ".lab" / "build"))
    environment = clean_environment() | {"LAB_BUILD_DIR": str(build or kept)}
    directory = folder / "lab"
    up = ("up", "--network", "auto", "--topology", str(topology), *options)
    try:
        begun = time.perf_counter()
        done = _lab(environment, directory, *up)
        seconds = time.perf_counter() - begun
        if done.returncode:
            raise SystemExit(f"lab up failed:\n{done.stdout}{done.stderr}")
        yield RunningLab(directory, seconds, json.loads((directory / "lab.json").read_text()))
    finally:
        _lab(environment, directory, "down")


def _lab(
    environment: dict[str, str], directory: Path, command: str, *options: str
) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "lab.cli", command, "--lab-dir", str(directory), *options]
    process = subprocess.Popen(
        argv,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C comes to the benchmark only, which then says so here
    )
    try:
        output, errors = process.communicate(timeout=UP_SECONDS)
    except BaseException:
        process.terminate()  # `lab` then stops what it had started
        process.wait(STOP_SECONDS)
        raise
    return subprocess.CompletedProcess(argv, process.returncode, output, errors)


def write_topology(folder: Path, services: Iterable[str] = STATELESS, extra: int = 0) -> Path:
    """A topology of these services and of `extra` more that share service1's code."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "services").symlink_to(ROOT / "services")
    lines = ['domain = "example.test"', 'regions = ["us-east-1", "us-west-2"]']
    lines += [f"[services.{name}]" for name in services]
    lines += [f'[services.extra{number}]\ncode = "service1"' for number in range(1, extra + 1)]
    path = folder / "topology.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


# ---- memory


@dataclass(frozen=True, slots=True)
class Memory:
    """PSS counts a page that several processes share once in all; RSS counts it in each. MiB."""

    processes: int
    pss: float
    rss: float


def memory_of(roots: Iterable[int]) -> Memory:
    """The memory of these processes and of all that they have started (smaps_rollup, proc(5))."""
    pids = _with_descendants(roots)
    sizes = [_sizes(pid) for pid in pids]
    return Memory(len(pids), sum(s[0] for s in sizes), sum(s[1] for s in sizes))


def _with_descendants(roots: Iterable[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = list(roots)
    for pid in found:  # grows while it is walked
        found.extend(children.get(pid, ()))
    return found


def _sizes(pid: int) -> tuple[float, float]:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    values = {k: v for k, _, v in (line.partition(":") for line in text.splitlines())}
    pss, rss = (int(values[name].split()[0]) / 1024 for name in ("Pss", "Rss"))
    return pss, rss
