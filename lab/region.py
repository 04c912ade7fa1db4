"""A region's process: its API Gateway in front of its functions, and what they depend on.

With a database in the topology it also holds the region's part of the global database (RDS Proxy,
the RDS API, Secrets Manager) and its user pools; the database server is a process of its own. With
an entry that is switched by alarms it holds the region's CloudWatch.

Downside: all of it shares one event loop, so a busy gateway delays the Runtime API by a few
microseconds; separate processes would cost memory and a hop more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from lab import certs
from lab.apigateway import RegionalGateway
from lab.aurora import API_PORT, GlobalDatabase, host_table, is_deployed
from lab.cloudwatch import CLOUDWATCH_PORT, CloudWatch
from lab.cognito import COGNITO_PORT, CognitoAuthorizer, UserPools
from lab.dispatch import EventLog, dispatch
from lab.dns_client import Resolver
from lab.errors import LabError, UsageError
from lab.lambda_runtime import LambdaService
from lab.lambda_runtime.vpc import VpcNames
from lab.model import Deployment
from lab.paths import LabPaths
from lab.settings import DNS_PORT, HTTPS_PORT, Settings


class RegionPart:
    """Everything of one region."""

    def __init__(
        self, paths: LabPaths, settings: Settings, deployment: Deployment, region: str
    ) -> None:
        self._address = settings.region_address(region)
        self._tls = certs.server_context(paths.certificate(region))
        self._region = region
        events = EventLog(paths.root / "events.jsonl", region)
        name_server = (settings.network.nameserver_address, DNS_PORT)
        self._functions = LambdaService(
            region,
            deployment,
            settings.profile,
            work_dir=paths.root / "functions" / region,
            host=self._address,
            extra_environment=function_environment(paths, self._address),
            vpc=vpc_names(deployment, settings, region),
        )
        self._warm = functions_to_warm(deployment, region)
        self._resolver = Resolver(
            name_server, cache_cap=settings.profile.integration_dns_cache
        )
        self._pools: UserPools | None = None
        authorizer: CognitoAuthorizer | None = None
        if deployment.of_type("AWS::Cognito::UserPool"):
            self._pools = UserPools(region, deployment, paths.state)
            authorizer = CognitoAuthorizer(deployment, paths.state)
        self._database: GlobalDatabase | None = None
        if is_deployed(deployment):
            self._database = GlobalDatabase(
                region, deployment, settings, paths, on_event=events
            )
        self._cloudwatch: CloudWatch | None = None
        if settings.cloudwatch:
            self._cloudwatch = CloudWatch(
                region,
                deployment,
                settings.profile.alarm_scale,
                paths.state / f"cloudwatch-{region}.json",
                on_event=events,
            )
        self._gateway = RegionalGateway(
            region,
            deployment,
            self._functions,
            self._resolver,
            client_ssl=certs.client_context(paths.ca),
            port_map={443: HTTPS_PORT},
            authorizer=authorizer,
            on_event=events,
        )

    async def start(self) -> None:
        if self._pools is not None:
            await self._pools.start(self._address, COGNITO_PORT, self._tls)
        if self._database is not None:
            await self._database.start()
        if self._cloudwatch is not None:
            await self._cloudwatch.start(self._address, CLOUDWATCH_PORT)
        await self._functions.start()
        await self._functions.prewarm(self._warm)
        await self._gateway.start(self._address, HTTPS_PORT, self._tls)

    async def close(self) -> None:
        await self._gateway.close()
        await self._resolver.close()
        await self._functions.close()
        if self._cloudwatch is not None:
            await self._cloudwatch.close()
        if self._database is not None:
            await self._database.close()
        if self._pools is not None:
            await self._pools.close()

    async def handle(self, command: str, arguments: dict[str, Any]) -> Any:
        handlers: dict[str, Callable[..., Any]] = {
            "cut": self._set_cut,
            "function_fault": self._function_fault,
            "clear_function_faults": self._functions.clear_faults,
            "invoke": self._invoke,
            "status": self._status,
        }
        if self._database is not None:
            handlers["replication"] = self._database.set_replication
            handlers["clear_replication"] = self._database.clear_replication
        if self._cloudwatch is not None:
            handlers["alarm_readings"] = self._cloudwatch.readings
            handlers["cloudwatch_available"] = self._set_cloudwatch_available
        return await dispatch(handlers, command, arguments)

    async def _set_cut(self, on: bool) -> None:
        await self._gateway.set_cut(on)
        if self._cloudwatch is not None:
            await self._cloudwatch.set_down("cut", on)

    async def _set_cloudwatch_available(self, available: bool) -> None:
        assert self._cloudwatch is not None
        await self._cloudwatch.set_down("fault", not available)

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = {
            "apigateway": self._gateway.status(),
            "lambda": self._functions.status(),
        }
        if self._database is not None:
            status["aurora"] = self._database.status()
        if self._pools is not None:
            status["cognito"] = self._pools.status()
        if self._cloudwatch is not None:
            status["cloudwatch"] = self._cloudwatch.status()
        return status

    def _function_fault(self, service: str, **fault: Any) -> None:
        try:
            self._functions.set_function_fault(f"{service}-{self._region}", **fault)
        except KeyError:
            raise UsageError(f"no service {service!r} in {self._region}") from None

    async def _invoke(self, function: str, payload: Mapping[str, Any]) -> Any:
        """A function called directly, as `aws lambda invoke` does; how a migration is run."""
        result = await self._functions.invoke(function, json.dumps(payload).encode())
        answer = json.loads(result.payload or b"null")
        if result.function_error or result.status_code != 200:
            raise LabError(f"{function} failed: {answer}")
        return answer


def functions_to_warm(deployment: Deployment, region: str) -> list[str]:
    """One function behind the API per package: services that share code start when they are called,
    so that a hundred of them do not cost a hundred processes."""
    by_package: dict[str, str] = {}
    for function in deployment.of_type("AWS::Serverless::Function", region=region):
        if function.logical_id == "APIHandler":
            by_package.setdefault(function.properties["CodeUri"], function.physical_id)
    return list(by_package.values())


def function_environment(paths: LabPaths, address: str) -> dict[str, str]:
    """What functions of the lab get besides their own: the lab's authority, and where AWS is."""
    return {
        "SSL_CERT_FILE": str(paths.ca.resolve()),
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://{address}:{API_PORT}",
    }


def vpc_names(deployment: Deployment, settings: Settings, region: str) -> VpcNames:
    """What a function's VPC resolves: the zone by Route 53, the proxy's names by this table."""
    hosts: dict[str, dict[int, tuple[str, int]]] = {}
    for (name, port), target in host_table(deployment, settings, region).items():
        hosts.setdefault(name, {})[port] = target
    return VpcNames(
        zone=settings.domain,
        name_server=(settings.network.nameserver_address, DNS_PORT),
        ports={443: HTTPS_PORT},
        hosts=hosts,
    )
