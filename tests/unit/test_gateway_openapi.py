"""The external API's document."""

from types import MappingProxyType
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.openapi import render
from infra.topology import Service, Topology
from lab.apigateway.definition import HttpProxy, read_api

ANY = "x-amazon-apigateway-any-method"
INTEGRATION = "x-amazon-apigateway-integration"
REGIONS = ("us-east-1", "us-west-2")


def topology(*names: str) -> Topology:
    services = MappingProxyType({name: Service(name) for name in names})
    return Topology("example.test", REGIONS, services)


def integration(document: dict[str, Any], path: str) -> dict[str, Any]:
    found = document["paths"][path][ANY][INTEGRATION]
    assert isinstance(found, dict)
    return found


def test_a_service_has_its_root_and_everything_below() -> None:
    document = render(topology("service1"))
    assert list(document["paths"]) == ["/service1", "/service1/{proxy+}"]
    root = integration(document, "/service1")
    below = integration(document, "/service1/{proxy+}")
    assert root["uri"] == "https://service1.example.test/"
    assert "requestParameters" not in root
    assert below["uri"] == "https://service1.example.test/{proxy}"
    assert below["requestParameters"] == {
        "integration.request.path.proxy": "method.request.path.proxy"
    }
    for one in (root, below):
        assert (one["type"], one["httpMethod"]) == ("http_proxy", "ANY")
        assert one["timeoutInMillis"] == 5000
    declared = document["paths"]["/service1/{proxy+}"][ANY]["parameters"]
    assert declared == [
        {"name": "proxy", "in": "path", "required": True, "schema": {"type": "string"}}
    ]


def test_bodies_are_bytes() -> None:
    document = render(topology("service1"))
    assert document["x-amazon-apigateway-binary-media-types"] == ["*/*"]


def test_nothing_asks_for_authorization_here() -> None:
    text = str(render(topology("service1", "todo")))
    assert "security" not in text
    assert "Authorization" not in text


def test_the_caller_may_change_what_he_gets() -> None:
    first = render(topology("service1"))
    integration(first, "/service1")["uri"] = "changed"
    first["info"]["title"] = "changed"
    second = render(topology("service1"))
    assert integration(second, "/service1")["uri"] == "https://service1.example.test/"
    assert second["info"]["title"] != "changed"


names = st.lists(
    st.from_regex(r"[a-z][a-z0-9-]{0,10}[a-z0-9]", fullmatch=True),
    min_size=1,
    max_size=8,
    unique=True,
)


@given(names)
@settings(max_examples=30, deadline=None)
def test_every_service_goes_to_its_failover_name_and_never_to_a_region(given: list[str]) -> None:
    document = render(topology(*given))
    assert len(document["paths"]) == 2 * len(given)
    for name in given:
        for path in (f"/{name}", f"/{name}/{{proxy+}}"):
            assert integration(document, path)["uri"].startswith(f"https://{name}.example.test/")
    text = str(document["paths"])
    assert not any(region in text for region in REGIONS)
    assert "SERVICE" not in text
    assert "HOST" not in text


def test_api_gateway_routes_it_as_meant() -> None:
    api = read_api("abc", render(topology("service1", "service2")))
    for path, pieces in (("/service1", ("/",)), ("/service2/a/b", ("/", "proxy", ""))):
        match = api.router.match(path)
        assert match is not None
        method = match[0].method("POST")
        assert method is not None
        found = method.integration
        assert isinstance(found, HttpProxy)
        assert (found.host, found.port, found.path) == (f"{path[1:9]}.example.test", 443, pieces)
        assert found.timeout == 5.0
