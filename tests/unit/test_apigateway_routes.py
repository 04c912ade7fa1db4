"""Which resource a path belongs to."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.apigateway.routes import ANY, Resource, Router

ROUTER = Router(
    tuple(
        Resource(path, {ANY: path})
        for path in (
            "/",
            "/service1",
            "/service1/{proxy+}",
            "/todos",
            "/todos/{id}",
            "/todos/{id}/tags",
            "/todos/{id}/tags/{tag}",
            "/todos/recent",
            "/files/{name}/raw",
            "/files/{proxy+}",
        )
    )
)


@pytest.mark.parametrize(
    ("path", "resource", "parameters"),
    [
        ("/", "/", {}),
        ("", "/", {}),
        ("/service1", "/service1", {}),
        ("/service1/", "/service1", {}),
        ("/service1/a", "/service1/{proxy+}", {"proxy": "a"}),
        ("/service1/a/b/c", "/service1/{proxy+}", {"proxy": "a/b/c"}),
        ("/service1/a%20b/c", "/service1/{proxy+}", {"proxy": "a b/c"}),
        ("/service1//a", "/service1/{proxy+}", {"proxy": "/a"}),
        ("/todos/recent", "/todos/recent", {}),
        ("/todos/1", "/todos/{id}", {"id": "1"}),
        ("/todos/a%2Fb", "/todos/{id}", {"id": "a/b"}),
        ("/todos/recent/tags", "/todos/{id}/tags", {"id": "recent"}),
        ("/todos/1/tags/x", "/todos/{id}/tags/{tag}", {"id": "1", "tag": "x"}),
        ("/tod%6Fs/1", "/todos/{id}", {"id": "1"}),
        ("/files/a/raw", "/files/{name}/raw", {"name": "a"}),
        ("/files/a/other", "/files/{proxy+}", {"proxy": "a/other"}),
    ],
)
def test_most_specific_resource_is_found(
    path: str, resource: str, parameters: dict[str, str]
) -> None:
    found = ROUTER.match(path)
    assert found is not None
    assert (found[0].path, found[1]) == (resource, parameters)


@pytest.mark.parametrize("path", ["/service2", "/service11", "/todos/1/2", "/todos//tags", "/x/y"])
def test_unknown_path_is_not_found(path: str) -> None:
    assert ROUTER.match(path) is None


def test_named_method_comes_before_any() -> None:
    resource = Resource("/x", {"GET": 1, ANY: 2})
    assert (resource.method("GET"), resource.method("POST")) == (1, 2)
    assert Resource("/x", {"GET": 1}).method("POST") is None


segments = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4)


@given(segments)
@settings(max_examples=100)
def test_greedy_parameter_is_the_decoded_rest(parts: list[str]) -> None:
    found = ROUTER.match("/service1/" + "/".join(quote(p, safe="") for p in parts))
    assert found is not None
    assert found[1] == {"proxy": "/".join(parts)}
