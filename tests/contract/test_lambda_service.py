"""Functions run by AWS's own runtime client: results, scaling, and every way to end badly."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback_networks import free_network

from lab.lambda_runtime import InvokeResult, LambdaService, LambdaSettings
from lab.model import Deployment, Resource
from lab.settings import PROFILES, Profile

HOST = f"{free_network()}.1.10"
CODE = """
import json, os, socket, sys, time

STARTED = time.time()

def handler(event, context):
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "exit" in event:
        os._exit(event["exit"])
    if "signal" in event:
        os.kill(os.getpid(), event["signal"])
    if "fail" in event:
        raise ValueError(event["fail"])
    if "size" in event:
        return "x" * event["size"]
    if "memory" in event:
        held = bytearray(event["memory"] * 2**20)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(5)
    if "segment" in event:
        host, _, port = os.environ["AWS_XRAY_DAEMON_ADDRESS"].partition(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b'{"format": "json", "version": 1}\\n{}', (host, int(port)))
    if "import" in event:
        __import__(event["import"])
    print("hello from", context.aws_request_id)
    return {
        "event": event,
        "pid": os.getpid(),
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
        "arn": context.invoked_function_arn,
        "remaining": context.get_remaining_time_in_millis(),
    }
"""


def deployment(folder: Path, **properties: Any) -> Deployment:
    """Functions `f` and `broken` (whose module can not be imported)."""
    folder.mkdir(exist_ok=True)
    (folder / "app.py").write_text(textwrap.dedent(CODE))
    resources = []
    for name, handler in (("f", "app.handler"), ("broken", "missing.handler")):
        given = {"CodeUri": str(folder), "Handler": handler, "Timeout": 5, **properties}
        arn = f"arn:aws:lambda:us-east-1:111122223333:function:{name}"
        resources.append(
            Resource("s", "us-east-1", name, "AWS::Serverless::Function", name, given, {"Arn": arn})
        )
    return Deployment(tuple(resources), {})


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


@asynccontextmanager
async def running(
    tmp_path: Path,
    settings: LambdaSettings | None = None,
    profile: Profile = PROFILES["fast"],
    extra: dict[str, str] | None = None,
    **properties: Any,
) -> AsyncIterator[LambdaService]:
    service = LambdaService(
        "us-east-1",
        deployment(tmp_path / "package", **properties),
        profile,
        work_dir=tmp_path / "work",
        host=HOST,
        xray_port=free_udp_port(),
        extra_environment=extra,
        settings=settings or LambdaSettings(),
    )
    await service.start()
    try:
        yield service
    finally:
        await service.close()


async def call(service: LambdaService, event: Any, name: str = "f", **options: Any) -> InvokeResult:
    return await service.invoke(name, json.dumps(event).encode(), **options)


def error_of(result: InvokeResult) -> tuple[str, str]:
    """(type, message) without the request id."""
    assert (result.status_code, result.function_error) == (200, "Unhandled")
    error = json.loads(result.payload)
    return error["errorType"], error["errorMessage"].rpartition("Error: ")[2]


def pids(service: LambdaService) -> list[int]:
    found = service.status()["functions"]["f"]["pids"]
    assert isinstance(found, list)
    return found


def counts(service: LambdaService) -> dict[str, Any]:
    found = service.status()["functions"]["f"]
    assert isinstance(found, dict)
    return found


async def gone(pid: int) -> None:
    """Wait until there is no such process."""
    await until(lambda: _has_ended(pid))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody tells about."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _has_ended(pid: int) -> bool:
    """It is gone, or a zombie that its parent has not looked after yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# --- results


async def test_function_runs_as_on_lambda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSTARTUP", "mine")
    async with running(tmp_path, extra={"SSL_CERT_FILE": "ca.pem"}, Tracing="Active") as service:
        result = await call(service, {"a": "ü"})
        answer = json.loads(result.payload)
        assert (result.status_code, result.function_error) == (200, None)
        assert answer["event"] == {"a": "ü"}
        assert answer["cwd"] == str(tmp_path / "package")
        assert answer["arn"] == "arn:aws:lambda:us-east-1:111122223333:function:f"
        assert 4000 < answer["remaining"] <= 5000
        environment = answer["environment"]
        assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "f"
        assert environment["SSL_CERT_FILE"] == "ca.pem"
        assert environment["_X_AMZN_TRACE_ID"].endswith("Sampled=1")
        assert "PYTHONSTARTUP" not in environment
        log = (tmp_path / "work" / "logs" / "f.log").read_text()
        assert log.startswith("START RequestId: ")
        assert "hello from" in log
        assert "Init Duration:" in log


async def test_package_sees_the_runtime_and_not_the_developers_modules(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        assert (await call(service, {"import": "urllib3"})).function_error is None
        for module in ("pytest", "chalice", "lab"):
            error_type, message = error_of(await call(service, {"import": module}))
            assert (error_type, message) == (
                "ModuleNotFoundError",
                f"No module named '{module}'",
            )


async def test_arn_and_trace_are_accepted(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        arn = "arn:aws:lambda:us-east-1:111122223333:function:f"
        for name in (arn, arn + ":$LATEST"):
            result = await call(service, {}, name, trace_header="Root=1-a-b;Sampled=1")
            trace = json.loads(result.payload)["environment"]["_X_AMZN_TRACE_ID"]
            assert trace.startswith("Root=1-a-b;Parent=")


async def test_trace_segments_are_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        await call(service, {"segment": 1})
        await call(service, {})
        assert service.status()["xray_segments"] == 1


async def test_refusals_run_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        assert (await call(service, {}, "nobody")).status_code == 404
        assert (await service.invoke("f", b"x" * 6_291_557)).status_code == 413
        assert pids(service) == []


async def test_too_large_an_answer_is_the_functions_error(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        error_type, message = error_of(await call(service, {"size": 6_291_557}))
        assert error_type == "Function.ResponseSizeTooLarge"
        assert "6291556" in message
        assert (await call(service, {"size": 6_291_500})).function_error is None


# --- scaling


async def test_warm_environment_is_used_again(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        seen = {json.loads((await call(service, {})).payload)["pid"] for _ in range(10)}
        assert len(seen) == 1
        assert counts(service)["cold_starts"] == 1


async def test_prewarm_starts_one_of_each_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        await service.prewarm()
        assert counts(service)["environments"] == {"free": 1}
        assert (await call(service, {})).status_code == 200
        assert counts(service)["cold_starts"] == 1


async def test_one_request_per_process_and_scaling_to_the_limit(tmp_path: Path) -> None:
    async with running(tmp_path, LambdaSettings(concurrency=3)) as service:
        results = await asyncio.gather(*(call(service, {"sleep": 0.15}) for _ in range(9)))
        assert [r.status_code for r in results] == [200] * 9
        assert len({json.loads(r.payload)["pid"] for r in results}) == 3
        assert len(pids(service)) == 3


@pytest.mark.parametrize(
    ("reserved", "reason"),
    [
        (None, "ConcurrentInvocationLimitExceeded"),
        (1, "ReservedFunctionConcurrentInvocationLimitExceeded"),
    ],
)
async def test_throttled_at_the_limit(tmp_path: Path, reserved: int | None, reason: str) -> None:
    properties = {} if reserved is None else {"ReservedConcurrentExecutions": reserved}
    settings = LambdaSettings(concurrency=1, queue_wait=0)
    async with running(tmp_path, settings, **properties) as service:
        results = await asyncio.gather(*(call(service, {"sleep": 0.2}) for _ in range(3)))
        assert sorted(r.status_code for r in results) == [200, 429, 429]
        refused = next(r for r in results if r.status_code == 429)
        assert json.loads(refused.payload)["Reason"] == reason
        assert counts(service)["throttled"] == 2


async def test_wait_at_the_limit_is_bounded(tmp_path: Path) -> None:
    settings = LambdaSettings(concurrency=1, queue_wait=0.2)
    async with running(tmp_path, settings) as service:
        await service.prewarm(["f"])
        results = await asyncio.gather(
            call(service, {"sleep": 0.6}), call(service, {}), call(service, {})
        )
        assert [r.status_code for r in results] == [200, 429, 429]


async def test_reserved_concurrency_zero_is_always_throttled(tmp_path: Path) -> None:
    async with running(tmp_path, ReservedConcurrentExecutions=0) as service:
        await service.prewarm()
        assert (await call(service, {})).status_code == 429


async def test_idle_environment_is_shut_down(tmp_path: Path) -> None:
    profile = replace(PROFILES["fast"], function_idle=0.1)
    async with running(tmp_path, profile=profile) as service:
        first = json.loads((await call(service, {})).payload)["pid"]
        await gone(first)
        await until(lambda: not pids(service))
        assert json.loads((await call(service, {})).payload)["pid"] != first


async def test_caller_that_gives_up_does_not_stop_the_function(tmp_path: Path) -> None:
    async with running(tmp_path, LambdaSettings(concurrency=1)) as service:
        await service.prewarm(["f"])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await call(service, {"sleep": 0.3})
        assert (await call(service, {})).status_code == 200
        assert counts(service)["cold_starts"] == 1


# --- bad ends


async def test_exception_of_the_function(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        assert error_of(await call(service, {"fail": "no"})) == ("ValueError", "no")
        assert (await call(service, {})).function_error is None
        assert counts(service)["cold_starts"] == 1


async def test_time_out_kills_the_process(tmp_path: Path) -> None:
    async with running(tmp_path, Timeout=1) as service:
        await service.prewarm(["f"])
        (pid,) = pids(service)
        assert error_of(await call(service, {"sleep": 30})) == (
            "Sandbox.Timedout",
            "Task timed out after 1.00 seconds",
        )
        await gone(pid)
        assert (await call(service, {})).function_error is None
        assert counts(service)["cold_starts"] == 2


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"exit": 3}, "Runtime exited with error: exit status 3"),
        ({"exit": 0}, "Runtime exited without providing a reason"),
        ({"signal": signal.SIGKILL}, "Runtime exited with error: signal: killed"),
        ({"signal": signal.SIGSEGV}, "Runtime exited with error: signal: segmentation fault"),
    ],
)
async def test_crash(tmp_path: Path, event: Any, reason: str) -> None:
    async with running(tmp_path) as service:
        assert error_of(await call(service, event)) == ("Runtime.ExitError", reason)
        assert (await call(service, {})).function_error is None


async def test_too_much_memory_ends_it(tmp_path: Path) -> None:
    async with running(tmp_path, MemorySize=64) as service:
        assert error_of(await call(service, {"memory": 100})) == (
            "Runtime.ExitError",
            "Runtime exited with error: signal: killed",
        )


async def test_init_error_is_the_answer_of_each_invocation(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        await service.prewarm()
        for _ in range(2):
            error_type, message = error_of(await call(service, {}, "broken"))
            assert error_type == "Runtime.ImportModuleError"
            assert "Unable to import module 'missing'" in message


# --- faults


async def test_faults_and_their_end(tmp_path: Path) -> None:
    async with running(tmp_path, Timeout=1) as service:
        await call(service, {})
        service.set_function_fault("f", throttle=True)
        assert (await call(service, {})).status_code == 429
        service.set_function_fault("f", error_rate=1)
        assert (await call(service, {})).function_error == "Unhandled"
        service.set_function_fault("f", delay_seconds=0.3)
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert (await call(service, {})).function_error is None
        assert loop.time() - started >= 0.29
        service.set_function_fault("f", delay_seconds=9)
        assert error_of(await call(service, {}))[0] == "Sandbox.Timedout"
        service.clear_faults()
        assert (await call(service, {})).function_error is None
        with pytest.raises(KeyError):
            service.set_function_fault("nobody")


# --- nothing is left behind


async def test_close_leaves_no_process(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        await asyncio.gather(*(call(service, {"sleep": 0.05}) for _ in range(3)))
        waiting = asyncio.create_task(call(service, {"sleep": 30}))
        await asyncio.sleep(0)
        left = pids(service)
    assert (await waiting).function_error == "Unhandled"
    assert all(_has_ended(pid) for pid in left)


PARENT = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = {tests!r}
from test_lambda_service import call, pids, running

async def main():
    async with running(Path({folder!r})) as service:
        await service.prewarm(["f"])
        busy = asyncio.create_task(call(service, {{"sleep": 60}}))
        await asyncio.sleep(0)
        await asyncio.gather(call(service, {{}}), return_exceptions=True)
        print(*pids(service), flush=True)
        await busy

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_kill_9_of_the_parent_leaves_no_child(tmp_path: Path) -> None:
    here = Path(__file__).parent
    code = PARENT.format(tests=[str(here), str(here.parent)], folder=str(tmp_path))
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    line = await asyncio.wait_for(parent.stdout.readline(), 20)
    children = [int(pid) for pid in line.split()]
    assert len(children) == 2
    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()
    for child in children:
        await gone(child)
