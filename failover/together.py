"""Runs blocking calls side by side without ever waiting for one that hangs.

The threads are daemons, on purpose: `concurrent.futures` joins its threads at exit, so that one
hanging endpoint would hold up the operator's prompt. The downside is that a call that is left
behind goes on, unheard, until its own time-out.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

WORKERS = 48


class TooLate(Exception):
    """The call had not returned when waiting ended."""


class Batch(Generic[K, V]):
    """Calls that have been started. `results` grows while `wait` is running."""

    def __init__(self, tasks: Mapping[K, Callable[[], V]], workers: int = WORKERS) -> None:
        self._left = queue.SimpleQueue[tuple[K, Callable[[], V]]]()
        self._done = queue.SimpleQueue[tuple[K, V | Exception]]()
        self.keys = tuple(tasks)
        self._expected = len(tasks)
        self.results: dict[K, V | Exception] = {}
        for item in tasks.items():
            self._left.put(item)
        for _ in range(min(workers, len(tasks))):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                key, task = self._left.get_nowait()
            except queue.Empty:
                return
            try:
                self._done.put((key, task()))
            except Exception as error:  # noqa: BLE001 - handed to the waiting thread, as it is
                self._done.put((key, error))

    def wait(
        self,
        timeout: float,
        enough: Callable[[Mapping[K, V | Exception]], bool] | None = None,
    ) -> dict[K, V | Exception]:
        """The results so far: when all are in, or `enough` of them, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while len(self.results) < self._expected and not (enough and enough(self.results)):
            try:
                left = deadline - time.monotonic()
                key, result = self._done.get(timeout=left) if left > 0 else self._done.get_nowait()
            except queue.Empty:
                break
            self.results[key] = result
        return dict(self.results)


def bounded(call: Callable[[], V], timeout: float) -> V:
    """`call()`, or TooLate after `timeout` seconds. For calls whose own time-out has gaps."""
    result = Batch({0: call}).wait(timeout).get(0, TooLate(f"no answer within {timeout:g} s"))
    if isinstance(result, Exception):
        raise result
    return result
