"""The life of a deployment, from nothing and back, by the real `infra` console command against a
local AWS (`infra_standin_support`), in two checkouts that share nothing but the account.

A checkout is a copy of what git would give: topology, services, and the `infra` and `gateway`
packages, which the command then runs from, so that a template can be changed in one of them.

Downside: stacks are polled every 20 ms here (`infra --poll`), so nothing is said about durations.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
from chalice_services_support import role_arn
from chalice_support import Call
from infra_standin_support import DOMAIN, LocalDeployment, snapshot

from infra.preflight import certificate_help
from infra.topology import Service, Topology

ROOT = Path(__file__).resolve().parents[2]
DRIFTS = ROOT / "tests/descriptions/drift-after-switchover.json"
INFRA = Path(sys.executable).with_name("infra")
EAST, WEST = REGIONS = ("us-east-1", "us-west-2")
SERVICES = ("service1", "todo")
ROLE = role_arn("two-region-api-cloudformation")
TOPOLOGY = f"""\
domain = "{DOMAIN}"
regions = ["{EAST}", "{WEST}"]
[services.service1]
[services.todo]
database = "aurora"
"""
TIMEOUT = 150
"""Seconds for one command; each takes less than five on an idle machine."""


DECLARED = Topology(
    DOMAIN, REGIONS, {"service1": Service("service1"), "todo": Service("todo", database="aurora")}
)
"""The same as `TOPOLOGY`."""


def checkout(folder: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__", "deployments", "deployed")
    for name in ("services", "infra", "gateway"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
    (folder / "topology.toml").write_text(TOPOLOGY)
    return folder


def environment(url: str, folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTHON"))}
    return kept | {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@dataclass(frozen=True)
class Run:
    """One run of the command, and what it did to the account."""

    code: int
    out: str
    err: str
    calls: tuple[Call, ...]
    executed: tuple[str, ...]
    """Steps whose stack was created, updated or deleted."""
    after: Mapping[str, Any]

    def called(self, operation: str) -> list[Call]:
        return [call for call in self.calls if call.operation == operation]


@dataclass
class World:
    local: LocalDeployment
    folder: Path
    runs: dict[str, Run] = field(default_factory=dict)

    def infra(self, name: str, checkout: str, *words: str, interrupted_at: str = "") -> Run:
        """Runs `infra WORDS` in a checkout. `interrupted_at`: at the first call of that operation
        the command gets Ctrl-C, and the call is not answered before it has ended."""
        folder, local = self.folder / checkout, self.local
        before, executed = len(local.calls), len(local.aws.executed)
        process = subprocess.Popen(
            [INFRA, "--poll", "0.02", *words],
            cwd=folder, env=environment(local.url, folder), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        ended = threading.Event()
        if interrupted_at:
            local.watch = _Interruption(interrupted_at, process, ended)
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
            ended.set()
            local.watch = None
        self.runs[name] = Run(
            process.returncode, out, err, tuple(local.calls[before:]),
            tuple(local.aws.executed[executed:]), snapshot(local),
        )  # fmt: skip
        return self.runs[name]


class _Interruption:
    def __init__(
        self, operation: str, process: subprocess.Popen[str], ended: threading.Event
    ) -> None:
        self._operation, self._process, self._ended = operation, process, ended
        self._once = threading.Lock()

    def __call__(self, call: Call) -> None:
        if call.operation == self._operation and self._once.acquire(blocking=False):
            self._process.send_signal(signal.SIGINT)
            assert self._ended.wait(TIMEOUT)


def live(world: World) -> None:
    """All of it, each run under a name of its own."""
    aws = world.local.aws
    mine, theirs = "mine", "theirs"
    for name in (mine, theirs):
        checkout(world.folder / name)

    aws.slow["cluster"] = 1_000_000
    world.infra("interrupted", mine, "deploy", "--role-arn", ROLE, interrupted_at="ImportRestApi")

    aws.stack("cluster").looks = 5
    aws.failing["mapping-todo-us-east-1"] = "Invalid stage identifier specified"
    world.infra("failed", theirs, "deploy")
    world.infra("stuck", theirs, "deploy")
    world.infra("continued", theirs, "deploy", "--recreate-failed")
    world.infra("again", mine, "deploy")
    for region in REGIONS:  # what `infra deploy` says of a certificate that is pending for long
        certificate_help(Clients(world.local.url), DECLARED, region, "Z0123456789", "infra deploy")
    world.infra("exported", mine, "export")
    world.infra("exported again", mine, "export")

    change_by_hand(world)
    move_the_database(world)
    world.infra("after a move", theirs, "plan", "--drift")
    world.infra("deployed after a move", theirs, "deploy")

    change(world.folder / mine)
    world.infra("planned", mine, "plan", "--live")
    world.infra("changed", mine, "deploy")
    world.infra("configured", theirs, "configure")

    aws.shows_moves = False  # CloudFormation compares templates; showing a move was the worst case
    shown = world.infra("shown", theirs, "destroy")
    code = shown.out.split()[-1]
    world.infra("wrong code", theirs, "destroy", "--remove-deletion-protection", "--confirm", "x-1")
    world.infra(
        "destroyed", theirs, "destroy", "--remove-deletion-protection", "--confirm", code
    )
    world.infra("nothing", mine, "destroy")


@dataclass
class Clients:
    """Clients of this process for the local AWS."""

    url: str

    def get(self, service: str, region: str) -> Any:
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=self.url,
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="none",
        )

    def cluster_endpoint(self, url: str, region: str) -> Any:
        raise AssertionError(url)


def change_by_hand(world: World) -> None:
    """In the east somebody opens the address of service1, in force; in the west somebody takes
    limits and log of todo away."""
    for region, title in ((EAST, "service1"), (WEST, "todo")):
        apis = world.local.account.region(region).apis.values()
        (api,) = (each for each in apis if each.definition["info"]["title"] == title)
        stage = api.stages["api"]
        if region == EAST:
            api.address_off = stage.address_off = False
        else:
            stage.limits, stage.log = {"throttlingRateLimit": 1}, {}


def move_the_database(world: World) -> None:
    """What a switchover to the west leaves: the writer is there, change sets and drift show it."""
    aws = world.local.aws
    aws.writer, aws.shows_moves = WEST, True
    aws.drifts = json.loads(DRIFTS.read_text())
    for entries in aws.drifts.values():
        for each in entries:
            each["Timestamp"] = datetime.fromisoformat(each["Timestamp"])


def change(folder: Path) -> None:
    """A line more in service1, and another limit in the external API's template."""
    with (folder / "services/service1/app.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    template = folder / "infra/templates/gateway.yaml"
    before = template.read_text()
    after = before.replace("    Default: 5000\n", "    Default: 4000\n", 1)
    assert after != before
    template.write_text(after)
