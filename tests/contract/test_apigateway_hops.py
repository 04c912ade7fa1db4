"""From the external API to a service's own domain: what arrives, what fails, and who is asked."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
from apigateway_support import (
    EAST,
    PREFIX,
    SERVICES,
    WEST,
    TwoRegions,
    server_ssl,
    two_regions,
)

from lab.apigateway import ConnectionKnobs
from lab.lambda_runtime import InvokeResult

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def odd_endpoint(
    lab: TwoRegions, handler: Handler, certificate: trustme.LeafCert | None = None
) -> AsyncIterator[str]:
    """service1 answered by `handler` at an address of its own."""
    address = f"{PREFIX}.3.10"
    context = server_ssl() if certificate is None else server_ssl(certificate)
    done: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done.add(writer)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(serve, address, lab.port, ssl=context)
    lab.point("service1", address)
    try:
        yield address
    finally:
        server.close()
        for writer in done:
            writer.transport.abort()
        await server.wait_closed()


# --- what arrives


@pytest.mark.semantics(55)
async def test_path_query_token_and_body_arrive() -> None:
    async with two_regions() as lab:
        answer = await lab.request(
            "/service1/a%20b/c?x=1&x=two%20words",
            method="POST",
            headers={"Authorization": "Bearer abc", "Content-Type": "text/plain", "Via": "1.1 x"},
            data=b"hello",
        )
        assert answer.status == 200
        event = answer.json["event"]
        assert event["pathParameters"] == {"proxy": "a b/c"}
        assert event["multiValueQueryStringParameters"] == {"x": ["1", "two words"]}
        assert event["headers"]["Host"] == "service1.example.test"
        assert event["headers"]["Authorization"] == "Bearer abc"
        assert event["body"] == "hello"
        assert "Via" not in event["headers"]
        assert event["requestContext"]["domainName"] == "service1.example.test"
        assert answer.headers["X-Region"] == "us-east-1"
        assert answer.headers["x-amzn-Remapped-x-amzn-RequestId"]
        assert len(answer.headers.getall("Date")) == 1


@pytest.mark.semantics(55)
async def test_bare_parent_path_is_routed_too() -> None:
    async with two_regions() as lab:
        for path in ("/service2", "/service2/"):
            answer = await lab.request(path)
            assert (answer.json["function"], answer.json["event"]["path"]) == ("service2", "/")


async def test_one_trace_from_end_to_end() -> None:
    async with two_regions() as lab:
        answer = await lab.request("/service1", headers={"X-Amzn-Trace-Id": "Root=1-a-b"})
        assert answer.headers["X-Amzn-Trace-Id"] == "Root=1-a-b"
        assert lab.functions["us-east-1"].traces == ["Root=1-a-b"]


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
async def test_errors_of_the_service_are_passed_on(status: int) -> None:
    async with two_regions() as lab:
        result = InvokeResult(200, b'{"statusCode": %d, "body": "theirs"}' % status)
        lab.functions["us-east-1"].answers["service1"] = lambda event: result
        answer = await lab.request("/service1")
        assert (answer.status, answer.body) == (status, b"theirs")


async def test_head_and_no_content_go_through() -> None:
    async with two_regions() as lab:
        assert (await lab.request("/service1/x", method="HEAD")).status == 200
        result = InvokeResult(200, b'{"statusCode": 204}')
        lab.functions["us-east-1"].answers["service1"] = lambda event: result
        assert (await lab.request("/service1", method="DELETE")).status == 204
        assert (await lab.request("/service2")).status == 200
        assert lab.gateways["us-east-1"].status()["connections"]["opened"] == 2


# --- what fails


@pytest.mark.semantics(56)
async def test_unresolvable_is_500() -> None:
    async with two_regions() as lab:
        answer = await lab.request("/gone")
        assert (answer.status, answer.json) == (500, {"message": "Internal server error"})
        assert lab.events[-1]["type"] == "API_CONFIGURATION_ERROR"


@pytest.mark.semantics(56)
async def test_refused_is_504() -> None:
    async with two_regions() as lab:
        lab.point("service1", f"{PREFIX}.9.9")
        answer = await lab.request("/service1")
        assert answer.status == 504
        assert answer.json == {"message": "Network error communicating with endpoint"}
        assert answer.headers["x-amzn-ErrorType"] == "InternalServerErrorException"


@pytest.mark.semantics(56)
async def test_slow_is_504_at_the_set_time() -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with two_regions() as lab, odd_endpoint(lab, silence):
        started = time.monotonic()
        answer = await lab.request("/service1")
        assert (answer.status, answer.json) == (504, {"message": "Endpoint request timed out"})
        assert 0.95 < time.monotonic() - started < 3


@pytest.mark.semantics(56)
async def test_bad_certificate_is_500() -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    untrusted = trustme.CA().issue_cert("service1.example.test")
    async with two_regions() as lab, odd_endpoint(lab, nothing, untrusted):
        assert (await lab.request("/service1")).status == 500


async def test_reset_in_the_middle_is_504_and_not_sent_again() -> None:
    calls = 0

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        await reader.readuntil(b"\r\n\r\n")
        calls += 1
        writer.transport.abort()

    async with two_regions() as lab, odd_endpoint(lab, reset):
        assert (await lab.request("/service1")).status == 504
        assert calls == 1


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 504)])
async def test_kept_connection_that_dies_is_replaced_only_where_safe(
    method: str, status: int
) -> None:
    connections = 0

    async def one_answer_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with two_regions() as lab, odd_endpoint(lab, one_answer_each):
        assert (await lab.request("/service1")).status == 200
        assert (await lab.request("/service1", method=method)).status == status
        assert connections == (2 if method == "GET" else 1)


async def test_answer_that_ends_with_the_connection() -> None:
    async def old_style(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
        writer.close()

    async with two_regions() as lab, odd_endpoint(lab, old_style):
        assert (await lab.request("/service1")).body == b"until the end"


# --- who is asked


@pytest.mark.semantics(58)
async def test_follow_leaves_idle_connections_to_the_old_address() -> None:
    async with two_regions(ConnectionKnobs(mode="follow")) as lab:
        assert (await lab.request("/service1")).region == "us-east-1"
        lab.point("service1", WEST)
        assert (await lab.request("/service1")).region == "us-west-2"
        change = next(e for e in lab.events if e["kind"] == "integration_address")
        assert (change["before"], change["after"]) == ([EAST], [WEST])


@pytest.mark.semantics(58)
async def test_sticky_keeps_a_live_connection_until_it_closes() -> None:
    async with two_regions(ConnectionKnobs(mode="sticky")) as lab:
        assert (await lab.request("/service1")).region == "us-east-1"
        lab.point("service1", WEST)
        assert (await lab.request("/service1")).region == "us-east-1"
        lab.gateways["us-east-1"].set_connection_knobs(
            ConnectionKnobs(mode="sticky", max_age_seconds=0)
        )
        assert (await lab.request("/service1")).region == "us-west-2"


@pytest.mark.semantics(58)
@pytest.mark.parametrize("limit", ["idle_seconds", "max_age_seconds"])
async def test_connection_ends_at_its_limits(limit: str) -> None:
    knobs = ConnectionKnobs(mode="sticky", **{limit: 0})
    async with two_regions(knobs) as lab:
        for _ in range(3):
            assert (await lab.request("/service1")).status == 200
        assert lab.gateways["us-east-1"].status()["connections"]["opened"] == 3


class SteadyLoad:
    """Eight callers; each asks one service after the other, again and again."""

    def __init__(self, lab: TwoRegions) -> None:
        self.seen: Counter[tuple[str, str, int]] = Counter()
        """(service, region, status) -> answers."""
        self._lab = lab
        self._progress = asyncio.Event()
        self._tasks = [asyncio.create_task(self._call()) for _ in range(8)]

    async def _call(self) -> None:
        while True:
            for service in SERVICES:
                answer = await self._lab.request(f"/{service}/x")
                region = answer.region if answer.status == 200 else "-"
                self.seen[service, region, answer.status] += 1
                self._progress.set()

    async def until(self, service: str, region: str, more: int) -> None:
        """Wait for so many more good answers."""
        wanted = self.seen[service, region, 200] + more
        async with asyncio.timeout(10):
            while self.seen[service, region, 200] < wanted:
                self._progress.clear()
                await self._progress.wait()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError)


@pytest.mark.semantics(59, 60)
async def test_flip_there_and_back_moves_one_service_and_loses_nothing() -> None:
    async with two_regions() as lab:
        load = SteadyLoad(lab)
        await load.until("service1", "us-east-1", 20)
        lab.point("service1", WEST)
        await load.until("service1", "us-west-2", 40)
        lab.point("service1", EAST)
        await load.until("service1", "us-east-1", 40)
        await load.stop()
        assert {status for _, _, status in load.seen} == {200}
        regions_of_service2 = {region for service, region, _ in load.seen if service == "service2"}
        assert regions_of_service2 == {"us-east-1"}
        idle = lab.gateways["us-east-1"].status()["connections"]["idle"]
        assert not any(WEST in address for address in idle)


async def test_request_in_flight_ends_where_it_began() -> None:
    async with two_regions() as lab:
        begun, go_on = asyncio.Event(), asyncio.Event()
        functions = lab.functions["us-east-1"]

        async def wait(event: dict[str, Any]) -> InvokeResult:
            begun.set()
            await go_on.wait()
            return functions.echo("service1", event)

        functions.answers["service1"] = wait
        under_way = asyncio.create_task(lab.request("/service1"))
        await asyncio.wait_for(begun.wait(), 5)
        lab.point("service1", WEST)
        assert (await lab.request("/service1")).region == "us-west-2"
        go_on.set()
        assert (await under_way).region == "us-east-1"


async def test_cut_region_is_a_network_error_for_the_other() -> None:
    async with two_regions() as lab:
        assert (await lab.request("/service1", address=WEST)).region == "us-east-1"
        await lab.gateways["us-east-1"].set_cut(True)
        assert (await lab.request("/service1", address=WEST)).status == 504
        lab.point("service1", WEST)
        assert (await lab.request("/service1", address=WEST)).region == "us-west-2"
