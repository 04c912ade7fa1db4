"""`make service NAME=orders` in a copy of the project: it is a whole service at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from failover.recovery import parse as failover_recovery
from gateway.openapi import render
from infra.recovery import recovery_document
from infra.stacks import Application, stack_list
from infra.topology import Topology, load_topology
from lab.packaging import package_all
from lab.stacks import PackagedApplication, deploy
from loadtest.recovery import parse as loadtest_recovery

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (
    ".git", ".venv", ".lab*", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "reports",
    "journal", "deployments", "deployed", "build", "dist",
)  # fmt: skip
ENDPOINTS = [{"region": f"r-{n}", "url": f"https://{n}.test/v1"} for n in range(5)]
NEW = ("services/orders", "tests/unit/test_services_orders.py")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the new service."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    shutil.copytree(ROOT, folder, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/.installed-demo").touch()  # so that setup.sh has nothing to do
    python = folder / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    done = run(folder, [sys.executable, "-m", "infra.scaffold", "orders"])
    assert "made services/orders\n" in done
    return folder


def run(folder: Path, command: list[str]) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTEST_"))}
    done = subprocess.run(
        command, cwd=folder, env=kept | {"PYTHONDONTWRITEBYTECODE": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def topology(clone: Path) -> Topology:
    return load_topology(clone / "topology.toml")


@pytest.fixture(scope="module")
def package(
    clone: Path, topology: Topology, tmp_path_factory: pytest.TempPathFactory
) -> PackagedApplication:
    """What `chalice package` makes of it."""
    steps = [
        s for s in stack_list(topology) if isinstance(s, Application) and s.service == "orders"
    ]
    assert [s.region for s in steps] == list(topology.regions)
    packages = package_all(topology, steps, clone / "services", tmp_path_factory.mktemp("build"))
    return packages["orders", topology.primary]


def test_it_passes_lint_and_its_own_test(clone: Path) -> None:
    ruff = str(Path(sys.executable).with_name("ruff"))
    run(clone, [ruff, "check", "--no-cache", *NEW])
    run(clone, [ruff, "format", "--check", "--no-cache", *NEW])
    options = ["-q", "-p", "no:cacheprovider"]
    assert "3 passed" in run(clone, [sys.executable, "-m", "pytest", *options, NEW[1]])


def test_it_passes_type_checks(clone: Path) -> None:
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull]
    no_types_of_chalice = ["--ignore-missing-imports", "--allow-untyped-decorators"]
    run(clone / "services/orders", [*mypy, *no_types_of_chalice, "app.py"])


def test_it_packages(package: PackagedApplication) -> None:
    files = {p.relative_to(package.code).as_posix() for p in package.code.rglob("*")}
    assert {"app.py", "regional/app.py", "aws_xray_sdk/core/recorder.py"} <= files
    assert "botocore/session.py" not in files
    function = package.template["Resources"]["APIHandler"]["Properties"]
    assert function["Tracing"] == "Active"
    assert function["Environment"]["Variables"]["SERVICE_NAME"] == "orders"


def test_it_is_in_the_stacks_and_in_the_gateway(topology: Topology) -> None:
    names = {step.name for step in stack_list(topology)}
    regions = topology.regions
    assert names >= {"routing-orders", *(f"application-orders-{r}" for r in regions)}
    paths = render(topology)["paths"]
    assert {"/orders", "/orders/{proxy+}"} <= paths.keys()


def test_it_is_in_the_lab_the_load_test_and_failover(
    topology: Topology, package: PackagedApplication
) -> None:
    steps = stack_list(topology)
    packages = {(s.folder, s.region): package for s in steps if isinstance(s, Application)}
    deployment = deploy(steps, topology, packages)
    names = {r.properties["Name"] for r in deployment.of_type("AWS::Route53::RecordSet")}
    assert any(name.startswith("orders.example.test") for name in names)
    document = recovery_document(topology, deployment.outputs, ENDPOINTS)
    path = Path("recovery.json")
    assert "orders" in [s.name for s in loadtest_recovery(document, path).services]
    assert "orders" in failover_recovery(json.loads(json.dumps(document)), path).services


def test_locust_gets_a_user_of_it(
    topology: Topology, package: PackagedApplication, tmp_path: Path
) -> None:
    steps = stack_list(topology)
    packages = {(s.folder, s.region): package for s in steps if isinstance(s, Application)}
    outputs = deploy(steps, topology, packages).outputs
    recovery = tmp_path / "recovery.json"
    recovery.write_text(json.dumps(recovery_document(topology, outputs, ENDPOINTS)))
    locust = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest/locustfile.py"), "--list"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    done = subprocess.run(
        locust, cwd=tmp_path, env=environment | {"RECOVERY_FILE": str(recovery)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
    )  # fmt: skip
    assert "OrdersUser" in done.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_says_that_it_is_there_already(clone: Path) -> None:
    before = (clone / "topology.toml").read_bytes()
    said = run(clone, ["make", "-s", "service", "NAME=orders"])
    assert said == "orders is a service already; nothing was changed\n"
    assert (clone / "topology.toml").read_bytes() == before
