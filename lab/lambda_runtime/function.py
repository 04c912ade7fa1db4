"""What a function is (`Function`) and what its process sees (`environment_of`). Pure.

Read from AWS::Serverless::Function resources. The defaults are SAM's and Lambda's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.model import Deployment, Resource

MAX_PAYLOAD_BYTES = 6 * 2**20 + 100
"""Request and response payload of a synchronous invocation: 6 MB (AWS docs "Lambda quotas";
the extra 100 bytes are what the service's own error message says: 6291556)."""

_RESERVED = re.compile(
    r"AWS_LAMBDA_.*|LAMBDA_TASK_ROOT|LAMBDA_RUNTIME_DIR|AWS_REGION|AWS_EXECUTION_ENV|_HANDLER"
    r"|AWS_ACCESS_KEY(_ID)?|AWS_SECRET_ACCESS_KEY|AWS_SESSION_TOKEN|_X_AMZN_TRACE_ID"
    r"|AWS_XRAY_DAEMON_ADDRESS"
)


class LambdaError(Exception):
    """Base of what goes wrong here:

    LambdaError
    └── FunctionConfigError     resources that can not be run; every reason at once
    """


class FunctionConfigError(LambdaError):
    def __init__(self, reasons: list[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("functions cannot be run:\n" + "\n".join(f"  - {r}" for r in reasons))


@dataclass(frozen=True, slots=True)
class Function:
    """One function of one region."""

    name: str
    arn: str
    region: str
    code: Path
    """The unzipped deployment package."""
    handler: str
    runtime: str = "python3.11"
    memory_mb: int = 128
    timeout: float = 3.0
    """Seconds."""
    tracing: bool = False
    """Tracing mode Active."""
    environment: Mapping[str, str] = field(default_factory=dict)
    reserved_concurrency: int | None = None


def functions_of(deployment: Deployment, region: str) -> dict[str, Function]:
    """The region's functions by name. Raises FunctionConfigError with every reason."""
    reasons: list[str] = []
    functions: dict[str, Function] = {}
    for resource in deployment.of_type("AWS::Serverless::Function", region=region):
        function = _function(resource, region, reasons)
        functions[function.name] = function
    if reasons:
        raise FunctionConfigError(reasons)
    return functions


def _function(resource: Resource, region: str, reasons: list[str]) -> Function:
    given = resource.properties
    name = resource.physical_id
    code = Path(str(given.get("CodeUri", "")))
    handler = str(given.get("Handler", ""))
    variables = given.get("Environment", {}).get("Variables", {})
    if not code.is_absolute() or not code.is_dir():
        reasons.append(f"{name}: CodeUri {str(code)!r} is not the absolute path of a folder")
    if "." not in handler:
        reasons.append(f"{name}: Handler {handler!r} is not of the form module.function")
    for key, value in variables.items():
        if not isinstance(value, str):
            reasons.append(f"{name}: environment variable {key} is not text")
        elif _RESERVED.fullmatch(key):
            reasons.append(f"{name}: environment variable {key} is reserved by Lambda")
    arn = resource.attributes.get("Arn") or f"arn:aws:lambda:{region}:111122223333:function:{name}"
    return Function(
        name=name,
        arn=str(arn),
        region=region,
        code=code,
        handler=handler,
        runtime=str(given.get("Runtime", "python3.11")),
        memory_mb=int(given.get("MemorySize", 128)),
        timeout=float(given.get("Timeout", 3)),
        tracing=given.get("Tracing") == "Active",
        environment=dict(variables),
        reserved_concurrency=_optional_int(given.get("ReservedConcurrentExecutions")),
    )


def _optional_int(value: object) -> int | None:
    return None if value is None else int(str(value))


def environment_of(
    function: Function,
    *,
    runtime_api: str,
    runtime_dir: Path,
    log_stream: str,
    xray_daemon: str,
    extra: Mapping[str, str],
) -> dict[str, str]:
    """All environment variables of one execution environment.

    `runtime_api` and `xray_daemon` are host:port; `extra` is the lab's own (certificate authority,
    service endpoints) and wins over the function's. Source: AWS docs "Defined runtime environment
    variables". The developer's own environment is not passed on.
    """
    return {
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": os.defpath,
        **function.environment,
        **extra,
        "PYTHONPATH": str(runtime_dir),
        "LAMBDA_TASK_ROOT": str(function.code),
        "LAMBDA_RUNTIME_DIR": str(runtime_dir),
        "_HANDLER": function.handler,
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
        "AWS_REGION": function.region,
        "AWS_DEFAULT_REGION": function.region,
        "AWS_ACCESS_KEY_ID": "ASIALAB",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_SESSION_TOKEN": "lab",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": xray_daemon,
        "_AWS_XRAY_DAEMON_ADDRESS": xray_daemon.rpartition(":")[0],
        "_AWS_XRAY_DAEMON_PORT": xray_daemon.rpartition(":")[2],
    }
