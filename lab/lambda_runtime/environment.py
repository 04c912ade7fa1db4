"""One execution environment: one process with AWS's runtime client, and its Runtime API.

The process asks the Runtime API for the next invocation, works, and posts the result (AWS docs
"Using the Lambda runtime API"). It gets one invocation at a time. A time-out, a crash, an init
error and too much memory end the environment, as they do on Lambda.

The process dies with this one, however this one dies: on Linux by PR_SET_PDEATHSIG, elsewhere
because the runtime client ends when its Runtime API is gone.

Downside: no freezing between invocations (background threads of a function go on running), and the
memory limit looks at the resident size twice a second, so a short peak passes unseen. A process
that the function itself started outlives a kill -9 of the lab.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lab.http1 import HttpServer, Request, encode_response
from lab.lambda_runtime.function import MAX_PAYLOAD_BYTES, Function, environment_of
from lab.lambda_runtime.log import FunctionLog
from lab.lambda_runtime.vpc import BOOTSTRAP

_PREFIX = "/2018-06-01/runtime/"
_JSON = (b"Content-Type", b"application/json")
_ACCEPTED = encode_response(202, (_JSON,), b'{"status":"OK"}\n')
_INIT_SECONDS = 10.0
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


class State(Enum):
    STARTING = "starting"
    FREE = "free"
    BUSY = "busy"
    RETURNING = "returning"
    """It has answered and will ask for the next invocation in a moment."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class InvokeResult:
    """What Lambda's Invoke answers.

    `status_code` 200 also when the function failed: then `function_error` is "Unhandled" and the
    payload describes the error. 404, 413 and 429 mean that no function ran.
    """

    status_code: int
    payload: bytes
    function_error: str | None = None


class Invocation:
    """One invocation on its way."""

    __slots__ = ("deadline", "delay", "payload", "request_id", "result", "started", "trace")

    def __init__(self, request_id: str, payload: bytes, trace: str, delay: float = 0.0) -> None:
        self.request_id = request_id
        self.payload = payload
        self.trace = trace
        self.delay = delay
        """Seconds to hold it inside the environment first (a fault)."""
        self.started = 0.0
        self.deadline = 0.0
        self.result: asyncio.Future[InvokeResult] = asyncio.get_running_loop().create_future()

    def finish(self, result: InvokeResult) -> None:
        if not self.result.done():
            self.result.set_result(result)


def function_error(error_type: str, message: str) -> InvokeResult:
    payload = {"errorType": error_type, "errorMessage": message}
    return InvokeResult(200, json.dumps(payload).encode(), "Unhandled")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all environments of a service share."""

    host: str
    """Where the Runtime API listens."""
    runtime_dir: Path
    xray_daemon: str
    extra_environment: Mapping[str, str]


class ExecutionEnvironment:
    """`on_free` is called whenever it waits for work, `on_stopped` once, with the init error if
    it never got that far."""

    def __init__(
        self,
        function: Function,
        log: FunctionLog,
        surroundings: Surroundings,
        on_free: Callable[[ExecutionEnvironment], None],
        on_stopped: Callable[[ExecutionEnvironment, InvokeResult | None], None],
    ) -> None:
        self.function = function
        self.state = State.STARTING
        self.idle_since = 0.0
        self.pid = 0
        self._log = log
        self._surroundings = surroundings
        self._on_free = on_free
        self._on_stopped = on_stopped
        self._server = HttpServer(
            self._on_request, max_body_bytes=MAX_PAYLOAD_BYTES + 2**20, idle_seconds=float("inf")
        )
        self._loop = asyncio.get_running_loop()
        self._next: Request | None = None
        self._invocation: Invocation | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._init_error: InvokeResult | None = None
        self._born = time.monotonic()
        self._init_duration: float | None = None
        self._max_memory_mb = 0

    async def start(self) -> None:
        """Start the process. `on_free` follows when its init phase is over. Raises OSError."""
        port = await self._server.start(self._surroundings.host, 0)
        stream = time.strftime("%Y/%m/%d/[$LATEST]", time.gmtime()) + os.urandom(16).hex()
        environment = environment_of(
            self.function,
            runtime_api=f"{self._surroundings.host}:{port}",
            runtime_dir=self._surroundings.runtime_dir,
            log_stream=stream,
            xray_daemon=self._surroundings.xray_daemon,
            extra=self._surroundings.extra_environment,
        )
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-S", "-m", BOOTSTRAP, self.function.handler,
                cwd=self.function.code,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=self._log.descriptor,
                stderr=self._log.descriptor,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
            )  # fmt: skip
        except BaseException:
            await self._server.close()
            raise
        self.pid = self._process.pid
        self._watcher = asyncio.create_task(self._watch(self._process))
        if self._next is None:
            self._timer = self._loop.call_later(
                max(_INIT_SECONDS, self.function.timeout), self._init_timed_out
            )

    async def stop(self) -> None:
        """Kill the process and wait for its end."""
        self.state = State.STOPPED
        self._kill()
        if self._watcher is not None:
            await self._watcher

    def dispatch(self, invocation: Invocation) -> None:
        """Give it work; it must be FREE."""
        assert self.state is State.FREE
        self.state = State.BUSY
        self._invocation = invocation
        now = time.time()
        invocation.started = now
        invocation.deadline = now + self.function.timeout
        self._timer = self._loop.call_later(self.function.timeout, self._timed_out)
        if invocation.delay > 0:
            self._loop.call_later(invocation.delay, self._deliver, invocation)
        else:
            self._deliver(invocation)

    @property
    def needs_memory_check(self) -> bool:
        """Busy, or never looked at."""
        return self.state is State.BUSY or (self.state is State.FREE and not self._max_memory_mb)

    def check_memory(self) -> None:
        """Look at the process's resident size; end it when it is above the function's memory."""
        try:
            statm = Path(f"/proc/{self.pid}/statm").read_text()
        except OSError:
            return  # it has ended, or this system has no /proc
        resident_mb = int(int(statm.split()[1]) * _PAGE_MB)
        self._max_memory_mb = max(self._max_memory_mb, resident_mb)
        if resident_mb > self.function.memory_mb:
            self._kill()

    # --- the Runtime API

    def _deliver(self, invocation: Invocation) -> None:
        if self._next is None or self._invocation is not invocation:
            return
        request, self._next = self._next, None
        self._log.start(invocation.request_id)
        body = invocation.payload
        request.respond(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Lambda-Runtime-Aws-Request-Id: %b\r\nLambda-Runtime-Deadline-Ms: %d\r\n"
            b"Lambda-Runtime-Invoked-Function-Arn: %b\r\nLambda-Runtime-Trace-Id: %b\r\n"
            b"Content-Length: %d\r\n\r\n%b"
            % (
                invocation.request_id.encode(),
                invocation.deadline * 1000,
                self.function.arn.encode(),
                invocation.trace.encode(),
                len(body),
                body,
            )
        )

    def _on_request(self, request: Request) -> None:
        path = request.target.decode("latin-1")
        if not path.startswith(_PREFIX):
            request.respond(encode_response(404, (), b""))
            return
        action = path[len(_PREFIX) :].split("/")
        match (request.method, action):
            case ("GET", ["invocation", "next"]):
                self._on_next(request)
            case ("POST", ["invocation", request_id, "response"]):
                self._on_result(request, request_id, failed=False)
            case ("POST", ["invocation", request_id, "error"]):
                self._on_result(request, request_id, failed=True)
            case ("POST", ["init", "error"]):
                self._init_error = InvokeResult(200, request.body, "Unhandled")
                request.respond(_ACCEPTED)
            case _:
                request.respond(encode_response(404, (), b""))

    def _on_next(self, request: Request) -> None:
        self._next = request
        if self.state is State.STARTING:
            self._cancel_timer()
            self._init_duration = time.monotonic() - self._born
        elif self.state is not State.RETURNING:
            return  # stopped; or asked again before it answered, which the time-out will end
        self.state = State.FREE
        self.idle_since = self._loop.time()
        self._on_free(self)

    def _on_result(self, request: Request, request_id: str, *, failed: bool) -> None:
        invocation = self._invocation
        if invocation is None or invocation.request_id != request_id:
            body = b'{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}'
            request.respond(encode_response(400, (_JSON,), body))
            return
        request.respond(_ACCEPTED)
        if len(request.body) > MAX_PAYLOAD_BYTES:
            result = function_error(
                "Function.ResponseSizeTooLarge",
                "Response payload size exceeded maximum allowed payload size "
                f"({MAX_PAYLOAD_BYTES} bytes).",
            )
        else:
            result = InvokeResult(200, request.body, "Unhandled" if failed else None)
        self._finish(invocation, result)

    def _finish(self, invocation: Invocation, result: InvokeResult, status: str = "") -> None:
        self._cancel_timer()
        self._invocation = None
        if self.state is State.BUSY:
            self.state = State.RETURNING
        invocation.finish(result)
        self._log.end(
            invocation.request_id,
            time.time() - invocation.started,
            self.function.memory_mb,
            max_memory_mb=self._max_memory_mb,
            init_duration=self._init_duration,
            status=status,
        )
        self._init_duration = None

    # --- how it can end

    def _timed_out(self) -> None:
        invocation = self._invocation
        if invocation is None:
            return
        message = f"Task timed out after {self.function.timeout:.2f} seconds"
        error = function_error(
            "Sandbox.Timedout", f"RequestId: {invocation.request_id} Error: {message}"
        )
        self._log.write(f"{_iso_now()} {invocation.request_id} {message}\n\n")
        self.state = State.STOPPED
        self._finish(invocation, error, "Status: timeout")
        self._kill()

    def _init_timed_out(self) -> None:
        seconds = max(_INIT_SECONDS, self.function.timeout)
        self._init_error = function_error(
            "Sandbox.Timedout", f"Error: Task timed out after {seconds:.2f} seconds"
        )
        self._log.write(f"INIT_REPORT Phase: init Status: timeout ({seconds:.2f} s)\n")
        self._kill()

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        was_starting = self.state is State.STARTING
        self.state = State.STOPPED
        self._cancel_timer()
        self._kill()  # what the function itself may have started
        self._server.abort()
        if self._invocation is not None:
            invocation = self._invocation
            error = function_error(
                "Runtime.ExitError", f"RequestId: {invocation.request_id} Error: {_reason(code)}"
            )
            self._finish(invocation, error, "Status: error\tError Type: Runtime.ExitError")
        init_error = None
        if was_starting:
            init_error = self._init_error or function_error(
                "Runtime.ExitError", f"Error: {_reason(code)}"
            )
        self._on_stopped(self, init_error)

    def _kill(self) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _die_with(parent: int) -> Callable[[], None]:
    """What the child does before it becomes the runtime client (after fork, before exec)."""

    def prepare() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def _reason(code: int) -> str:
    """How Lambda words the end of a process. `code` as in subprocess: negative for a signal."""
    if code < 0:
        names = {signal.SIGKILL: "killed", signal.SIGSEGV: "segmentation fault"}
        name = names.get(signal.Signals(-code), signal.Signals(-code).name.lower())
        return f"Runtime exited with error: signal: {name}"
    if code > 0:
        return f"Runtime exited with error: exit status {code}"
    return "Runtime exited without providing a reason"


def _iso_now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
