"""A local AWS API with what `chalice deploy` and `chalice delete` call: IAM, Lambda, API Gateway.

One HTTP server on loopback stands for all services and regions; a request is told apart by its
signature's scope and read by botocore's model of the operation (`aws_protocol_support`). Every call
is recorded with the IAM actions that AWS would ask for.

Beyond the models it refuses what AWS refuses and what would hide a fault here: a role that Lambda
cannot assume, a code archive that is none, more than 4 KB of environment, a Swagger document whose
integrations, authorizers or path parameters do not hold together, the deletion of a role that has
policies (`chalice_services_support`, `chalice_apis_support`).

What `infra` calls besides is added by `infra_standin_support`, a subclass.

Downside: IAM is recorded but not enforced. Operations that Chalice does not call for these services
are not there and answer 501.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aws_protocol_support import (
    ByModel,
    NotImitated,
    Refused,
    Request,
    answer,
    read,
    refusal,
    validate,
)
from chalice_apis_support import ApiGateway
from chalice_services_support import Account, Iam, Lambda, function_arn, role_arn


@dataclass(frozen=True)
class Permission:
    """One IAM question that AWS would ask about the caller."""

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Call:
    region: str
    service: str
    operation: str
    params: Mapping[str, Any]
    permissions: tuple[Permission, ...]
    refused: str = ""
    """Why it was refused, else empty."""
    by_model: bool = False
    """It was refused because the service model does not allow it."""


class LocalAws:
    """The server and its state. A context manager; `url` is for AWS_ENDPOINT_URL."""

    def __init__(self) -> None:
        self.account = Account()
        self.calls: list[Call] = []
        self.lock = threading.Lock()
        services = {
            "iam": Iam(self.account),
            "lambda": Lambda(self.account),
            "apigateway": ApiGateway(self.account),
        }
        self._operations = {
            (service, name): run
            for service, part in services.items()
            for name, run in part.operations.items()
        }
        handler = type("Handler", (_Handler,), {"aws": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LocalAws:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def state(self, region: str) -> dict[str, Any]:
        """All of a region that a deployment decides, without counters; comparable."""
        own = self.account.region(region)
        roles = self.account.roles
        return {
            "functions": {
                name: (f.configuration, hashlib.sha256(f.code).hexdigest(), f.tags, f.statements)
                for name, f in own.functions.items()
            },
            "apis": {
                api.id: (api.definition, api.endpoint, api.compression, api.stages, api.address_off)
                for api in own.apis.values()
            },
            "roles": {n: (r.trust, r.policies) for n, r in roles.items() if region in n},
        }

    def handle(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str, bytes, str]:
        """Status, content type, body, error type."""
        with self.lock:
            number, request = len(self.calls), None
            try:
                request = read(method, target, headers, body)
                validate(request)
                result = self.operation(request)(request)
            except Refused as refused:
                self._record(request, refused)
                return refusal(request, refused, number)
            self._record(request)
            return (*answer(request, result, number), "")

    def operation(self, request: Request) -> Callable[[Request], Any]:
        """What carries the request out. Raises NotImitated."""
        name = request.operation.name
        run = self._operations.get((request.service, name))
        if run is None:
            raise NotImitated(f"{request.service}:{name} is not imitated")
        return run

    def permissions(self, request: Request) -> Iterator[Permission]:
        """What AWS would ask about the caller."""
        return permissions_of(request)

    def record(self, call: Call) -> None:
        self.calls.append(call)

    def _record(self, request: Request | None, refused: Refused | None = None) -> None:
        why, by_model = str(refused or ""), isinstance(refused, ByModel)
        if request is None:
            self.record(Call("", "", "", {}, (), why, by_model))
            return
        name, asked = request.operation.name, tuple(self.permissions(request))
        self.record(
            Call(request.region, request.service, name, request.params, asked, why, by_model)
        )


class _Handler(BaseHTTPRequestHandler):
    aws: LocalAws
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30

    def _do(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:  # the client was killed while it sent this
            self.close_connection = True
            return
        status, kind, content, error = self.aws.handle(self.command, self.path, self.headers, body)
        lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(content)}", f"Content-Type: {kind}"]
        lines += [f"x-amzn-errortype: {error}"] * bool(error)
        self.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode() + content)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _do  # noqa: N815  # http.server's names

    def log_message(self, *_: object) -> None:
        pass


def permissions_of(request: Request) -> Iterator[Permission]:
    """What AWS asks about the caller (Service Authorization Reference of each service)."""
    if request.service == "lambda":
        yield from _permissions_of_lambda(request)
    elif request.service == "iam":
        name = request.params.get("RoleName", "*")
        yield Permission(f"iam:{request.operation.name}", role_arn(name))
    elif request.service == "apigateway":
        arn = f"arn:aws:apigateway:{request.region}::{request.path}"
        yield Permission(f"apigateway:{request.method}", arn)
    else:
        yield Permission(f"{request.service}:{request.operation.name}", "*")


def _permissions_of_lambda(request: Request) -> Iterator[Permission]:
    params, name = request.params, request.operation.name
    asked = params.get("FunctionName") or params.get("Resource") or "*"
    function = function_arn(request.region, asked)
    whom = (("lambda:Principal", params["Principal"]),) if "Principal" in params else ()
    yield Permission(f"lambda:{name}", function, whom)
    if params.get("Tags") and name == "CreateFunction":
        yield Permission("lambda:TagResource", function)
    if "Role" in params:
        to = (("iam:PassedToService", "lambda.amazonaws.com"),)
        yield Permission("iam:PassRole", params["Role"], to)
    if params.get("VpcConfig", {}).get("SubnetIds"):
        for kind in ("SecurityGroups", "Subnets", "Vpcs"):
            yield Permission(f"ec2:Describe{kind}", "*")
