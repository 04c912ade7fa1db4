"""The whole way: caller, external API, the service's own domain, AWS's runtime client, and back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from apigateway_support import (
    EAST,
    SERVICES,
    client_ssl,
    deployment,
    free_port,
    server_ssl,
    two_regions,
)
from test_lambda_service import free_udp_port

from lab.apigateway import RegionalGateway
from lab.lambda_runtime import LambdaService
from lab.model import Deployment, Resource
from lab.settings import PROFILES

CODE = """
import json, os

def handler(event, context):
    if event["queryStringParameters"] == {"fail": "1"}:
        raise RuntimeError("told to")
    body = {"service": os.environ["SERVICE"], "region": os.environ["AWS_REGION"]}
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "application/json", "X-Region": os.environ["AWS_REGION"]},
        "body": json.dumps(body | {"token": event["headers"].get("Authorization")}),
    }
"""


def functions(folder: Path, region: str) -> Deployment:
    (folder / "app.py").write_text(CODE)
    return Deployment(
        tuple(
            Resource(
                "s",
                region,
                "APIHandler",
                "AWS::Serverless::Function",
                name,
                {
                    "CodeUri": str(folder),
                    "Handler": "app.handler",
                    "Environment": {"Variables": {"SERVICE": name}},
                },
                {},
            )
            for name in SERVICES
        ),
        {},
    )


async def test_two_hops_to_a_real_function(tmp_path: Path) -> None:
    async with two_regions() as lab:
        service = LambdaService(
            "us-east-1",
            functions(tmp_path, "us-east-1"),
            PROFILES["fast"],
            work_dir=tmp_path / "work",
            host=EAST,
            xray_port=free_udp_port(),
        )
        port = free_port()
        gateway = RegionalGateway(
            "us-east-1",
            deployment("us-east-1"),
            service,
            lab.dns,
            client_ssl=client_ssl(),
            port_map={443: port},
        )
        await service.start()
        await service.prewarm()
        await gateway.start(EAST, port, server_ssl())
        lab.port = port
        try:
            headers = {"Authorization": "Bearer abc"}
            answers = await asyncio.gather(
                *(lab.request(f"/{name}/x", headers=headers) for name in SERVICES * 10)
            )
            assert {a.status for a in answers} == {200}
            assert {(a.json["service"], a.json["token"]) for a in answers} == {
                (name, "Bearer abc") for name in SERVICES
            }
            assert answers[0].headers["X-Region"] == "us-east-1"
            failed = await lab.request("/service1/x?fail=1")
            assert (failed.status, failed.json) == (502, {"message": "Internal server error"})
        finally:
            await gateway.close()
            await service.close()
