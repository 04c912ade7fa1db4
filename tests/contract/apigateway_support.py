"""Two small regions behind real TLS on loopback addresses of their own, and what is around them.

The functions and the DNS table are fakes with the interfaces of the real ones; sockets, TLS, the
gateways and the client (aiohttp) are real.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import trustme
from loopback_networks import free_network

from lab.apigateway import ConnectionKnobs, RegionalGateway
from lab.dns_client import NameNotFound
from lab.lambda_runtime import InvokeResult
from lab.model import Deployment, Resource

PREFIX = free_network()
REGIONS = ("us-east-1", "us-west-2")
ADDRESS = {region: f"{PREFIX}.{n}.10" for n, region in enumerate(REGIONS, 1)}
EAST, WEST = (ADDRESS[region] for region in REGIONS)
SERVICES = ("service1", "service2")
API_HOST = "api.example.test"
AUTHORITY = trustme.CA()
_CERTIFICATE = AUTHORITY.issue_cert("*.example.test", "*.execute-api.us-east-1.amazonaws.com")


def client_ssl(authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


def server_ssl(certificate: trustme.LeafCert = _CERTIFICATE) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


# --- resources


def function_arn(name: str, region: str) -> str:
    return f"arn:aws:lambda:{region}:111122223333:function:{name}"


def lambda_integration(name: str, region: str) -> dict[str, Any]:
    path = f"lambda:path/2015-03-31/functions/{function_arn(name, region)}/invocations"
    return {
        "type": "aws_proxy",
        "httpMethod": "POST",
        "uri": f"arn:aws:apigateway:{region}:{path}",
        "timeoutInMillis": 2000,
    }


def http_integration(host: str, suffix: str = "") -> dict[str, Any]:
    integration: dict[str, Any] = {
        "type": "http_proxy",
        "httpMethod": "ANY",
        "uri": f"https://{host}{suffix}",
        "timeoutInMillis": 1000,
    }
    if suffix:
        integration["requestParameters"] = {
            "integration.request.path.proxy": "method.request.path.proxy"
        }
    return integration


def operation(integration: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"x-amazon-apigateway-integration": integration, **more}


ANY_METHOD = "x-amazon-apigateway-any-method"
MOCK = {
    "type": "mock",
    "requestTemplates": {"application/json": '{"statusCode": 200}'},
    "responses": {
        "default": {
            "statusCode": "200",
            "responseParameters": {"method.response.header.Access-Control-Allow-Origin": "'*'"},
        }
    },
}
POOL_ARN = "arn:aws:cognito-idp:us-east-1:111122223333:userpool/us-east-1_a"


def service_body(name: str, region: str) -> dict[str, Any]:
    function = lambda_integration(name, region)
    return {
        "swagger": "2.0",
        "info": {"title": name},
        "paths": {
            "/": {ANY_METHOD: operation(function), "options": operation(MOCK)},
            "/{proxy+}": {ANY_METHOD: operation(function)},
            "/private": {"get": operation(function, security=[{"pool": ["api/read"]}])},
        },
        "securityDefinitions": {
            "pool": {
                "type": "apiKey",
                "name": "Authorization",
                "in": "header",
                "x-amazon-apigateway-authtype": "cognito_user_pools",
                "x-amazon-apigateway-authorizer": {
                    "type": "cognito_user_pools",
                    "providerARNs": [POOL_ARN],
                },
            }
        },
    }


def external_body() -> dict[str, Any]:
    paths: dict[str, Any] = {"/": {"get": operation(MOCK)}}
    for name in (*SERVICES, "gone"):
        host = f"{name}.example.test"
        paths[f"/{name}"] = {ANY_METHOD: operation(http_integration(host))}
        paths[f"/{name}/{{proxy+}}"] = {ANY_METHOD: operation(http_integration(host, "/{proxy}"))}
    return {"openapi": "3.0.1", "info": {"title": "external"}, "paths": paths}


def deployment(region: str) -> Deployment:
    """The external API and two services, each with its custom domain."""
    resources = []

    def add(kind: str, physical_id: str, **properties: Any) -> None:
        resources.append(
            Resource("s", region, f"R{len(resources)}", kind, physical_id, properties, {})
        )

    add(
        "AWS::ApiGateway::RestApi",
        "external00",
        Body=external_body(),
        DisableExecuteApiEndpoint=True,
    )
    add("AWS::ApiGateway::Stage", "live", RestApiId="external00", StageName="live")
    domains = [(API_HOST, "external00", "live")]
    for name in SERVICES:
        add(
            "AWS::Serverless::Api", name, DefinitionBody=service_body(name, region), StageName="api"
        )
        domains.append((f"{name}.example.test", name, "api"))
    for domain, api, stage in domains:
        add("AWS::ApiGateway::DomainName", domain, DomainName=domain)
        add(
            "AWS::ApiGateway::BasePathMapping",
            domain,
            DomainName=domain,
            RestApiId=api,
            Stage=stage,
        )
    return Deployment(tuple(resources), {})


# --- fakes


class EchoFunctions:
    """Every function answers with its region, its name and the event; `answers` overrides one."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.answers: dict[str, Callable[[dict[str, Any]], Any]] = {}
        """Function name -> makes an InvokeResult, or an awaitable of one, from the event."""
        self.traces: list[str | None] = []

    async def invoke(
        self, name: str, payload: bytes, *, trace_header: str | None = None
    ) -> InvokeResult:
        self.traces.append(trace_header)
        function = name.split(":")[6]
        event = json.loads(payload)
        if function in self.answers:
            answer = self.answers[function](event)
            result = await answer if asyncio.iscoroutine(answer) else answer
            assert isinstance(result, InvokeResult)
            return result
        return self.echo(function, event)

    def echo(self, function: str, event: dict[str, Any]) -> InvokeResult:
        body = json.dumps({"region": self.region, "function": function, "event": event})
        answer = {"statusCode": 200, "headers": {"X-Region": self.region}, "body": body}
        return InvokeResult(200, json.dumps(answer).encode())


@dataclass
class DnsTable:
    """Name -> address; what is not in it does not exist."""

    table: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def resolve(self, name: str) -> tuple[str, ...]:
        self.asked.append(name)
        if name not in self.table:
            raise NameNotFound(name, "not in the table")
        return (self.table[name],)

    def status(self) -> dict[str, Any]:
        return {"asked": len(self.asked)}


# --- the running thing


@dataclass
class TwoRegions:
    """Both gateways listen on `port` of their own address."""

    gateways: dict[str, RegionalGateway]
    functions: dict[str, EchoFunctions]
    dns: DnsTable
    port: int
    session: aiohttp.ClientSession
    events: list[Mapping[str, Any]]

    async def request(
        self,
        path: str,
        *,
        host: str = API_HOST,
        address: str = EAST,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        data: Any = None,
    ) -> Answer:
        async with self.session.request(
            method,
            f"https://{address}:{self.port}{path}",
            headers={"Host": host, **(headers or {})},
            data=data,
            server_hostname=host if host.endswith((".test", ".com")) else API_HOST,
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    def point(self, service: str, address: str) -> None:
        self.dns.table[f"{service}.example.test"] = address


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def region(self) -> str:
        return str(self.json["region"])


def free_port() -> int:
    """A port that is free on both regions' addresses (they are used by nobody else)."""
    with socket.create_server((EAST, 0)) as listener:
        return int(listener.getsockname()[1])


@asynccontextmanager
async def two_regions(
    knobs: ConnectionKnobs | None = None, resolver: Any = None, **options: Any
) -> AsyncIterator[TwoRegions]:
    """All services in us-east-1 to begin with. `options` go to both gateways."""
    dns = DnsTable({f"{name}.example.test": EAST for name in SERVICES})
    functions = {region: EchoFunctions(region) for region in REGIONS}
    events: list[Mapping[str, Any]] = []
    port = free_port()
    gateways = {
        region: RegionalGateway(
            region,
            deployment(region),
            functions[region],
            resolver or dns,
            client_ssl=client_ssl(),
            connections=knobs,
            port_map={443: port},
            on_event=events.append,
            **options,
        )
        for region in REGIONS
    }
    for region, gateway in gateways.items():
        await gateway.start(ADDRESS[region], port, server_ssl())
    connector = aiohttp.TCPConnector(ssl=client_ssl(), limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            yield TwoRegions(gateways, functions, dns, port, session, events)
    finally:
        for gateway in gateways.values():
            await gateway.close()
