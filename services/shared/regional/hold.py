"""The hold: a standby that serves because the other region is down goes on serving.

An automatic switch (Route 53 health checks) would send users back as soon as the primary answers
its checks again. So the standby watches what it does: when a request reaches it through the
failover name, it asks the other region's deep check itself; if that fails, it publishes `TakeOver`
= 1, the metric with which an operator takes a service over. Its alarm keeps the primary out until
somebody moves the service back. Both must be seen: a request alone may come from a client with an
old DNS answer, and a failed check alone may be our own network.

The metric is one log line in CloudWatch's embedded metric format: no call, no permission, no wait.

Downside: one request in `SECONDS` waits for the check, up to `TIMEOUT`; and where nobody asks,
nobody holds. A standby that is cut off from the primary while a client with an old answer asks it
takes over wrongly; `failover status` shows it.

Sources: CloudWatch user guide, "Embedding metrics within logs", "Specification: Embedded metric
format"; Lambda sends stdout to CloudWatch Logs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

SECONDS = 10.0
"""Between two looks of one execution environment."""
TIMEOUT = 1.0
"""For each part of a look."""


class Settings(NamedTuple):
    """The environment's HOLD, made by the deployment for the standby's functions alone."""

    host: str
    """The failover name."""
    check: str
    """URL of the other region's deep check."""
    namespace: str
    metric: str
    dimensions: dict[str, str]

    @classmethod
    def read(cls, text: str) -> Settings:
        """Raises ValueError or TypeError: a wrong HOLD must not look like a right one."""
        return cls(**json.loads(text))


class Hold:
    """`write` takes a line for stdout; `is_well` asks the other region; `clock` is monotonic."""

    def __init__(
        self,
        settings: Settings,
        write: Callable[[str], object],
        is_well: Callable[[str, float], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._write = write
        self._is_well = is_well or is_well_over_https
        self._clock = clock
        self._due = 0.0

    def served(self, host: str, now_ms: Callable[[], float] = lambda: time.time() * 1000) -> None:
        """To be told of every request, with its Host header."""
        if host.partition(":")[0] != self._settings.host or self._clock() < self._due:
            return
        self._due = self._clock() + SECONDS
        if not self._is_well(self._settings.check, TIMEOUT):
            self._write(json.dumps(taken_over(self._settings, int(now_ms()))) + "\n")
        self._due = self._clock() + SECONDS


def taken_over(settings: Settings, now_ms: int) -> Mapping[str, Any]:
    """The line that makes the metric; it must be a line of its own."""
    return {
        "_aws": {
            "Timestamp": now_ms,
            "CloudWatchMetrics": [
                {
                    "Namespace": settings.namespace,
                    "Dimensions": [list(settings.dimensions)],
                    "Metrics": [{"Name": settings.metric}],
                }
            ],
        },
        **settings.dimensions,
        settings.metric: 1,
        "message": "the other region does not answer; this one holds the service",
    }


def is_well_over_https(url: str, timeout: float) -> bool:
    """200 to 399 over verified TLS, as Route 53's checkers see it but for the certificate."""
    import http.client
    import ssl
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(
        str(parts.hostname), parts.port, timeout=timeout, context=ssl.create_default_context()
    )
    try:
        connection.request("GET", parts.path or "/", headers={"User-Agent": "hold"})
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
