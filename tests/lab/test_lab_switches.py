"""The switches without a cluster, in a lab with one service of each: alarms and health checks."""

from __future__ import annotations

import functools
import json
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from conftest import ROOT, RunningLab, run_lab, start_lab
from test_lab_from_outside import wait_for

pytestmark = pytest.mark.lab

EAST, WEST = "us-east-1", "us-west-2"
ARC, ALARM, FAILOVER, WEIGHTED = "service1", "by-alarm", "by-health", "by-weight"
AUTOMATIC = (FAILOVER, WEIGHTED)
SWITCHED = (ALARM, *AUTOMATIC)
REGIONS = f'domain = "example.test"\nregions = ["{EAST}", "{WEST}"]\n'
SHARED = 'code = "service1"\n'
HEALTH = f'{SHARED}switch = "health"\nhealth_path = "/"\n'
MIXED = (
    f"{REGIONS}[services.{ARC}]\n"
    f'[services.{ALARM}]\n{SHARED}switch = "alarm"\n'
    f"[services.{FAILOVER}]\n{HEALTH}"
    f'[services.{WEIGHTED}]\n{HEALTH}records = "weighted"\n'
)
WITHOUT_ARC = f'{REGIONS}[services.service1]\nswitch = "alarm"\n[api]\nswitch = "alarm"\n'


def write_topology(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "services").symlink_to(ROOT / "services")
    path = folder / "topology.toml"
    path.write_text(text)
    return path


@functools.cache
def _client(region: str, url: str) -> Any:
    return boto3.client(
        "cloudwatch", region_name=region, aws_access_key_id="lab", aws_secret_access_key="lab",
        endpoint_url=url, config=Config(retries={"total_max_attempts": 2}),
    )  # fmt: skip


class Operated:
    """A lab and what an operator does to it: publish positions, look at DNS."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab

    def cloudwatch(self, region: str) -> Any:
        return _client(region, self.lab.recovery["endpoints"][region]["cloudwatch"])

    def state(self, service: str, taken: str) -> str:
        takeover = self.lab.recovery["services"][service]["takeover"][taken]
        answer = self.cloudwatch(takeover["region"]).describe_alarms(
            AlarmNames=[takeover["alarm"]], AlarmTypes=["MetricAlarm"]
        )
        return str(answer["MetricAlarms"][0]["StateValue"])

    def publish(self, service: str, taken: str, value: float) -> None:
        takeover = self.lab.recovery["services"][service]["takeover"][taken]
        dimensions = [{"Name": k, "Value": v} for k, v in takeover["dimensions"].items()]
        self.cloudwatch(takeover["region"]).put_metric_data(
            Namespace=takeover["namespace"],
            MetricData=[{"MetricName": takeover["metric"], "Dimensions": dimensions,
                         "Value": value, "Timestamp": datetime.now(UTC), "Unit": "None"}],
        )  # fmt: skip

    def set(self, *positions: tuple[str, str, float]) -> None:
        """(service, region taken over from, 0 or 1): publishes until the alarms stand so. Once is
        not always enough, since within one period the maximum counts.
        """

        def differing() -> list[tuple[str, str, float]]:
            return [p for p in positions if self.state(*p[:2]) != ("ALARM" if p[2] else "OK")]

        for _ in range(10):
            for position in (wrong := differing()):
                self.publish(*position)
            if not wrong or wait_for(lambda: not differing(), 1):
                return
        raise AssertionError(differing())

    def region(self, service: str) -> str:
        """The region to which DNS leads."""
        (address,) = self.lab.dig(f"{service}.example.test")
        by_address = {r["address"]: name for name, r in self.lab.face["regions"].items()}
        return by_address[address]

    def leads(self, service: str, region: str, seconds: float = 10) -> bool:
        return wait_for(lambda: self.region(service) == region, seconds)

    def checks(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(service, region of the alarm) -> the health check that follows the alarm."""
        status = json.loads(self.lab.lab("status", "--json").stdout)
        checks = [c for c in status["parts"]["global"]["route53"]["checks"] if c["alarm"]]
        return {
            (service, c["alarm"]["region"]): c
            for service in SWITCHED
            for c in checks
            if f"-{service}-" in c["alarm"]["name"]
        }


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    folder = tmp_path_factory.mktemp("switches")
    topology = write_topology(folder / "mixed", MIXED)
    try:
        yield Operated(start_lab(folder / "lab", "--topology", str(topology)))
    finally:
        run_lab("down", "--lab-dir", str(folder / "lab"))


@pytest.fixture
def world(shared: Operated) -> Iterator[Operated]:
    """The shared lab, at rest before and after: nothing taken over, everything in the primary."""
    yield shared
    assert shared.lab.lab("fault", "clear").returncode == 0
    positions = [(service, taken, 0.0) for service in SWITCHED for taken in (EAST, WEST)]
    shared.set(*(p for p in positions if shared.state(*p[:2]) == "ALARM"))
    assert all(shared.leads(service, EAST) for service in SWITCHED)


def test_the_public_face_has_what_each_switch_needs(world: Operated) -> None:
    recovery, face = world.lab.recovery, world.lab.face
    services = recovery["services"]
    assert "takeover" not in services[ARC]
    assert "routing_controls" not in services[ALARM]
    assert services[ALARM]["switch"] == "alarm"
    assert services[ALARM]["takeover"][EAST]["region"] == WEST
    assert services[FAILOVER]["checked"] == {"path": "/", "records": "failover"}
    assert services[WEIGHTED]["checked"] == {"path": "/", "records": "weighted"}
    for region in (EAST, WEST):
        url = face["regions"][region]["cloudwatch"]
        assert recovery["endpoints"][region] == {"cloudwatch": url}
        assert face["regions"][region]["address"] in url
    assert len(face["arc_endpoints"]) == 5
    assert all(world.region(service) == EAST for service in services)


@pytest.mark.semantics(79)
def test_one_data_point_moves_one_service_and_another_moves_it_back(world: Operated) -> None:
    others = (ARC, *AUTOMATIC, "api")
    url = f"{world.lab.face['api_url']}/{ALARM}/"
    assert world.state(ALARM, EAST) == "INSUFFICIENT_DATA"
    for value, region in ((1.0, WEST), (0.0, EAST)):
        world.set((ALARM, EAST, value))
        assert world.leads(ALARM, region, 3)
        answered = wait_for(
            lambda r=region: json.loads(world.lab.curl(url).stdout)["region"] == r, 10
        )
        assert answered
        assert [world.region(service) for service in others] == [EAST] * len(others)


@pytest.mark.semantics(79)
def test_all_four_positions(world: Operated) -> None:
    for east, west, answer in ((1, 0, WEST), (1, 1, EAST), (0, 1, EAST), (0, 0, EAST)):
        everywhere = [(service, EAST, east) for service in SWITCHED]
        world.set(*everywhere, *((service, WEST, west) for service, _, _ in everywhere))

        def agree(east: int = east, west: int = west) -> bool:
            """Route 53 knows of both positions: what DNS answers now, it answers for good."""
            healthy = {WEST: not east, EAST: not west}  # a region is taken over from the other
            return all(c["healthy"] is healthy[region] for (_, region), c in world.checks().items())

        assert wait_for(agree, 10), (east, west)
        for service in SWITCHED:
            assert world.leads(service, answer, 3), (service, east, west)


@pytest.mark.semantics(75, 79)
def test_a_killed_region_loses_what_moves_by_itself_and_gets_it_back(world: Operated) -> None:
    assert world.lab.lab("fault", "region", EAST, "kill").returncode == 0
    for service in AUTOMATIC:
        assert world.leads(service, WEST)
    assert [world.region(service) for service in (ARC, ALARM, "api")] == [EAST] * 3
    assert world.lab.lab("fault", "region", EAST, "restore").returncode == 0
    for service in AUTOMATIC:
        assert world.leads(service, EAST)


@pytest.mark.semantics(76)
@pytest.mark.parametrize(("fault", "end"), [("hang", "resume"), ("cut", "heal")])
def test_a_region_that_hangs_or_is_cut_off_as_well(
    world: Operated, fault: str, end: str
) -> None:
    world.set((ALARM, WEST, 1.0))  # lies in the region that suffers
    assert world.lab.lab("fault", "region", EAST, fault).returncode == 0
    for service in AUTOMATIC:
        assert world.leads(service, WEST)

    def silent() -> bool:
        check = world.checks()[ALARM, EAST]
        return bool(check["alarm"]["now"] == "INSUFFICIENT_DATA") and not check["healthy"]

    assert wait_for(silent, 10), "the last known position holds"
    assert world.lab.lab("fault", "region", EAST, end).returncode == 0
    for service in AUTOMATIC:
        assert world.leads(service, EAST)


@pytest.mark.semantics(79)
def test_what_is_held_stays_whatever_the_primary_s_health(world: Operated) -> None:
    world.set((FAILOVER, EAST, 1.0))
    assert world.leads(FAILOVER, WEST)
    assert world.lab.lab("fault", "region", EAST, "kill").returncode == 0
    assert world.leads(WEIGHTED, WEST)
    assert world.lab.lab("fault", "region", EAST, "restore").returncode == 0
    assert world.leads(WEIGHTED, EAST)
    assert world.region(FAILOVER) == WEST


@pytest.mark.semantics(79)
def test_the_standby_takes_over_while_the_primary_is_dead(world: Operated) -> None:
    assert world.lab.lab("fault", "region", EAST, "kill").returncode == 0
    world.set((ALARM, EAST, 1.0))
    assert world.leads(ALARM, WEST, 3)


@pytest.mark.semantics(72, 77)
def test_positions_outlive_route_53_and_the_whole_lab(world: Operated) -> None:
    world.set((ALARM, EAST, 1.0), (FAILOVER, EAST, 1.0))
    options = ("--topology", json.loads((world.lab.directory / "settings.json").read_text())
               ["topology_file"])  # fmt: skip
    os.kill(world.lab.face["pids"]["global"], signal.SIGKILL)
    start_lab(world.lab.directory, *options)
    assert (world.region(ALARM), world.region(FAILOVER)) == (WEST, WEST)
    assert world.lab.lab("down").returncode == 0
    start_lab(world.lab.directory, *options)
    assert (world.region(ALARM), world.region(FAILOVER)) == (WEST, WEST)
    assert world.state(ALARM, EAST) == "ALARM"
    assert world.region(WEIGHTED) == EAST


@pytest.mark.semantics(76)
def test_cloudwatch_alone_can_be_down(world: Operated) -> None:
    world.set((ALARM, EAST, 1.0))
    assert world.leads(ALARM, WEST)
    assert world.lab.lab("fault", "cloudwatch", WEST, "down").returncode == 0
    with pytest.raises(EndpointConnectionError):
        world.publish(ALARM, EAST, 0.0)
    assert f"{WEST}: CloudWatch down" in world.lab.lab("status").stdout
    assert world.region(ALARM) == WEST
    assert world.lab.lab("fault", "cloudwatch", WEST, "up").returncode == 0
    assert world.state(ALARM, EAST) == "ALARM"


@pytest.mark.semantics(79)
def test_a_lab_without_a_cluster(
    make_lab: Callable[..., RunningLab], tmp_path: Path
) -> None:
    topology = write_topology(tmp_path / "topology", WITHOUT_ARC)
    lab = make_lab("--topology", str(topology))
    world = Operated(lab)
    assert (lab.face["arc_endpoints"], lab.recovery["cluster_endpoints"]) == ([], [])
    assert not (lab.directory / "state" / "arc.json").exists()
    world.set(("service1", EAST, 1.0))
    assert world.leads("service1", WEST, 3)
    assert world.region("api") == EAST
    world.set(("api", EAST, 1.0))
    assert world.leads("api", WEST, 3)
    status = lab.lab("status")
    assert (status.returncode, "routing controls" in status.stdout) == (0, False)
    assert "example-test-service1-from-us-east-1" in status.stdout
    refused = lab.lab("fault", "arc", EAST, "refuse")
    assert (refused.returncode, "no cluster" in refused.stderr) == (4, True)
    assert lab.lab("fault", "clear").returncode == 0
    assert world.region("service1") == WEST, "a position is no fault"


def test_a_lab_without_alarms_has_no_cloudwatch(lab: RunningLab) -> None:
    assert all("cloudwatch" not in region for region in lab.face["regions"].values())
    refused = lab.lab("fault", "cloudwatch", EAST, "down")
    assert (refused.returncode, "switched by alarms" in refused.stderr) == (4, True)
