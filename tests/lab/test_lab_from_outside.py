"""The lab as a stranger drives it: with `lab.json`, aws, dig and curl, nothing of the project."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import BIN, RunningLab

pytestmark = pytest.mark.lab


def entries(*pairs: tuple[str, str]) -> str:
    return json.dumps(
        [{"RoutingControlArn": arn, "RoutingControlState": state} for arn, state in pairs]
    )


def aws_update(lab: RunningLab, endpoint: dict[str, str], *pairs: tuple[str, str]) -> Any:
    return lab.run(
        str(BIN / "aws"),
        "route53-recovery-cluster",
        "update-routing-control-states",
        "--update-routing-control-state-entries",
        entries(*pairs),
        "--region",
        endpoint["region"],
        "--endpoint-url",
        endpoint["url"],
    )


def controls(lab: RunningLab, service: str) -> tuple[str, str]:
    first, second = lab.recovery["regions"]
    routing = lab.recovery["services"][service]["routing_controls"]
    return routing[first], routing[second]


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_lab_json_has_the_documented_shape(lab: RunningLab) -> None:
    face = lab.face
    assert face.keys() >= {
        "domain", "api_url", "ca_file", "nameserver", "regions", "arc_endpoints",
        "recovery_file", "tokens", "pids",
    }  # fmt: skip
    assert len(face["arc_endpoints"]) == 5
    for region in face["regions"].values():
        assert region.keys() >= {"address", "pids", "pinned"}
        assert region["pids"]
    recovery = lab.recovery
    assert recovery["version"] == 1
    assert recovery["regions"] == list(face["regions"])
    assert set(recovery["services"]) == {*recovery["services"], "api"}
    for service in recovery["services"].values():
        assert service.keys() >= {
            "host", "control_panel", "routing_controls", "safety_rules", "pinned",
        }  # fmt: skip


def test_primaries_are_on_after_start(lab: RunningLab) -> None:
    for service, entry in lab.recovery["services"].items():
        first = lab.recovery["regions"][0]
        address = lab.face["regions"][first]["address"]
        assert lab.dig(entry["host"]) == [address], service


def test_every_region_answers_on_its_pinned_names(lab: RunningLab) -> None:
    for region, entry in lab.face["regions"].items():
        for service in ("health", "service1", "service2"):
            answer = lab.curl(entry["pinned"][service] + "/")
            assert answer.returncode == 0, answer.stderr
            body = json.loads(answer.stdout)
            assert (body["service"], body["region"]) == (service, region)


@pytest.mark.semantics(59, 60)
def test_aws_cli_moves_service1_and_nothing_else_and_back(lab: RunningLab) -> None:
    first, second = lab.recovery["regions"]
    on_first, on_second = controls(lab, "service1")
    endpoint = next(e for e in lab.face["arc_endpoints"] if e["region"] == "ap-southeast-2")
    others = ("service2", "health", "api")
    before = {name: lab.dig(lab.recovery["services"][name]["host"]) for name in others}
    url = lab.face["api_url"]

    for off, on, target in ((on_first, on_second, second), (on_second, on_first, first)):
        done = aws_update(lab, endpoint, (off, "Off"), (on, "On"))
        assert done.returncode == 0, done.stderr
        address = [lab.face["regions"][target]["address"]]
        host = lab.recovery["services"]["service1"]["host"]
        assert wait_for(lambda h=host, a=address: lab.dig(h) == a, 5)  # type: ignore[misc]
        assert lab.dig(host, "AAAA") == [f"::ffff:{address[0]}"]

        def moved(target: str = target) -> bool:
            body = json.loads(lab.curl(f"{url}/service1/").stdout)
            return bool(body == {"service": "service1", "region": target})

        assert wait_for(moved, 10)
        assert {n: lab.dig(lab.recovery["services"][n]["host"]) for n in others} == before
        assert json.loads(lab.curl(f"{url}/service2/").stdout)["region"] == first


def test_a_client_with_ipv6_reaches_the_same_region(lab: RunningLab) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    (address,) = lab.dig(lab.recovery["services"]["service1"]["host"], "AAAA")
    context = ssl.create_default_context(cafile=lab.face["ca_file"])
    name = f"service1.{lab.face['domain']}"
    with socket.socket(socket.AF_INET6) as plain:
        plain.settimeout(5)
        plain.connect((address, 8443))
        with context.wrap_socket(plain, server_hostname=name) as connection:
            request = f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200")


def test_both_off_is_refused_by_name_on_every_endpoint(lab: RunningLab) -> None:
    on_first, on_second = controls(lab, "service1")
    for endpoint in lab.face["arc_endpoints"]:
        done = aws_update(lab, endpoint, (on_first, "Off"), (on_second, "Off"))
        assert done.returncode != 0
        assert "ConflictException" in done.stderr
        assert "service1-at-least-one" in done.stderr


def test_what_a_request_carries_survives_both_gateways(lab: RunningLab) -> None:
    url = lab.face["api_url"]
    answer = lab.curl(
        f"{url}/service1/echo?a=1&a=2&b=x%20y",
        "--request", "PATCH", "--header", "Authorization: Bearer abc.def",
        "--header", "Content-Type: application/json", "--data", '{"k": "ä"}',
    )  # fmt: skip
    echoed = json.loads(answer.stdout)
    assert echoed["method"] == "PATCH"
    assert echoed["query"] == {"a": ["1", "2"], "b": ["x y"]}
    assert "ä" in json.dumps(echoed, ensure_ascii=False)
    assert "Bearer" in json.dumps(echoed["headers"])
    assert "abc.def" not in answer.stdout


def test_unknown_host_is_forbidden(lab: RunningLab) -> None:
    address = next(iter(lab.face["regions"].values()))["address"]
    context = ssl.create_default_context(cafile=lab.face["ca_file"])
    name = f"nosuch.{lab.face['domain']}"
    with (
        socket.create_connection((address, 8443), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 403")
