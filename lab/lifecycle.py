"""`lab up` and `lab down`: from topology and templates to two answering regions, and back.

The order of `up`: check everything that can be checked (topology, ports), package the services,
resolve the stacks, start the processes side by side, switch the primaries On, ask every service in
every region for an answer, and only then write `lab.json`. Whatever fails or interrupts it, all
that was started is stopped again. Every step sets a wanted state, so both commands can be repeated:
`up` on a running lab starts only the processes that are missing.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.recovery import recovery_document
from infra.stacks import Application, stack_list
from infra.topology import Topology, load_topology
from lab import aurora, certs, cloudwatch, cognito, control
from lab.errors import LabError, PreconditionError
from lab.model import Deployment
from lab.packaging import package_all
from lab.paths import LabPaths
from lab.process import Process, ProcessTable, wait_until
from lab.readiness import Question, first_fault, questions
from lab.settings import (
    ARC_PORT,
    ARC_REGIONS,
    DNS_PORT,
    HTTPS_PORT,
    Network,
    Profile,
    Settings,
)
from lab.stacks import deploy, outputs_before_applications

START_SECONDS = 20.0
"""A process that is not ready by then has failed."""

MIGRATE_SECONDS = 60.0

_CLAIM_PORT = 40404
"""On one address of a network, for `claim`; nothing is ever sent there."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Lab:
    """One lab directory. `say` takes the lines that a person sees."""

    paths: LabPaths
    say: Say

    @property
    def processes(self) -> ProcessTable:
        return ProcessTable(self.paths.run)

    def environment(self) -> dict[str, str]:
        """This process's environment with the variables of `env` added, for commands run beside."""
        lines = self.paths.env.read_text().splitlines()
        pairs = (line.removeprefix("export ").partition("=") for line in lines)
        return {**os.environ, **{name: value.strip("'") for name, _, value in pairs}}

    # ---- up

    def up(self, topology_file: Path, network: Network, profile: Profile) -> None:
        """Bring the lab to "everything answers". Raises LabError; then nothing is left running."""
        topology = load_topology(topology_file)
        settings = Settings(
            network,
            profile,
            topology.domain,
            topology.regions,
            str(topology_file.resolve()),
            any(service.database for service in topology.services.values()),
            bool(topology.switched_by("arc")),
            any(entry.switch != "arc" for entry in topology.entries),
        )
        with self._lock():
            self._refuse_other_settings(settings)
            if not self.paths.lab_json.exists():
                self.processes.stop(self.processes.alive())  # left over from an interrupted start
            running = {p.name for p in self.processes.alive()}
            missing = [n for n in settings.processes if n not in running]
            if not missing:
                self.say("already up")
                return
            check_ports(settings, missing)
            try:
                self._start(topology, settings, missing)
            except BaseException:  # Ctrl-C too: nothing that this call started may stay
                self.processes.stop(p for p in self.processes.alive() if p.name in missing)
                raise

    def _start(self, topology: Topology, settings: Settings, missing: list[str]) -> None:
        began = time.monotonic()
        if not self.paths.lab_json.exists():
            self._deploy(topology, settings)
        self._spawn_all(settings, missing)
        document = json.loads(self.paths.recovery.read_text())
        if "global" in missing:
            control.call(self.paths.socket("global"), "switch_primaries_on", services=document)
        self._migrate(topology)
        self._await_answers(topology, settings, settings.regions)
        self._await_health()
        write_public_face(self.paths, settings, topology, self.processes)
        self.say(f"up after {time.monotonic() - began:.1f} s: {api_url(settings)}")

    def _deploy(self, topology: Topology, settings: Settings) -> None:
        steps = stack_list(
            topology, wait_period_ms=round(settings.profile.wait_period * 1000)
        )
        applications = [s for s in steps if isinstance(s, Application)]
        self.say(f"packaging {len({a.folder for a in applications})} services for two regions")
        services_dir = Path(settings.topology_file).parent / "services"
        outputs = outputs_before_applications(steps, topology)
        packages = package_all(
            topology, applications, services_dir, self.paths.build, outputs=outputs
        )
        self.say(f"resolving {len(steps)} stacks")
        deployment = deploy(steps, topology, packages)
        self.paths.root.mkdir(parents=True, exist_ok=True)
        deployment.save(self.paths.deployment)
        settings.save(self.paths.settings)
        certs.issue(self.paths, deployment, settings)
        cognito.prepare(deployment, self.paths.state)
        if settings.database:
            aurora.prepare(self.paths, settings, deployment)
        write_recovery(self.paths, settings, topology, deployment)

    def _spawn_all(self, settings: Settings, names: Sequence[str]) -> None:
        """Start processes of the lab side by side, and wait until they are ready."""
        for name in names:
            self.spawn(settings, name)
        self._await_ready([n for n in names if not n.startswith("db-")])

    def spawn(self, settings: Settings, name: str) -> Process:
        argv = [sys.executable, "-m", "lab.serve", str(self.paths.root.resolve()), name]
        if name.startswith("db-"):
            argv = aurora.mariadbd_argv(self.paths, settings, name.removeprefix("db-"))
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTHON", "COV_"))
        }
        return self.processes.spawn(name, argv, self.paths.log / f"{name}.log", environment)

    def _await_ready(self, names: list[str]) -> None:
        for name in names:

            def ready(name: str = name) -> bool:
                if self.processes.get(name) is None:
                    raise LabError(f"{name} did not start:\n{self._log_tail(name)}")
                with contextlib.suppress(OSError):
                    return bool(control.call(self.paths.socket(name), "ready", timeout=2))
                return False

            if not wait_until(ready, START_SECONDS):
                tail = self._log_tail(name)
                raise LabError(f"{name} was not ready after {START_SECONDS:.0f} s:\n{tail}")

    def _log_tail(self, name: str) -> str:
        path = self.paths.log / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join([*(f"  {line}" for line in lines[-15:]), f"  (all of it: {path})"])

    def _migrate(self, topology: Topology) -> None:
        """Bring the schema up to date, in the writer's region, as after a deployment."""
        services = [s.name for s in topology.services.values() if s.database]
        writer = next((r for r in topology.regions if self._is_writer(r)), None)
        if not services or writer is None:
            return  # with the writer's region down there is nothing that could be migrated
        for service in services:
            answer = control.call(
                self.paths.socket(writer),
                "invoke",
                timeout=MIGRATE_SECONDS,
                function=f"{service}-{writer}-migrate",
                payload={"primary_region": topology.primary},
            )
            applied = ", ".join(answer["applied"]) or "none new"
            self.say(f"migrations of {service} in {writer}: {applied}")

    def _is_writer(self, region: str) -> bool:
        if self.processes.get(region) is None:
            return False
        status = control.call(self.paths.socket(region), "status")
        return bool(status.get("aurora", {}).get("role") == "writer")

    def _await_answers(
        self, topology: Topology, settings: Settings, regions: Iterable[str]
    ) -> None:
        """Every service answers in these regions; see `questions` for which are asked."""
        context = certs.client_context(self.paths.ca)
        wanted = [question for region in regions for question in questions(topology, region)]

        def ask(question: Question) -> str | None:
            return first_fault(question, settings.region_address(question.region), context)

        with ThreadPoolExecutor(8) as pool:
            faults = [fault for fault in pool.map(ask, wanted) if fault]
        if faults:
            raise LabError("\n".join(faults))

    def _await_health(self) -> None:
        """Route 53's checkers agree: while all processes start at once, they may have asked before
        there was anybody to answer."""
        faults: list[str] = []

        def healthy() -> bool:
            faults[:] = control.call(self.paths.socket("global"), "unhealthy_endpoints")
            return not faults

        if not wait_until(healthy, START_SECONDS, 0.05):
            raise LabError("health checks stay unhealthy:\n" + "\n".join(faults))

    # ---- down

    def down(self) -> None:
        """Stop every process of the lab. Its files stay, but for the public face."""
        with self._lock():
            alive = self.processes.alive()
            self.processes.stop(alive)
            for path in (self.paths.lab_json, self.paths.env):
                path.unlink(missing_ok=True)
            for name in ("global", *self._regions()):
                self.paths.socket(name).unlink(missing_ok=True)
            self.say(f"down: {len(alive)} processes stopped" if alive else "already down")

    def _regions(self) -> tuple[str, ...]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return Settings.load(self.paths.settings).regions
        return ()

    # ---- both

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One `up` or `down` at a time."""
        self.paths.root.mkdir(parents=True, exist_ok=True)
        with (self.paths.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise PreconditionError(
                    f"another lab command is at work in {self.paths.root}; wait for it"
                ) from None
            yield

    def _refuse_other_settings(self, wanted: Settings) -> None:
        if not self.paths.lab_json.exists():
            return
        running = Settings.load(self.paths.settings)
        if running != wanted and self.processes.alive():
            raise PreconditionError(
                f"the lab in {self.paths.root} runs with other settings; stop it with: lab down"
            )
        if running != wanted:
            self.paths.lab_json.unlink()

    def restore(self, region: str) -> None:
        """Start a region's processes again and wait until its services answer."""
        settings = Settings.load(self.paths.settings)
        topology = load_topology(Path(settings.topology_file))
        with self._lock():
            names = settings.processes_of(region)
            missing = [n for n in names if self.processes.get(n) is None]
            check_ports(settings, missing)
            self._spawn_all(settings, missing)
            self._await_answers(topology, settings, [region])
            write_public_face(self.paths, settings, topology, self.processes)


def check_ports(settings: Settings, names: list[str]) -> None:
    """Raise PreconditionError that names every address that is taken."""
    network = settings.network
    wanted = [
        (settings.region_address(region), port)
        for region in settings.regions
        if region in names
        for port in region_ports(settings)
    ]
    wanted += [
        (settings.region_address(r), aurora.SERVER_PORT)
        for r in settings.regions
        if f"db-{r}" in names
    ]
    if "global" in names:
        wanted.append((network.nameserver_address, DNS_PORT))
        if settings.cluster:
            wanted += [(network.arc_address(r), ARC_PORT) for r in ARC_REGIONS]
    taken = [f"{address}:{port}" for address, port in wanted if not _free(address, port)]
    if "global" in names and not _free(network.nameserver_address, DNS_PORT, socket.SOCK_DGRAM):
        taken.append(f"{network.nameserver_address}:{DNS_PORT} (UDP)")
    if taken:
        raise PreconditionError(
            "in use by another program: " + ", ".join(taken) + "\n"
            "stop it, or start this lab beside it with: lab up --network auto --lab-dir .lab-2"
        )


def claim(network: Network) -> bool:
    """Whether it may be taken by whoever looks for a free one. From then on it is this process's
    until it ends: two that start at once would each find the other's addresses free."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        holder.bind((f"{network.prefix}.255.254", _CLAIM_PORT))
    except OSError:
        holder.close()
        return False
    atexit.register(holder.close)
    return True


def region_ports(settings: Settings) -> tuple[int, ...]:
    """The ports that a region's process listens on."""
    ports = (HTTPS_PORT, *((cloudwatch.CLOUDWATCH_PORT,) if settings.cloudwatch else ()))
    if not settings.database:
        return ports
    return (
        *ports,
        cognito.COGNITO_PORT,
        aurora.API_PORT,
        aurora.LINK_PORT,
        aurora.WRITER_PORT,
        aurora.READER_PORT,
    )


def _free(address: str, port: int, kind: int = socket.SOCK_STREAM) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            if kind == socket.SOCK_STREAM:
                probe.listen()
        except OSError:
            return False
    return True


# ---- the public face


def api_url(settings: Settings) -> str:
    return f"https://api.{settings.domain}:{HTTPS_PORT}"


def arc_endpoints(settings: Settings) -> list[dict[str, str]]:
    return [
        {"region": r, "url": f"http://{settings.network.arc_address(r)}:{ARC_PORT}/v1"}
        for r in (ARC_REGIONS if settings.cluster else ())
    ]


def api_endpoints(settings: Settings, region: str) -> dict[str, str]:
    """Where a client finds the region's AWS APIs: service -> URL."""
    at = f"http://{settings.region_address(region)}"
    endpoints = {"rds": f"{at}:{aurora.API_PORT}"} if settings.database else {}
    if settings.cloudwatch:
        endpoints["cloudwatch"] = f"{at}:{cloudwatch.CLOUDWATCH_PORT}"
    return endpoints


def write_recovery(
    paths: LabPaths, settings: Settings, topology: Topology, deployment: Deployment
) -> None:
    """`recovery.json`, by the code that a real deployment uses, pointed at this lab."""
    extra: dict[str, Any] = {
        "dns": {"name_servers": [f"{settings.network.nameserver_address}:{DNS_PORT}"]},
        "tls": {"ca_file": paths.ca.name},
    }
    if settings.database or settings.cloudwatch:
        extra["endpoints"] = {r: api_endpoints(settings, r) for r in settings.regions}
    if settings.database:
        extra["tokens"] = {
            region: {"token_url": token_url(settings, region), "client_id": client["client_id"]}
            for region, client in clients(paths, deployment)["Operator"].items()
        }
    document = recovery_document(
        topology,
        deployment.outputs,
        arc_endpoints(settings),
        pinned_port=HTTPS_PORT,
        extra=extra,
    )
    write_json(paths.recovery, document)


def token_url(settings: Settings, region: str) -> str:
    return f"https://{settings.region_address(region)}:{cognito.COGNITO_PORT}/oauth2/token"


def clients(paths: LabPaths, deployment: Deployment) -> dict[str, dict[str, dict[str, str]]]:
    """Client name (Application, Operator) -> region -> client id and secret."""
    return cognito.client_credentials(deployment, paths.state)


def write_public_face(
    paths: LabPaths, settings: Settings, topology: Topology, processes: ProcessTable
) -> None:
    """`lab.json` and `env`: all that anybody needs to drive this lab."""
    credentials = clients(paths, Deployment.load(paths.deployment))
    tokens = {
        name: {
            region: {"token_url": token_url(settings, region), **client}
            for region, client in regions.items()
        }
        for name, regions in credentials.items()
    }
    nameserver = f"{settings.network.nameserver_address}:{DNS_PORT}"
    pids = {p.name: p.pid for p in processes.alive()}
    document: dict[str, Any] = {
        "domain": settings.domain,
        "api_url": api_url(settings),
        "ca_file": str(paths.ca),
        "nameserver": nameserver,
        "profile": settings.profile.name,
        "regions": {
            region: {
                "address": settings.region_address(region),
                "pids": [pids[n] for n in settings.processes_of(region) if n in pids],
                "pinned": {
                    name: f"https://{topology.pinned_host(name, region)}:{HTTPS_PORT}"
                    for name in (*topology.services, "api")
                },
                **{k: v for k, v in api_endpoints(settings, region).items() if k == "cloudwatch"},
            }
            for region in settings.regions
        },
        "arc_endpoints": arc_endpoints(settings),
        "recovery_file": str(paths.recovery),
        "tokens": tokens.get("Application", {}),
        "operator": tokens.get("Operator", {}),
        "pids": pids,
    }
    write_json(paths.lab_json, document)
    write_json(paths.tokens, document["tokens"])
    variables = {
        "API_URL": document["api_url"],
        "CA_FILE": str(paths.ca.resolve()),
        "NAMESERVER": nameserver,
        "RECOVERY_FILE": str(paths.recovery.resolve()),
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_DEFAULT_REGION": settings.regions[0],
    }
    if document["tokens"]:
        variables["TOKENS_FILE"] = str(paths.tokens.resolve())
    for region, client in tokens.get("Operator", {}).items():
        suffix = region.upper().replace("-", "_")
        variables[f"OPERATOR_CLIENT_SECRET_{suffix}"] = client["client_secret"]
    _replace(paths.env, "".join(f"export {k}='{v}'\n" for k, v in variables.items()))


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    _replace(path, json.dumps(document, indent=2) + "\n")


def _replace(path: Path, text: str) -> None:
    """All at once, and for this user's eyes only: `lab.json` and `env` hold the lab's secrets."""
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_text(text)
    temporary.replace(path)


def remove(paths: LabPaths) -> None:
    """Delete the lab directory; for tests and `make clean` once everything is down."""
    shutil.rmtree(paths.root, ignore_errors=True)
