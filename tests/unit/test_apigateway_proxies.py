"""The request of the HTTP proxy integration, the event and the answer of the Lambda one."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import pytest
from chalice import Chalice
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.apigateway.call import Call
from lab.apigateway.definition import Api, HttpProxy, LambdaProxy, Method
from lab.apigateway.domains import Stage, Target
from lab.apigateway.http_proxy import encode_request, target_of
from lab.apigateway.lambda_proxy import event_document, proxy_event, read_answer
from lab.apigateway.responses import Refused
from lab.apigateway.routes import ANY, Resource, Router
from lab.http1 import Headers

PROXY = HttpProxy(
    is_tls=True,
    host="service1.example.test",
    port=443,
    path=("/", "proxy", ""),
    query="",
    method=ANY,
    timeout=3.0,
    path_parameters={"proxy": "method.request.path.proxy"},
    headers={},
    querystring={},
)
LAMBDA = LambdaProxy("arn:aws:lambda:us-east-1:111122223333:function:f", 29.0)


def call(
    resource: str,
    path: str,
    *,
    query: str = "",
    http_method: str = "GET",
    headers: Headers | None = None,
    body: bytes = b"",
    integration: HttpProxy | LambdaProxy = LAMBDA,
    base: str = "",
    is_custom: bool = True,
    binary_types: frozenset[str] = frozenset(),
    authorizer: dict[str, Any] | None = None,
) -> Call:
    method = Method(ANY, resource, integration, None)
    router = Router((Resource(resource, {ANY: method}),))
    api = Api("abcdefghij", "t", router, binary_types)
    found = router.match(path)
    assert found is not None
    return Call(
        region="us-east-1",
        http_method=http_method,
        path=base + path,
        query=query,
        headers=headers or [(b"Host", b"service1.example.test:8443"), (b"user-agent", b"t/1")],
        body=body,
        peer="127.0.0.9",
        port=8443,
        host="service1.example.test",
        now=1_700_000_000.25,
        request_id="5a7e7a41-0000-4000-8000-000000000000",
        extended_request_id="abc=",
        trace_root="1-6553f100-000000000000000000000000",
        target=Target(Stage(api, "api", {}), path, base, is_custom),
        method=method,
        path_parameters=found[1],
        authorizer=authorizer,
    )


# --- HTTP proxy


@pytest.mark.semantics(55)
@pytest.mark.parametrize(
    ("path", "query", "target"),
    [
        ("/service1/a/b", "", "/a/b"),
        ("/service1/a%2Fb", "", "/a/b"),
        ("/service1/a%20b/%C3%A4", "x=1&x=2", "/a%20b/%C3%A4?x=1&x=2"),
        ("/service1/a", "q=a+b%26c&flag", "/a?q=a%20b%26c&flag="),
        ("/service1/100%25", "", "/100%25"),
    ],
)
def test_rest_of_path_and_query_go_on(path: str, query: str, target: str) -> None:
    given_call = call("/service1/{proxy+}", path, query=query, integration=PROXY)
    assert target_of(PROXY, given_call) == target


@given(st.text(min_size=1, max_size=12), st.lists(st.tuples(st.text(max_size=4), st.text())))
@settings(max_examples=100)
def test_values_survive_decoding_and_encoding(value: str, pairs: list[tuple[str, str]]) -> None:
    query = "&".join(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in pairs)
    path = "/service1/" + quote(value, safe="")
    target = target_of(PROXY, call("/service1/{proxy+}", path, query=query, integration=PROXY))
    new_path, _, new_query = target.partition("?")
    assert unquote(new_path[1:]) == value
    assert parse_qsl(new_query, keep_blank_values=True) == pairs


@pytest.mark.semantics(55)
def test_host_is_the_integrations_and_the_token_survives() -> None:
    given_call = call(
        "/service1/{proxy+}",
        "/service1/x",
        http_method="POST",
        headers=[
            (b"Host", b"api.example.test"),
            (b"Authorization", b"Bearer abc"),
            (b"Content-Length", b"2"),
            (b"X-Amzn-Trace-Id", b"Root=1-a-b"),
        ],
        body=b"{}",
        integration=PROXY,
    )
    head, _, body = encode_request(PROXY, given_call).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[:2] == [b"POST /x HTTP/1.1", b"Host: service1.example.test"]
    assert lines[2:] == [
        b"Authorization: Bearer abc",
        b"User-Agent: AmazonAPIGateway_abcdefghij",
        b"X-Forwarded-For: 127.0.0.9",
        b"X-Forwarded-Port: 8443",
        b"X-Forwarded-Proto: https",
        b"X-Amzn-Trace-Id: Root=1-6553f100-000000000000000000000000",
        b"x-amzn-apigateway-api-id: abcdefghij",
        b"Content-Length: 2",
    ]
    assert body == b"{}"


@pytest.mark.parametrize(
    ("content_type", "binary_types", "sent"),
    [
        (b"image/png", {"image/png"}, b"\xff"),
        (b"image/png", {"*/*"}, b"\xff"),
        (b"image/png", set(), "\ufffd".encode()),
        (b"text/plain", {"image/*"}, "\ufffd".encode()),
    ],
)
def test_only_binary_media_types_keep_their_bytes(
    content_type: bytes, binary_types: set[str], sent: bytes
) -> None:
    given_call = call(
        "/service1/{proxy+}",
        "/service1/x",
        http_method="POST",
        headers=[(b"Content-Type", content_type)],
        body=b"\xff",
        integration=PROXY,
        binary_types=frozenset(binary_types),
    )
    head, _, body = encode_request(PROXY, given_call).partition(b"\r\n\r\n")
    assert body == sent
    assert head.endswith(b"Content-Length: %d" % len(sent))


def test_mapped_header_can_not_smuggle_a_line() -> None:
    integration = replace(PROXY, headers={"X-From": "method.request.querystring.from"})
    given_call = call(
        "/service1/{proxy+}",
        "/service1/x",
        query="from=a%0D%0AX-Evil:%201",
        integration=integration,
    )
    assert b"\r\nx-from: a  X-Evil: 1\r\n" in encode_request(integration, given_call)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'fixed'", "fixed"),
        ("method.request.path.proxy", "x"),
        ("method.request.querystring.q", "2"),
        ("method.request.header.USER-agent", "t/1"),
        ("method.request.header.missing", None),
        ("context.domainName", "service1.example.test"),
        ("context.stage", "api"),
        ("context.identity.sourceIp", "127.0.0.9"),
        ("context.unknown", None),
    ],
)
def test_mapping_expressions(expression: str, value: str | None) -> None:
    given_call = call("/service1/{proxy+}", "/service1/x", query="q=1&q=2", integration=PROXY)
    assert given_call.evaluate(expression) == value


# --- Lambda proxy: the event


def chalice_app() -> Chalice:
    app = Chalice(app_name="t")

    @app.route("/")
    def index() -> dict[str, Any]:
        return {"query": app.current_request.query_params}

    @app.route("/x/{name}", methods=["GET", "POST"])
    def x(name: str) -> dict[str, Any]:
        request = app.current_request
        return {
            "name": name,
            "method": request.method,
            "uri": request.context["resourcePath"],
            "agent": request.headers["user-agent"],
            "queries": dict(request.to_dict()["query_params"] or {}),
            "all": request.query_params.getlist("q") if request.query_params else None,
            "json": request.json_body,
            "claims": request.context.get("authorizer", {}).get("claims"),
        }

    return app


def through_chalice(given_call: Call) -> tuple[int, Any]:
    answer = chalice_app()(json.loads(proxy_event(given_call)), None)
    response = read_answer(json.dumps(answer).encode(), None, frozenset())
    return response.status, json.loads(response.body)


def test_chalice_understands_the_event() -> None:
    status, body = through_chalice(
        call(
            "/x/{name}",
            "/x/a%20b",
            query="q=1&q=two%20words",
            http_method="POST",
            headers=[(b"User-Agent", b"t/1"), (b"Content-Type", b"application/json")],
            body=b'{"k": 1}',
            authorizer={"claims": {"sub": "s"}},
        )
    )
    assert status == 200
    assert body == {
        "name": "a b",
        "method": "POST",
        "uri": "/x/{name}",
        "agent": "t/1",
        "queries": {"q": "two words"},
        "all": ["1", "two words"],
        "json": {"k": 1},
        "claims": {"sub": "s"},
    }
    assert through_chalice(call("/", "/")) == (200, {"query": None})


def test_event_has_the_documented_form() -> None:
    event = event_document(
        call(
            "/x/{name}",
            "/x/1",
            query="a=1&a=2",
            base="/v1",
            headers=[(b"x-a", b"1"), (b"X-A", b"2"), (b"Connection", b"close")],
        )
    )
    assert event["resource"] == "/x/{name}"
    assert event["path"] == "/v1/x/1"
    assert event["headers"] == {
        "x-a": "2",
        "X-Forwarded-For": "127.0.0.9",
        "X-Forwarded-Port": "8443",
        "X-Forwarded-Proto": "https",
        "X-Amzn-Trace-Id": "Root=1-6553f100-000000000000000000000000",
    }
    assert event["multiValueHeaders"]["x-a"] == ["1", "2"]
    assert event["queryStringParameters"] == {"a": "2"}
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"]}
    assert event["pathParameters"] == {"name": "1"}
    assert (event["body"], event["isBase64Encoded"]) == (None, False)
    context = event["requestContext"]
    assert context["path"] == "/v1/x/1"
    assert context["requestTime"] == "14/Nov/2023:22:13:20 +0000"
    assert context["requestTimeEpoch"] == 1_700_000_000_250
    assert context["identity"]["sourceIp"] == "127.0.0.9"
    assert context["domainName"] == "service1.example.test"
    assert "authorizer" not in context
    assert set(event) == {
        "resource", "path", "httpMethod", "headers", "multiValueHeaders",
        "queryStringParameters", "multiValueQueryStringParameters", "pathParameters",
        "stageVariables", "requestContext", "body", "isBase64Encoded",
    }  # fmt: skip


def test_nothing_is_null_and_the_default_endpoint_shows_its_stage() -> None:
    event = event_document(call("/", "/", base="/api", is_custom=False))
    assert event["queryStringParameters"] is None
    assert event["multiValueQueryStringParameters"] is None
    assert event["pathParameters"] is None
    assert event["stageVariables"] is None
    assert event["path"] == "/"
    assert event["requestContext"]["path"] == "/api/"


def test_binary_body_is_base64() -> None:
    given_call = call(
        "/",
        "/",
        headers=[(b"Content-Type", b"image/png; x=y")],
        body=b"\xff\x00",
        binary_types=frozenset({"image/png"}),
    )
    event = event_document(given_call)
    assert event["isBase64Encoded"] is True
    assert base64.b64decode(event["body"]) == b"\xff\x00"


# --- Lambda proxy: the answer


def answer(**given_answer: Any) -> bytes:
    return json.dumps(given_answer).encode()


def test_answer_is_passed_on() -> None:
    response = read_answer(
        answer(
            statusCode="201",
            headers={"X-A": "1", "X-B": True, "Content-Type": "text/plain"},
            multiValueHeaders={"x-a": ["2", "3"]},
            body="ä",
        ),
        None,
        frozenset(),
    )
    assert response.status == 201
    assert response.headers == [
        (b"X-B", b"true"),
        (b"Content-Type", b"text/plain"),
        (b"x-a", b"2"),
        (b"x-a", b"3"),
    ]
    assert response.body == "ä".encode()


def test_all_keys_are_optional() -> None:
    response = read_answer(b"{}", None, frozenset())
    assert (response.status, response.body) == (200, b"")
    assert response.headers == [(b"Content-Type", b"application/json")]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b'"text"',
        b"[]",
        b"not json",
        answer(statusCode="abc"),
        answer(statusCode=True),
        answer(statusCode=99),
        answer(statusCode=200, body={"not": "text"}),
        answer(statusCode=200, headers=["x"]),
        answer(statusCode=200, headers={"x": {"y": 1}}),
        answer(statusCode=200, headers={"x": "a\r\nSet-Cookie: b"}),
        answer(statusCode=200, multiValueHeaders={"x": "y"}),
        answer(statusCode=200, body="", cookies=[]),
    ],
)
def test_malformed_answer_is_502(payload: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read_answer(payload, None, frozenset())
    assert refused.value.response.status == 502
    assert refused.value.response.message == "Internal server error"


@pytest.mark.parametrize(
    ("accept", "body"), [(b"image/png", b"\xff"), (b"text/html", b"/w=="), (None, b"/w==")]
)
def test_binary_answer_needs_a_matching_accept(accept: bytes | None, body: bytes) -> None:
    payload = answer(statusCode=200, body="/w==", isBase64Encoded=True)
    assert read_answer(payload, accept, frozenset({"image/*"})).body == body
