"""One lab for the tests that only move services, and fresh ones for those that break things."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class RunningLab:
    """A lab as an outsider knows it: its directory, and what `lab.json` says."""

    directory: Path

    @property
    def face(self) -> dict[str, Any]:
        return json.loads((self.directory / "lab.json").read_text())

    @property
    def recovery(self) -> dict[str, Any]:
        return json.loads(Path(self.face["recovery_file"]).read_text())

    def run(self, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """A command with the variables of the lab's `env` file, from the project's folder."""
        script = f'. "{self.directory}/env" && exec "$@"'
        return subprocess.run(
            ["sh", "-c", script, "sh", *command],
            cwd=ROOT,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def failover(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        journal = ["--journal-dir", str(self.directory / "journal")]
        where = [] if arguments[0] == "status" else journal
        return self.run(str(BIN / "failover"), *arguments, *where, timeout=timeout)

    def lab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_lab(*arguments, "--lab-dir", str(self.directory))

    def curl(self, url: str, *options: str) -> subprocess.CompletedProcess[str]:
        """curl told where the name is, by the lab's own name server."""
        host, port = url.removeprefix("https://").partition("/")[0].split(":")
        address = self.dig(host)[0]
        return subprocess.run(
            ["curl", "--silent", "--show-error", "--max-time", "10",
             "--cacert", self.face["ca_file"],
             "--connect-to", f"{host}:{port}:{address}:{port}", *options, url],
            capture_output=True, text=True, timeout=20, check=False, cwd=ROOT,
        )  # fmt: skip

    def dig(self, name: str, kind: str = "A") -> list[str]:
        server, port = self.face["nameserver"].split(":")
        done = subprocess.run(
            ["dig", f"@{server}", "-p", port, "+short", "+time=2", "+tries=1", name, kind],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        return done.stdout.split()


def clean_environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    kept.pop("RECOVERY_FILE", None)
    return kept


def run_lab(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "lab"), *arguments],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start_lab(directory: Path, *options: str) -> RunningLab:
    done = run_lab("up", "--network", "auto", "--lab-dir", str(directory), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return RunningLab(directory)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    """A lab shared by tests that leave it as they found it: all services in the primary region."""
    directory = tmp_path_factory.mktemp("lab")
    try:
        yield start_lab(directory)
    finally:
        run_lab("down", "--lab-dir", str(directory))


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[Callable[..., RunningLab]]:
    """Starts a lab for this test alone."""
    started: list[Path] = []

    def make(*options: str) -> RunningLab:
        directory = tmp_path / f"lab{len(started)}"
        started.append(directory)
        return start_lab(directory, *options)

    try:
        yield make
    finally:
        for directory in started:
            run_lab("down", "--lab-dir", str(directory))
