"""`chalice package` for every service, once per change of its sources.

One code folder is one job: it is copied (links followed), its `config.json` gets every region's
stage from `infra.configure`, and `chalice package --stage <region>` runs in the copy for one region
after the other, because the second finds Chalice's own cache of the dependencies there. What comes
out is named after a hash of everything that went in, so the next `lab up` packages nothing.

    <build>/<folder>-<hash>/<region>/sam.json   one package
    <build>/code-<hash>/                        its deployment.zip unzipped, shared by regions
    <build>/<name>.lock                         held while <name> is being made

A job works in a directory of its own and renames it at the end, under the lock: a killed job leaves
nothing that could be taken for whole, and two labs may share a build directory.

Downside: the hash covers the text of requirements.txt, not what it resolves to; an unpinned
dependency that has a new release is picked up when something else changes or the build directory
is removed. Old packages are not removed either.

    lab.errors.LabError
    └── PackagingError    with what Chalice wrote
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from infra.configure import ConfigureError, configured, stage_part
from infra.stacks import Application
from infra.steps import Outputs
from infra.topology import Topology
from lab.errors import LabError
from lab.stacks.applications import PackagedApplication

PARALLEL = 2
"""Jobs at a time: resolving dependencies is half waiting, half work."""
TIMEOUT_SECONDS = 300.0
"""For one `chalice package`; a first one downloads wheels."""

_CHALICE = "import sys; from chalice.cli import main; sys.exit(main())"
"""Chalice has no `-m`; this is what its console script does."""
_LEFT_BEHIND = {".chalice": {"deployments", "deployed", "venv"}}
"""Folder -> what Chalice leaves there; not a source."""


class PackagingError(LabError):
    """Services could not be packaged; the text has Chalice's own output."""


@dataclass(slots=True)
class _Processes:
    """The processes that are running, so that an interruption ends them all."""

    timeout: float
    """Seconds for one command."""
    stopping: threading.Event = field(default_factory=threading.Event)
    _running: set[subprocess.Popen[str]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(
        self, argv: Sequence[str], cwd: Path, environment: Mapping[str, str]
    ) -> tuple[int, str]:
        """Exit code and output of a command. It is its own process group, so that pip dies too."""
        with self._lock:
            if self.stopping.is_set():
                raise PackagingError("packaging was interrupted")
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            self._running.add(process)
        try:
            output, _ = process.communicate(timeout=self.timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            output = f"{process.communicate()[0]}\ngiven up after {self.timeout:g} s"
        finally:
            with self._lock:
                self._running.discard(process)
        return process.returncode, output

    def stop(self) -> None:
        """Ends what is running and lets nothing more begin."""
        self.stopping.set()
        with self._lock:
            for process in self._running:
                _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def package_all(
    topology: Topology,
    applications: Sequence[Application],
    services_dir: Path,
    build_dir: Path,
    timeout: float = TIMEOUT_SECONDS,
    outputs: Outputs | None = None,
) -> dict[tuple[str, str], PackagedApplication]:
    """A package for each (code folder, region) that `applications` name.

    `services_dir` holds the code folders; `build_dir` is made when it is not there and keeps
    packages for the next time. Services that share a folder share its packages; the first one's
    environment is what Chalice sees. `timeout`: seconds for one run of Chalice. `outputs`: of the
    steps that applications need (`lab.stacks.outputs_before_applications`); they get into the
    package, as the user pools of an authorizer do. Raises WiringError when one is missing, and
    PackagingError for all folders that failed, and ends its processes when it is interrupted.
    """
    build_dir = build_dir.absolute()
    build_dir.mkdir(parents=True, exist_ok=True)
    jobs = _jobs(topology, applications, services_dir, outputs or {})
    processes = _Processes(timeout)
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="packaging") as pool:
        futures = [pool.submit(job.package, build_dir, processes) for job in jobs]
        try:
            wait(futures)
        except BaseException:
            processes.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    failures = [e for e in (future.exception() for future in futures) if e is not None]
    for failure in failures:
        if not isinstance(failure, PackagingError | ConfigureError):
            raise failure
    if failures:
        raise PackagingError("\n".join(map(str, failures)))
    return {key: package for future in futures for key, package in future.result().items()}


def _jobs(
    topology: Topology, applications: Sequence[Application], services_dir: Path, outputs: Outputs
) -> list[_Job]:
    steps: dict[str, dict[str, Application]] = {}
    for step in applications:
        steps.setdefault(step.folder, {}).setdefault(step.region, step)
    return [_Job(topology, services_dir / f, tuple(s.values()), outputs) for f, s in steps.items()]


@dataclass(frozen=True, slots=True)
class _Job:
    """One code folder, for all its regions."""

    topology: Topology
    source: Path
    steps: tuple[Application, ...]
    outputs: Outputs

    def package(
        self, build_dir: Path, processes: _Processes
    ) -> dict[tuple[str, str], PackagedApplication]:
        config = self._config()
        name = f"{self.source.name}-{_digest(self.source, config)}"
        with _locked(build_dir / f"{name}.lock", processes.stopping):
            if not (build_dir / name).is_dir():
                self._make(build_dir, name, config, processes)
        return {
            (step.folder, step.region): _load(build_dir, build_dir / name / step.region)
            for step in self.steps
        }

    def _config(self) -> str:
        path = self.source / ".chalice" / "config.json"
        try:
            config = json.loads(path.read_text())
            for step in self.steps:
                config = configured(config, step, stage_part(self.topology, step, self.outputs))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise PackagingError(f"{path}: {error}") from None
        return json.dumps(config, indent=2, sort_keys=True)

    def _make(self, build_dir: Path, name: str, config: str, processes: _Processes) -> None:
        work = build_dir / f"{name}.partial"
        shutil.rmtree(work, ignore_errors=True)  # of a job that was killed; the lock is ours
        copy, result = work / "source", work / "result"
        try:
            shutil.copytree(self.source, copy, ignore=_not_sources)
            (copy / ".chalice" / "config.json").write_text(config)
            for step in self.steps:
                self._run_chalice(step, copy, result / step.region, processes)
                _unzip(build_dir, result / step.region, processes.stopping)
            result.rename(build_dir / name)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _run_chalice(self, step: Application, copy: Path, out: Path, processes: _Processes) -> None:
        out.mkdir(parents=True)
        argv = [sys.executable, "-c", _CHALICE, "package", "--stage", step.region, str(out)]
        code, output = processes.run(argv, copy, _environment(step.region))
        if code != 0 or not (out / "sam.json").is_file():
            raise PackagingError(
                f"chalice package --stage {step.region} of services/{step.folder} failed "
                f"with exit code {code}:\n{output.rstrip()}"
            )


def _environment(region: str) -> dict[str, str]:
    """Chalice reads the region from AWS_DEFAULT_REGION. Nothing else of AWS is let through, so that
    a profile of the user's shell can neither help nor disturb."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTHON"))}
    return inherited | {
        "AWS_DEFAULT_REGION": region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _not_sources(directory: str, names: Sequence[str]) -> set[str]:
    """Which of the names in a directory are made by tools; in the form that copytree asks for."""
    left_behind = _LEFT_BEHIND.get(Path(directory).name, set())
    return {n for n in names if n in left_behind or n == "__pycache__" or n.endswith("_cache")}


def _files(source: Path) -> Iterator[Path]:
    """Every file that is copied, links followed, in a fixed order."""
    for directory, folders, names in os.walk(source, followlinks=True):
        folders[:] = sorted(set(folders) - _not_sources(directory, folders))
        for name in sorted(names):
            yield Path(directory, name)


def _digest(source: Path, config: str) -> str:
    """Names everything that decides what a package contains."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {version('chalice')}\n{config}\n".encode())
    for path in _files(source):
        relative = path.relative_to(source)
        if relative != Path(".chalice", "config.json"):
            content = path.read_bytes()
            digest.update(f"{relative}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:20]


@contextlib.contextmanager
def _locked(path: Path, stopping: threading.Event) -> Iterator[None]:
    """Holds the lock file `path`. A killed process loses its lock by itself."""
    with path.open("w") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stopping.wait(0.05):
                    raise PackagingError("packaging was interrupted") from None
        yield


def _unzip(build_dir: Path, package: Path, stopping: threading.Event) -> None:
    """Unzips a package's code once per content and notes where, in the file `code`."""
    archive = package / "deployment.zip"
    name = f"code-{hashlib.sha256(archive.read_bytes()).hexdigest()[:20]}"
    with _locked(build_dir / f"{name}.lock", stopping):
        if not (build_dir / name).is_dir():
            partial = build_dir / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(partial)
            partial.rename(build_dir / name)
    (package / "code").write_text(name)


def _load(build_dir: Path, package: Path) -> PackagedApplication:
    template: dict[str, Any] = json.loads((package / "sam.json").read_text())
    return PackagedApplication(template, build_dir / (package / "code").read_text())
