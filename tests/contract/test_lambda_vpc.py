"""Functions resolve names as in a VPC: the lab's zone by its name server, proxies by a table."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSRecord
from loopback_networks import free_network

from lab.lambda_runtime import LambdaService, VpcNames
from lab.model import Deployment, Resource
from lab.settings import PROFILES

HOST = f"{free_network()}.1.10"
CODE = """
import os, socket, sys

def handler(event, context):
    try:
        found = socket.getaddrinfo(event["host"], event["port"], type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return {"errno": error.errno}
    if event.get("connect"):
        with socket.create_connection((event["host"], event["port"]), 2) as connection:
            return {"peer": connection.getpeername()}
    return {"found": [address for *_, address in found], "environment": sorted(os.environ)}
"""


class NameServer(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.silent = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, sender: Any) -> None:
        query = DNSRecord.parse(data)
        name = str(query.q.qname)
        self.asked.append(name)
        if self.silent > 0:
            self.silent -= 1
            return
        reply = query.reply()
        if name.startswith("service1."):
            reply.add_answer(RR(name, QTYPE.A, rdata=A(HOST), ttl=1))
        else:
            reply.header.rcode = RCODE.NXDOMAIN
        self.transport.sendto(reply.pack(), sender)


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=(HOST, 0))
    yield server
    transport.close()


@pytest.fixture
async def listener() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), HOST, 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.fixture
async def service(tmp_path: Path, names: NameServer, listener: int) -> AsyncIterator[LambdaService]:
    package = tmp_path / "package"
    package.mkdir()
    (package / "app.py").write_text(CODE)
    given = {"CodeUri": str(package), "Handler": "app.handler", "Timeout": 10}
    arn = "arn:aws:lambda:us-east-1:111122223333:function:f"
    function = Resource(
        "s", "us-east-1", "f", "AWS::Serverless::Function", "f", given, {"Arn": arn}
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((HOST, 0))
        xray_port = free.getsockname()[1]
    vpc = VpcNames(
        zone="example.test",
        name_server=names.transport.get_extra_info("sockname"),
        ports={443: listener},
        hosts={"proxy.rds.amazonaws.com": {3306: (HOST, listener)}},
    )
    functions = LambdaService(
        "us-east-1", Deployment((function,), {}), PROFILES["fast"],
        work_dir=tmp_path / "work", host=HOST, xray_port=xray_port, vpc=vpc,
    )  # fmt: skip
    await functions.start()
    yield functions
    await functions.close()


async def ask(service: LambdaService, host: str, port: int, **more: Any) -> Any:
    result = await service.invoke("f", json.dumps({"host": host, "port": port, **more}).encode())
    assert result.function_error is None, result.payload
    return json.loads(result.payload)


async def test_zone_and_table(service: LambdaService, names: NameServer, listener: int) -> None:
    found = await ask(service, "service1.us-east-1.example.test", 443)
    assert found["found"] == [[HOST, listener]]
    assert not any("vpc" in name.lower() for name in found["environment"])
    assert (await ask(service, "Service1.Example.Test.", 80))["found"] == [[HOST, 80]]
    assert (await ask(service, "nothing.example.test", 443))["errno"] == socket.EAI_NONAME
    assert len(names.asked) == 3
    proxy = await ask(service, "proxy.rds.amazonaws.com", 3306, connect=True)
    assert proxy["peer"] == [HOST, listener]
    zone = await ask(service, "service1.us-east-1.example.test", 443, connect=True)
    assert zone["peer"] == [HOST, listener]
    assert (await ask(service, "localhost", 80))["found"]


async def test_a_lost_query_is_repeated(service: LambdaService, names: NameServer) -> None:
    names.silent = 1
    assert (await ask(service, "service1.example.test", 80))["found"] == [[HOST, 80]]
    assert len(names.asked) == 2
