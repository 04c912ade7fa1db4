"""`chalice package` in a subprocess: what comes out, what is kept, and what a failure says.

These run the real Chalice on an application without dependencies, so nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.stacks import Application, stack_list
from infra.topology import Service, Topology
from lab.packaging import PackagingError, package_all
from lab.stacks import deploy

APP = """
import os
from chalice import Chalice
from helper import greeting
from chalicelib import part
app = Chalice(app_name=os.environ["SERVICE_NAME"])
@app.route("/")
def index():
    return {"greeting": greeting, "part": part.name}
"""
REGIONS = ("us-east-1", "us-west-2")


@pytest.fixture
def services_dir(tmp_path: Path) -> Path:
    """One service, `a`, whose helper is a link in vendor/, as the real ones have it."""
    root = tmp_path / "services"
    for folder in ("a/.chalice/deployed", "a/chalicelib", "a/vendor", "shared/helper"):
        (root / folder).mkdir(parents=True)
    (root / "a/app.py").write_text(APP)
    (root / "a/chalicelib/__init__.py").touch()
    (root / "a/chalicelib/part.py").write_text('name = "part"\n')
    (root / "a/requirements.txt").touch()
    (root / "shared/helper/__init__.py").write_text('greeting = "hello"\n')
    (root / "a/vendor/helper").symlink_to("../../shared/helper")
    (root / "a/.chalice/deployed/us-east-1.json").write_text("{}")
    config = {
        "version": "2.0",
        "app_name": "a",
        "stages": {"us-east-1": {"lambda_timeout": 7}, "us-west-2": {}},
    }
    (root / "a/.chalice/config.json").write_text(json.dumps(config))
    return root


def topology(*services: Service) -> Topology:
    return Topology("example.test", REGIONS, {s.name: s for s in services or (Service("a"),)})


def steps_of(given: Topology) -> list[Application]:
    return [s for s in stack_list(given) if isinstance(s, Application)]


def made_at(build: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in build.rglob("*.json")}


def test_a_package_for_each_region_and_nothing_the_second_time(
    services_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither a profile that does not exist nor another region of the shell may matter.
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    given, build = topology(Service("a"), Service("b", code="a")), tmp_path / "build"
    sources = sorted(str(p) for p in services_dir.rglob("*"))

    packages = package_all(given, steps_of(given), services_dir, build)

    assert sorted(packages) == [("a", "us-east-1"), ("a", "us-west-2")]
    east, west = packages["a", "us-east-1"], packages["a", "us-west-2"]
    function = east.template["Resources"]["APIHandler"]["Properties"]
    assert function["Timeout"] == 7
    assert function["Environment"]["Variables"] == {"SERVICE_NAME": "a"}
    assert east.template["Resources"]["RestAPI"]["Properties"]["StageName"] == "api"
    assert (
        west.template["Resources"]["RestAPI"]["Properties"]["EndpointConfiguration"] == "REGIONAL"
    )
    assert east.code == west.code
    assert (east.code / "app.py").is_file()
    assert (east.code / "chalicelib/part.py").is_file()
    helper = east.code / "helper/__init__.py"
    assert helper.is_file()
    assert not helper.is_symlink()
    assert sorted(str(p) for p in services_dir.rglob("*")) == sources
    assert not list(build.glob("*.partial"))

    before = made_at(build)
    assert package_all(given, steps_of(given), services_dir, build) == packages
    assert made_at(build) == before

    deployed = deploy(stack_list(given), given, packages)
    functions = deployed.of_type("AWS::Serverless::Function")
    assert [f.physical_id for f in functions] == [f"{s}-{r}" for s in "ab" for r in REGIONS]
    assert {f.properties["CodeUri"] for f in functions} == {str(east.code)}


def test_a_change_behind_a_link_is_packaged_again(services_dir: Path, tmp_path: Path) -> None:
    given = topology()
    first = package_all(given, steps_of(given), services_dir, tmp_path / "build")

    (services_dir / "shared/helper/__init__.py").write_text('greeting = "good morning"\n')
    second = package_all(given, steps_of(given), services_dir, tmp_path / "build")

    assert first["a", "us-east-1"].code != second["a", "us-east-1"].code
    assert "good morning" in (second["a", "us-east-1"].code / "helper/__init__.py").read_text()


def test_what_a_killed_packaging_left_is_not_taken_for_whole(
    services_dir: Path, tmp_path: Path
) -> None:
    given, build = topology(), tmp_path / "build"
    package_all(given, steps_of(given), services_dir, build)
    (whole,) = build.glob("a-*[!k]")
    partial = whole.rename(whole.with_name(whole.name + ".partial"))
    (partial / "result" / "us-east-1").mkdir(parents=True)

    packages = package_all(given, steps_of(given), services_dir, build)

    assert whole.is_dir()
    assert not partial.exists()
    assert len(packages) == 2


def test_failures_of_all_services_come_out_with_what_chalice_wrote(
    services_dir: Path, tmp_path: Path
) -> None:
    (services_dir / "a/app.py").write_text("import nothing_of_that_name\n")
    (services_dir / "b/.chalice").mkdir(parents=True)
    (services_dir / "b/.chalice/config.json").write_text("{")
    given = topology(Service("a"), Service("b"))

    with pytest.raises(PackagingError) as caught:
        package_all(given, steps_of(given), services_dir, tmp_path / "build")

    text = str(caught.value)
    assert "chalice package --stage us-east-1 of services/a failed with exit code" in text
    assert "nothing_of_that_name" in text
    assert "config.json: Expecting" in text
    assert not [p for p in (tmp_path / "build").iterdir() if p.is_dir()]


def test_a_packaging_that_hangs_is_ended_with_its_children(
    services_dir: Path, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    (services_dir / "a/app.py").write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    given = topology()

    with pytest.raises(PackagingError, match="given up after 4 s"):
        package_all(given, steps_of(given), services_dir, tmp_path / "build", timeout=4)

    assert is_gone(int(pid_file.read_text()))


def is_gone(pid: int) -> bool:
    """Whether the process ends within 5 s (a zombie has ended)."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


DRIVER = """
import sys
from pathlib import Path
from infra.stacks import Application, stack_list
from infra.topology import Service, Topology
from lab.packaging import package_all
given = Topology("example.test", ("us-east-1", "us-west-2"), {"a": Service("a")})
steps = [s for s in stack_list(given) if isinstance(s, Application)]
print(len(package_all(given, steps, Path(sys.argv[1]), Path(sys.argv[2]))), flush=True)
"""


def test_an_interruption_leaves_no_process(services_dir: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    (services_dir / "a/app.py").write_text(
        "import os, time\n"
        f"open({str(pid_file)!r} + '~', 'w').write(str(os.getpid()))\n"
        f"os.rename({str(pid_file)!r} + '~', {str(pid_file)!r})\n"
        "time.sleep(60)\n"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(services_dir), str(tmp_path / "build")],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(2000):
            if pid_file.exists():
                break
            time.sleep(0.01)
        os.kill(driver.pid, signal.SIGINT)

        assert driver.wait(10) != 0
    finally:
        driver.kill()
        driver.wait()
    assert is_gone(int(pid_file.read_text()))
    assert not [p for p in (tmp_path / "build").iterdir() if p.is_dir()]


def test_two_labs_at_once_package_once(services_dir: Path, tmp_path: Path) -> None:
    given, build = topology(), tmp_path / "build"
    counter = tmp_path / "runs"
    (services_dir / "a/app.py").write_text(
        APP + f"open({str(counter)!r}, 'a').write(os.environ['AWS_DEFAULT_REGION'] + ' ')\n"
    )

    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(package_all, given, steps_of(given), services_dir, build) for _ in range(2)
        ]
    assert runs[0].result() == runs[1].result()
    assert counter.read_text().split() == ["us-east-1", "us-west-2"]
