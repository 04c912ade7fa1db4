"""What `lab up` asks before it says that the lab is up."""

from __future__ import annotations

from pathlib import Path

from infra.topology import Service, Topology, load_topology
from lab.readiness import questions

ROOT = Path(__file__).parents[2]
EAST = "us-east-1"


def asked(*services: Service) -> set[tuple[str, str]]:
    topology = Topology("example.test", (EAST, "us-west-2"), {s.name: s for s in services})
    return {(q.host.partition(".")[0], q.path) for q in questions(topology, EAST)}


def test_of_services_that_share_code_the_first_is_asked() -> None:
    assert asked(Service("a"), Service("b", code="a"), Service("c")) == {("a", "/"), ("c", "/")}


def test_a_service_that_moves_by_its_health_is_asked_for_what_route_53_will_ask() -> None:
    by_health = Service("b", code="a", switch="health", health_path="/well")
    assert asked(Service("a"), by_health) == {("a", "/"), ("b", "/well")}
    assert asked(Service("a", switch="health")) == {("a", "/"), ("a", "/deep")}


def test_redirects_will_do_for_a_checked_path_as_they_do_for_route_53() -> None:
    topology = load_topology(ROOT / "topology.toml")
    assert {q.good.stop for q in questions(topology, EAST)} == {201}
    checked = Topology("x.test", (EAST, "us-west-2"), {"a": Service("a", switch="health")})
    found = {q.path: q for q in questions(checked, EAST)}
    assert 302 in found["/deep"].good
    assert 302 not in found["/"].good
    assert found["/deep"].url == "https://a.us-east-1.x.test:8443/deep"
