"""One gateway: host names, integrations with functions, limits, authorizers, faults."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
from apigateway_support import (
    API_HOST,
    EAST,
    POOL_ARN,
    WEST,
    TwoRegions,
    client_ssl,
    two_regions,
)

from lab.apigateway import Authorization, Refusal
from lab.lambda_runtime import InvokeResult

SERVICE1 = "service1.example.test"


@pytest.fixture
async def lab() -> AsyncIterator[TwoRegions]:
    async with two_regions() as running:
        yield running


@pytest.mark.semantics(54)
async def test_host_picks_the_domain_in_each_region(lab: TwoRegions) -> None:
    for host, function in ((SERVICE1, "service1"), ("service2.example.test", "service2")):
        for address, region in ((EAST, "us-east-1"), (WEST, "us-west-2")):
            answer = await lab.request("/", host=host, address=address)
            assert (answer.status, answer.region) == (200, region)
            assert answer.json["function"] == function


@pytest.mark.semantics(54)
@pytest.mark.parametrize("host", ["nowhere.example.test", "127.0.1.10", "example.test:443"])
async def test_unknown_host_is_forbidden(lab: TwoRegions, host: str) -> None:
    answer = await lab.request("/", host=host)
    assert (answer.status, answer.json) == (403, {"message": "Forbidden"})
    assert answer.headers["x-amzn-ErrorType"] == "ForbiddenException"


@pytest.mark.semantics(57)
async def test_default_endpoint_only_where_it_is_enabled(lab: TwoRegions) -> None:
    suffix = ".execute-api.us-east-1.amazonaws.com"
    disabled = await lab.request("/live/", host="external00" + suffix)
    assert (disabled.status, disabled.json) == (403, {"message": "Forbidden"})
    enabled = await lab.request("/api/x", host="service1" + suffix)
    assert enabled.json["event"]["path"] == "/x"
    assert enabled.json["event"]["requestContext"]["path"] == "/api/x"


async def test_unknown_route_misses_a_token(lab: TwoRegions) -> None:
    for method, path in (("GET", "/nope"), ("POST", "/")):
        answer = await lab.request(path, method=method)
        assert (answer.status, answer.json) == (403, {"message": "Missing Authentication Token"})
        error_type = answer.headers["x-amzn-ErrorType"]
        assert error_type == "MissingAuthenticationTokenException"


async def test_every_answer_has_its_ids(lab: TwoRegions) -> None:
    answers = [await lab.request("/", host=SERVICE1), await lab.request("/nope")]
    for answer in answers:
        assert answer.headers["x-amz-apigw-id"]
        assert answer.headers["X-Amzn-Trace-Id"].startswith("Root=1-")
        assert "Server" not in answer.headers
    event = answers[0].json["event"]
    assert event["requestContext"]["requestId"] == answers[0].headers["x-amzn-RequestId"]
    assert event["headers"]["X-Amzn-Trace-Id"] == answers[0].headers["X-Amzn-Trace-Id"]
    assert lab.functions["us-east-1"].traces == [answers[0].headers["X-Amzn-Trace-Id"]]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_method_and_body_reach_the_function(lab: TwoRegions, method: str) -> None:
    answer = await lab.request("/x?q=1", host=SERVICE1, method=method, data="ü".encode())
    event = answer.json["event"]
    assert (event["httpMethod"], event["body"], event["path"]) == (method, "ü", "/x")


async def test_chunked_body_and_expectation(lab: TwoRegions) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    headers = {"Expect": "100-continue"}
    answer = await lab.request("/x", host=SERVICE1, method="POST", data=parts(), headers=headers)
    assert answer.json["event"]["body"] == "one two"


async def test_head_has_no_body(lab: TwoRegions) -> None:
    answer = await lab.request("/x", host=SERVICE1, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


async def test_mock_answers_the_preflight(lab: TwoRegions) -> None:
    answer = await lab.request("/", host=SERVICE1, method="OPTIONS")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert (await lab.request("/")).status == 200


@pytest.mark.parametrize("path", ["/ping", "/sping"])
async def test_reserved_paths_tell_the_services_health(lab: TwoRegions, path: str) -> None:
    assert (await lab.request(path)).body == b"healthy"


# --- limits


async def test_too_large_a_body_is_413(lab: TwoRegions) -> None:
    too_large = io.BytesIO(bytes(10_485_761))
    answer = await lab.request("/x", host=SERVICE1, method="POST", data=too_large)
    assert answer.status == 413
    assert answer.json == {"message": "HTTP content length exceeded 10485760 bytes."}


async def test_too_large_a_head_is_431(lab: TwoRegions) -> None:
    answer = await lab.request("/x", host=SERVICE1, headers={"X-Long": "x" * 10_300})
    assert answer.status == 431


async def raw_exchange(lab: TwoRegions, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(
        EAST, lab.port, ssl=client_ssl(), server_hostname=API_HOST
    )
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_garbage_is_400(lab: TwoRegions) -> None:
    answer = await raw_exchange(lab, b"what is this\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_wish_for_another_protocol_is_ignored(lab: TwoRegions) -> None:
    head = b"Host: service1.example.test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    answer = await raw_exchange(lab, b"GET /x HTTP/1.1\r\n" + head)
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_pipelined_requests_are_answered_in_order(lab: TwoRegions) -> None:
    one = b"GET /%d HTTP/1.1\r\nHost: service1.example.test\r\n%b\r\n"
    sent = b"".join(one % (n, b"Connection: close\r\n" if n == 19 else b"") for n in range(20))
    answer = await raw_exchange(lab, sent)
    bodies = answer.split(b"\r\n\r\n")[1:]
    documents = [json.JSONDecoder().raw_decode(body.decode())[0] for body in bodies]
    paths = [document["event"]["path"] for document in documents]
    assert paths == [f"/{n}" for n in range(20)]


# --- functions that do not behave


@pytest.mark.parametrize(
    ("result", "status", "message"),
    [
        (InvokeResult(200, b'{"errorMessage": "x"}', "Unhandled"), 502, "Internal server error"),
        (InvokeResult(200, b'{"not": "a proxy answer"}'), 502, "Internal server error"),
        (InvokeResult(429, b"{}"), 500, "Internal server error"),
        (InvokeResult(404, b"{}"), 500, "Internal server error"),
        (InvokeResult(413, b"{}"), 413, "Request Too Long"),
    ],
)
async def test_function_failures(
    lab: TwoRegions, result: InvokeResult, status: int, message: str
) -> None:
    lab.functions["us-east-1"].answers["service1"] = lambda event: result
    answer = await lab.request("/", host=SERVICE1)
    assert (answer.status, answer.json) == (status, {"message": message})


async def test_function_slower_than_the_integration_is_504(lab: TwoRegions) -> None:
    async def never(event: Mapping[str, Any]) -> InvokeResult:
        await asyncio.Event().wait()
        raise AssertionError

    lab.functions["us-east-1"].answers["service1"] = never
    answer = await lab.request("/", host=SERVICE1)
    assert (answer.status, answer.json) == (504, {"message": "Endpoint request timed out"})


# --- authorizers


class Tokens:
    """Knows one token."""

    async def authorize(
        self, authorization: Authorization, token: str
    ) -> Mapping[str, Any] | Refusal:
        assert authorization.provider_arns == (POOL_ARN,)
        assert authorization.scopes == ("api/read",)
        if token == "Bearer old":
            return Refusal("The incoming token has expired")
        return {"sub": "me"} if token == "Bearer good" else Refusal()


async def test_protected_method_without_an_authorizer_lets_nobody_in(lab: TwoRegions) -> None:
    headers = {"Authorization": "Bearer good"}
    answer = await lab.request("/private", host=SERVICE1, headers=headers)
    assert answer.status == 500
    assert answer.headers["x-amzn-ErrorType"] == "AuthorizerConfigurationException"
    assert lab.functions["us-east-1"].traces == []


async def test_authorizer_decides() -> None:
    async with two_regions(authorizer=Tokens()) as lab:
        for token, message in (
            (None, "Unauthorized"),
            ("Bearer bad", "Unauthorized"),
            ("Bearer old", "The incoming token has expired"),
        ):
            headers = {} if token is None else {"Authorization": token}
            answer = await lab.request("/private", host=SERVICE1, headers=headers)
            assert (answer.status, answer.json) == (401, {"message": message})
        headers = {"Authorization": "Bearer good"}
        answer = await lab.request("/private", host=SERVICE1, headers=headers)
        context = answer.json["event"]["requestContext"]
        assert context["authorizer"] == {"claims": {"sub": "me"}}


# --- bad days and the end


async def test_cut_refuses_and_breaks_connections(lab: TwoRegions) -> None:
    begun = asyncio.Event()

    async def never(event: Mapping[str, Any]) -> InvokeResult:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    lab.functions["us-east-1"].answers["service1"] = never
    under_way = asyncio.create_task(lab.request("/", host=SERVICE1))
    await asyncio.wait_for(begun.wait(), 5)
    await lab.gateways["us-east-1"].set_cut(True)
    with pytest.raises(aiohttp.ClientError):
        await under_way
    with pytest.raises(aiohttp.ClientConnectorError):
        await lab.request("/")
    assert (await lab.request("/", address=WEST)).status == 200
    await lab.gateways["us-east-1"].set_cut(False)
    assert (await lab.request("/")).status == 200


async def test_closing_lets_requests_in_flight_end(lab: TwoRegions) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    functions = lab.functions["us-east-1"]

    async def wait(event: dict[str, Any]) -> InvokeResult:
        begun.set()
        await go_on.wait()
        return functions.echo("service1", event)

    functions.answers["service1"] = wait
    under_way = asyncio.create_task(lab.request("/", host=SERVICE1))
    await asyncio.wait_for(begun.wait(), 5)
    closing = asyncio.create_task(lab.gateways["us-east-1"].close())
    await asyncio.sleep(0)
    go_on.set()
    answer = await under_way
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    await asyncio.wait_for(closing, 5)


async def test_status_counts(lab: TwoRegions) -> None:
    await lab.request("/", host=SERVICE1)
    await lab.request("/nope")
    status = lab.gateways["us-east-1"].status()
    assert status["requests"] == 2
    assert status["by_status"] == {"200": 1, "403": 1}
    assert status["integrations"]["lambda"]["count"] == 1
    assert API_HOST in status["hosts"]


async def test_binary_answer(lab: TwoRegions) -> None:
    answer = {"statusCode": 200, "isBase64Encoded": True, "body": base64.b64encode(b"x").decode()}
    result = InvokeResult(200, json.dumps(answer).encode())
    lab.functions["us-east-1"].answers["service1"] = lambda event: result
    assert (await lab.request("/", host=SERVICE1)).body == b"eA=="  # no binary media types
