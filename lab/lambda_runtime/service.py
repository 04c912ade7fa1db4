"""`LambdaService`: the functions of one region, their execution environments and the scaling.

A free environment is used again, the one used last first; only when none is free a new one is
started, up to a limit; at the limit an invocation waits a bounded time for a free one.

Two choices of the lab, where Lambda differs: the limit per function is small (a laptop has few
cores; Lambda's is 1,000 per account and region, or the reserved concurrency), and the wait
(`queue_wait`; Lambda throttles at once; 0 does so here too).

Downside: all environments of a region are watched by one event loop, which is the first thing to
become busy (at some 10,000 invocations a second).
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections import Counter, deque
from collections.abc import Coroutine, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.lambda_runtime.environment import (
    ExecutionEnvironment,
    Invocation,
    InvokeResult,
    State,
    Surroundings,
    function_error,
)
from lab.lambda_runtime.function import MAX_PAYLOAD_BYTES, Function, functions_of
from lab.lambda_runtime.log import FunctionLog
from lab.lambda_runtime.runtime_dir import make_runtime_dir
from lab.lambda_runtime.vpc import VpcNames, install
from lab.lambda_runtime.xray import TraceSampler, XRayDaemon
from lab.model import Deployment
from lab.settings import Profile

_HOUSEKEEPING_SECONDS = 0.5
_XRAY_PORT = 2000


@dataclass(frozen=True, slots=True)
class LambdaSettings:
    """Knobs."""

    concurrency: int = 4
    """Execution environments of one function, unless it has a reserved concurrency."""
    queue_wait: float = 10.0
    """Seconds an invocation waits for a free environment at the limit, before it is throttled."""
    trace_all: bool = False
    """Trace every invocation of a function with active tracing instead of Lambda's sample."""


@dataclass(frozen=True, slots=True)
class FunctionFault:
    """A bad day of one function."""

    delay_seconds: float = 0.0
    error_rate: float = 0.0
    throttle: bool = False


def _refusal(status: int, error: Mapping[str, Any]) -> InvokeResult:
    return InvokeResult(status, json.dumps(error).encode())


class LambdaService:
    """All functions of `region` in `deployment`.

    `work_dir` gets the logs (`<function>.log`) and the folder of runtime modules; `host` is the
    region's address; `extra_environment` is given to every function; `vpc` is how all of them
    resolve names. Raises FunctionConfigError.
    """

    def __init__(
        self,
        region: str,
        deployment: Deployment,
        profile: Profile,
        *,
        work_dir: Path,
        host: str = "127.0.0.1",
        xray_port: int = _XRAY_PORT,
        extra_environment: Mapping[str, str] | None = None,
        vpc: VpcNames | None = None,
        settings: LambdaSettings | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.region = region
        self._profile = profile
        self._settings = settings or LambdaSettings()
        self._functions = functions_of(deployment, region)
        self._work_dir = work_dir.absolute()
        self._host = host
        self._xray_port = xray_port
        self._extra = dict(extra_environment or {})
        self._vpc = vpc or VpcNames()
        self._rng = rng or random.Random()  # noqa: S311 (faults and sampling, no secrets)
        self._daemon: XRayDaemon | None = None
        self._pools: dict[str, _Pool] = {}
        self._housekeeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen for trace segments and make ready; no process is started (see `prewarm`).

        Raises OSError if the X-Ray port is taken or the folder can not be written.
        """
        runtime_dir = make_runtime_dir(self._work_dir / "runtime")
        install(runtime_dir, self._vpc)
        self._daemon = await XRayDaemon.start(self._host, self._xray_port)
        surroundings = Surroundings(self._host, runtime_dir, self._daemon.address, self._extra)
        for function in self._functions.values():
            log = FunctionLog(self.log_of(function.name))
            sampler = TraceSampler(self._rng, everything=self._settings.trace_all)
            self._pools[function.name] = _Pool(
                function, log, surroundings, self._settings, sampler, self._rng
            )
        self._keep_house()

    def log_of(self, function: str) -> Path:
        """The file that stands for a function's log group."""
        return self._work_dir / "logs" / f"{function}.log"

    async def close(self) -> None:
        """Kill all processes and wait for their end. Invocations under way fail."""
        if self._housekeeper is not None:
            self._housekeeper.cancel()
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))
        if self._daemon is not None:
            self._daemon.close()

    async def prewarm(self, names: list[str] | None = None) -> None:
        """Have one environment of each function (all by default) waiting for work.

        Does not fail when an init does: the first invocation will tell.
        """
        await asyncio.gather(*(self._pools[n].prewarm() for n in names or self._pools))

    async def invoke(
        self, name: str, payload: bytes, *, trace_header: str | None = None
    ) -> InvokeResult:
        """Run a function, by name or (qualified) ARN, and wait for its result.

        `trace_header`: the caller's X-Amzn-Trace-Id. Cancelling does not stop the function.
        """
        pool = self._find(name)
        if pool is None:
            return _refusal(404, {"Type": "User", "Message": f"Function not found: {name}"})
        if len(payload) > MAX_PAYLOAD_BYTES:
            message = (
                f"{len(payload)} byte payload is too large for the RequestResponse invocation type "
                f"(limit {MAX_PAYLOAD_BYTES} bytes)"
            )
            return _refusal(413, {"Type": "User", "message": message})
        return await pool.invoke(payload, trace_header)

    def set_function_fault(
        self, name: str, delay_seconds: float = 0, error_rate: float = 0, throttle: bool = False
    ) -> None:
        """Make a function slow (in seconds, before it runs; its time-out counts), failing (share
        of invocations, 0 to 1) or throttled. All zero ends the fault. Raises KeyError."""
        self._pools[name].fault = FunctionFault(delay_seconds, error_rate, throttle)

    def clear_faults(self) -> None:
        """End the faults of all functions."""
        for pool in self._pools.values():
            pool.fault = FunctionFault()

    def status(self) -> dict[str, Any]:
        """Per function: processes by state, counters; and the trace segments received."""
        return {
            "functions": {name: pool.status() for name, pool in self._pools.items()},
            "xray_segments": self._daemon.segments if self._daemon else 0,
        }

    def _find(self, name: str) -> _Pool | None:
        pool = self._pools.get(name)
        if pool is None and name.startswith("arn:"):
            pool = self._pools.get(name.split(":")[6])
        return pool

    def _keep_house(self) -> None:
        for pool in self._pools.values():
            pool.keep_house(self._profile.function_idle)
        loop = asyncio.get_running_loop()
        self._housekeeper = loop.call_later(_HOUSEKEEPING_SECONDS, self._keep_house)


class _Pool:
    """The execution environments of one function."""

    def __init__(
        self,
        function: Function,
        log: FunctionLog,
        surroundings: Surroundings,
        settings: LambdaSettings,
        sampler: TraceSampler,
        rng: random.Random,
    ) -> None:
        self.function = function
        self.fault = FunctionFault()
        self._log = log
        self._surroundings = surroundings
        self._queue_wait = settings.queue_wait
        self._sampler = sampler
        self._rng = rng
        reserved = function.reserved_concurrency
        self._limit = settings.concurrency if reserved is None else reserved
        self._all: set[ExecutionEnvironment] = set()
        self._free: list[ExecutionEnvironment] = []
        self._waiting: deque[Invocation] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._warmed = asyncio.Event()
        self._counts: Counter[str] = Counter()
        self._closed = False

    async def invoke(self, payload: bytes, trace_header: str | None) -> InvokeResult:
        self._counts["invocations"] += 1
        fault = self.fault
        if fault.throttle or self._limit == 0:
            result = self._throttled()
        elif self._closed:
            result = function_error("Lab.Closed", "the lab is closing")
        elif fault.error_rate and self._rng.random() < fault.error_rate:
            result = function_error("Lab.Fault", "this function is told to fail")
        else:
            trace = self._sampler.header(time.time(), trace_header, active=self.function.tracing)
            result = await self._run(
                Invocation(str(uuid.uuid4()), payload, trace, fault.delay_seconds)
            )
        if result.status_code == 429:
            self._counts["throttled"] += 1
        elif result.function_error:
            self._counts["errors"] += 1
        return result

    async def prewarm(self) -> None:
        if not self._all and self._limit > 0 and not self._closed:
            self._warmed.clear()
            self._scale_out()
            await self._warmed.wait()

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*self._tasks)
        await asyncio.gather(*(e.stop() for e in tuple(self._all)))
        while self._waiting:
            self._waiting.popleft().finish(function_error("Lab.Closed", "the lab is closing"))
        self._log.close()

    def keep_house(self, idle_seconds: float) -> None:
        """Look at memory; shut down what has been idle for so long."""
        self._log.trim()
        limit = asyncio.get_running_loop().time() - idle_seconds
        for environment in tuple(self._all):
            if environment.state is State.FREE and environment.idle_since < limit:
                self._free.remove(environment)
                self._start_task(environment.stop())
            elif environment.needs_memory_check:
                environment.check_memory()

    def status(self) -> dict[str, Any]:
        fault = self.fault
        return {
            "environments": dict(Counter(e.state.value for e in self._all)),
            "pids": sorted(e.pid for e in self._all if e.pid),
            "waiting": len(self._waiting),
            "fault": None if fault == FunctionFault() else asdict(fault),
            **self._counts,
        }

    # --- scaling

    async def _run(self, invocation: Invocation) -> InvokeResult:
        if self._free:
            self._free.pop().dispatch(invocation)
            return await invocation.result
        self._waiting.append(invocation)
        if not self._scale_out_if_short() and self._queue_wait <= 0:
            self._waiting.remove(invocation)
            return self._throttled()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._queue_wait, self._give_up, invocation)
        try:
            return await invocation.result
        finally:
            timer.cancel()

    def _scale_out_if_short(self) -> bool:
        """Start an environment if more wait than will be free in a moment. False: at the limit."""
        coming = sum(e.state in (State.STARTING, State.RETURNING) for e in self._all)
        if coming >= len(self._waiting):
            return True
        if len(self._all) >= self._limit:
            return False
        self._scale_out()
        return True

    def _scale_out(self) -> None:
        environment = ExecutionEnvironment(
            self.function, self._log, self._surroundings, self._on_free, self._on_stopped
        )
        self._all.add(environment)
        self._counts["cold_starts"] += 1
        self._start_task(self._start(environment))

    async def _start(self, environment: ExecutionEnvironment) -> None:
        try:
            await environment.start()
        except OSError as error:
            self._on_stopped(environment, function_error("Lab.CannotStart", str(error)))

    def _give_up(self, invocation: Invocation) -> None:
        """Throttle what has waited too long; not while an environment is being started for it."""
        if invocation not in self._waiting:
            return
        if any(e.state is State.STARTING for e in self._all):
            loop = asyncio.get_running_loop()
            loop.call_later(max(self._queue_wait, 0.1), self._give_up, invocation)
        else:
            self._waiting.remove(invocation)
            invocation.finish(self._throttled())

    def _on_free(self, environment: ExecutionEnvironment) -> None:
        self._warmed.set()
        invocation = self._next_waiting()
        if invocation is None:
            self._free.append(environment)
        else:
            environment.dispatch(invocation)

    def _on_stopped(
        self, environment: ExecutionEnvironment, init_error: InvokeResult | None
    ) -> None:
        self._warmed.set()
        self._all.discard(environment)
        if environment in self._free:
            self._free.remove(environment)
        if init_error is not None and (invocation := self._next_waiting()) is not None:
            invocation.finish(init_error)
        if self._waiting and not self._closed:
            self._scale_out_if_short()

    def _next_waiting(self) -> Invocation | None:
        while self._waiting:
            invocation = self._waiting.popleft()
            if not invocation.result.done():
                return invocation
        return None

    def _throttled(self) -> InvokeResult:
        reserved = self.function.reserved_concurrency is not None
        return _refusal(
            429,
            {
                "Reason": f"{'Reserved' if reserved else ''}"
                f"{'FunctionConcurrent' if reserved else 'Concurrent'}InvocationLimitExceeded",
                "Type": "User",
                "message": "Rate Exceeded.",
            },
        )

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
