"""X-Ray tracing by the aws-xray-sdk, which is imported only when a request is really sampled.

Lambda itself makes the segment of each invocation and says in `_X_AMZN_TRACE_ID` whether it is
sampled; the SDK adds subsegments below it. So: outside Lambda, and for a request that is not
sampled, nothing is imported and nothing is done. The first sampled request of an execution
environment pays for the import, once. Only the libraries that the service names are patched, and
patched then.

Tracing never fails a request: any error of the SDK is logged once and ends tracing in this
execution environment.

Downside: a connection that a library opened before the first sampled request is not traced by its
patch; `Tracer.span` round the call is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_LAMBDA = "LAMBDA_TASK_ROOT"
_TRACE = "_X_AMZN_TRACE_ID"


class Tracer:
    """Begins and ends subsegments of the current invocation.

    `patch`: modules that the SDK knows how to patch, for example `("pymysql",)`.
    """

    def __init__(self, logger: logging.Logger, patch: Sequence[str] = ()) -> None:
        self._log = logger
        self._patch = tuple(patch)
        self._recorder: Any = None
        self._enabled = _LAMBDA in os.environ

    @property
    def sampled(self) -> bool:
        """Whether subsegments of the current invocation are recorded."""
        return self._enabled and "Sampled=1" in os.environ.get(_TRACE, "")

    def begin(self, name: str, namespace: str = "local") -> Any:
        """Begins a subsegment and returns it; None when there is none to end."""
        if not self.sampled:
            return None
        try:
            if self._recorder is None:
                from regional import xray

                self._recorder = xray.load(self._patch)
            return self._recorder.begin_subsegment(name, namespace)
        except Exception as error:  # noqa: BLE001  tracing never fails a request
            self._give_up(error)
            return None

    def end(self, subsegment: Any, failed: bool = False, **annotations: str | int) -> None:
        """Ends what `begin` returned and sends it. `failed`: mark it as a fault."""
        if subsegment is None or not self._enabled:
            return
        try:
            for key, value in annotations.items():
                subsegment.put_annotation(key, value)
            if failed:
                subsegment.add_fault_flag()
            self._recorder.end_subsegment()
        except Exception as error:  # noqa: BLE001  tracing never fails a request
            self._give_up(error)

    @contextmanager
    def span(self, name: str, namespace: str = "local") -> Iterator[None]:
        """Records what runs inside as a subsegment; a fault when it raises.

        `namespace`: "remote" for a call to another system.
        """
        subsegment = self.begin(name, namespace)
        failed = True
        try:
            yield
            failed = False
        finally:
            self.end(subsegment, failed)

    def _give_up(self, error: Exception) -> None:
        self._enabled = False
        self._log.warning("tracing is off in this execution environment: %r", error)
