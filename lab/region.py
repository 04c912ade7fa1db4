"""A region's process: its API Gateway in front of its functions.

Downside: both share one event loop, so a busy gateway delays the Runtime API by a few microseconds;
separate processes would cost memory and a hop more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab import certs
from lab.apigateway import RegionalGateway
from lab.dispatch import EventLog, dispatch
from lab.dns_client import Resolver
from lab.errors import UsageError
from lab.lambda_runtime import LambdaService
from lab.model import Deployment
from lab.paths import LabPaths
from lab.settings import DNS_PORT, HTTPS_PORT, Settings


class RegionPart:
    """API Gateway and Lambda of one region."""

    def __init__(
        self, paths: LabPaths, settings: Settings, deployment: Deployment, region: str
    ) -> None:
        self._address = settings.region_address(region)
        self._certificate = paths.certificate(region)
        self._region = region
        events = EventLog(paths.root / "events.jsonl", region)
        self._functions = LambdaService(
            region,
            deployment,
            settings.profile,
            work_dir=paths.root / "functions" / region,
            host=self._address,
            extra_environment={"SSL_CERT_FILE": str(paths.ca.resolve())},
        )
        self._resolver = Resolver((settings.network.nameserver_address, DNS_PORT))
        self._gateway = RegionalGateway(
            region,
            deployment,
            self._functions,
            self._resolver,
            client_ssl=certs.client_context(paths.ca),
            port_map={443: HTTPS_PORT},
            on_event=events,
        )

    async def start(self) -> None:
        await self._functions.start()
        await self._functions.prewarm()
        await self._gateway.start(
            self._address, HTTPS_PORT, certs.server_context(self._certificate)
        )

    async def close(self) -> None:
        await self._gateway.close()
        await self._resolver.close()
        await self._functions.close()

    async def handle(self, command: str, arguments: dict[str, Any]) -> Any:
        handlers: dict[str, Callable[..., Any]] = {
            "cut": self._gateway.set_cut,
            "function_fault": self._function_fault,
            "clear_function_faults": self._functions.clear_faults,
            "status": lambda: {
                "apigateway": self._gateway.status(),
                "lambda": self._functions.status(),
            },
        }
        return await dispatch(handlers, command, arguments)

    def _function_fault(self, service: str, **fault: Any) -> None:
        try:
            self._functions.set_function_fault(f"{service}-{self._region}", **fault)
        except KeyError:
            raise UsageError(f"no service {service!r} in {self._region}") from None
