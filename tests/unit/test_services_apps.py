"""health, service1 and service2: their routes and their configuration."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from services_support import SERVICES, call, loaded

from infra.topology import load_topology

NAMES = ("health", "service1", "service2")
TOPOLOGY = load_topology(Path(__file__).resolve().parents[2] / "topology.toml")


@pytest.mark.parametrize("name", ["service1", "service2"])
@pytest.mark.parametrize("region", TOPOLOGY.regions)
def test_the_root_says_which_service_and_region(name: str, region: str) -> None:
    with loaded(name, AWS_REGION=region) as app:
        assert call(app) == (200, {"X-Region": region}, {"service": name, "region": region})


def test_services_that_share_a_folder_keep_their_names() -> None:
    with loaded("service1", SERVICE_NAME="orders") as app:
        assert call(app)[2] == {"service": "orders", "region": "us-east-1"}


# --- service1


def echo(app: Any, method: str = "POST", **kwargs: Any) -> dict[str, Any]:
    status, headers, body = call(app, "/echo", method, **kwargs)
    assert (status, headers["X-Region"]) == (200, "us-east-1")
    return body


@pytest.mark.parametrize("method", ["DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"])
def test_echo_answers_every_method(method: str) -> None:
    with loaded("service1") as app:
        assert echo(app, method)["method"] == method


def test_echo_shows_all_values_and_no_credentials() -> None:
    with loaded("service1") as app:
        body = echo(
            app,
            headers={"authorization": ["Bearer a.b.c"], "X-Twice": ["1", "2"]},
            query={"a": ["1", "2"]},
        )
    assert body["query"] == {"a": ["1", "2"]}
    digest = hashlib.sha256(b"a.b.c").hexdigest()
    assert body["headers"] == {
        "authorization": [f"Bearer sha256:{digest}"], "X-Twice": ["1", "2"],
    }  # fmt: skip
    assert "a.b.c" not in json.dumps(body)


@given(credentials=st.text("abcXYZ019-._~+/= ", min_size=12, max_size=60).map(str.strip))
@settings(max_examples=30, deadline=None)
def test_echo_never_shows_credentials(credentials: str) -> None:
    with loaded("service1") as app:
        shown = echo(app, headers={"Authorization": [f"Bearer {credentials}"]})
    if len(token := credentials.rpartition(" ")[2]) > 4:
        assert token not in shown["headers"]["Authorization"][0].removeprefix("Bearer ")


@given(raw=st.binary(max_size=40))
@settings(max_examples=30, deadline=None)
def test_echo_gives_any_body_back(raw: bytes) -> None:
    encoded = base64.b64encode(raw).decode()
    with loaded("service1") as app:
        body = echo(
            app,
            headers={"Content-Type": ["application/octet-stream"]},
            body=encoded,
            is_base64=True,
        )
    back = body["body"].encode() if "body" in body else base64.b64decode(body["body_base64"])
    assert back == raw


# --- service2


def slow(app: Any, milliseconds: str) -> tuple[int, dict[str, str], Any]:
    return call(
        app,
        f"/slow/{milliseconds}",
        resource="/slow/{milliseconds}",
        parameters={"milliseconds": milliseconds},
    )


def test_slow_takes_that_long() -> None:
    with loaded("service2") as app:
        waited: list[float] = []
        app.routes["/slow/{milliseconds}"]["GET"].view_function.__globals__["time"] = Clock(waited)
        status, _, body = slow(app, "15000")
    assert (status, body["milliseconds"], waited) == (200, 15_000, [15.0])


class Clock:
    def __init__(self, waited: list[float]) -> None:
        self.sleep = waited.append


@given(st.text(max_size=8).filter(lambda t: not (t.isascii() and t.isdigit())) | st.just("15001"))
@settings(max_examples=40, deadline=None)
def test_slow_refuses_anything_else(text: str) -> None:
    with loaded("service2") as app:
        status, _, body = slow(app, text)
    assert (status, body["title"]) == (400, "Bad Request")


# --- health


def test_the_shallow_check_depends_on_nothing() -> None:
    with loaded("health", DEPENDENCIES='{"a": "https://a.invalid"}') as app:
        assert call(app)[2] == {"service": "health", "region": "us-east-1", "status": "ok"}


def test_the_deep_check_of_nothing_is_healthy() -> None:
    with loaded("health") as app:
        assert call(app, "/deep")[2] == {
            "service": "health", "region": "us-east-1", "status": "ok", "checks": {},
        }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("{", ["not JSON"]),
        ("[]", ["a JSON object"]),
        (
            '{"a": "http://a", "b": 1, "c": {"url": "https://c", "port": 1}, "d": "https://[d"}',
            [
                "a: 'http://a' is not an https URL",
                "b: 1 is not",
                "c: give a URL",
                "d: 'https://[d'",
            ],
        ),
    ],
)
def test_a_wrong_list_of_dependencies_stops_the_start(text: str, faults: list[str]) -> None:
    with (
        pytest.raises(ValueError, match="DEPENDENCIES") as raised,
        loaded("health", DEPENDENCIES=text),
    ):
        pass
    assert all(fault in str(raised.value) for fault in faults)


@pytest.mark.parametrize("name", ["service1", "service2"])
def test_a_service_that_needs_nothing_is_well_in_depth(name: str) -> None:
    with loaded(name) as app:
        status, headers, body = call(app, "/deep")
    assert (status, headers["Cache-Control"], headers["X-Region"]) == (200, "no-store", "us-east-1")
    assert body == {"service": name, "region": "us-east-1", "checks": {}, "status": "ok"}


# --- configuration


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_is_what_chalice_reads(name: str) -> None:
    config = json.loads((SERVICES / name / ".chalice" / "config.json").read_text())
    assert config["version"] == "2.0"
    assert config["app_name"] == name
    assert config["xray"] is True
    assert config["autogen_policy"] is False
    assert "log_retention_in_days" not in config  # breaks the template of the API's handler
    assert set(config["stages"]) == set(TOPOLOGY.regions)
    for region, stage in config["stages"].items():
        assert stage["api_gateway_endpoint_type"] == "REGIONAL"
        environment = config["environment_variables"] | stage["environment_variables"]
        assert environment["SERVICE_NAME"] == name
        assert all(isinstance(value, str) for value in environment.values())
        siblings = json.loads(environment.get("DEPENDENCIES", "{}"))
        assert all(f".{region}." in url for url in siblings.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_policy_allows_logs_and_traces_only(name: str) -> None:
    policy = json.loads((SERVICES / name / ".chalice" / "policy.json").read_text())
    logs, traces = policy["Statement"]
    assert all(action.startswith("logs:") for action in logs["Action"])
    assert all(f"/aws/lambda/{name}-" in resource for resource in logs["Resource"])
    assert traces["Action"] == ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]


@pytest.mark.parametrize("name", NAMES)
def test_a_service_stays_within_the_outer_time_out_unless_it_means_to(name: str) -> None:
    config = json.loads((SERVICES / name / ".chalice" / "config.json").read_text())
    assert (config["lambda_timeout"] < 5) is (name != "service2")
