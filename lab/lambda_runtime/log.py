"""A function's log: one file that stands for its CloudWatch log group.

The processes write straight into it; START, END and REPORT lines come from here, in Lambda's
format (AWS docs "Using CloudWatch Logs with Lambda").

Downside: all execution environments share the file, so lines of concurrent requests interleave;
and the file is emptied when it grows above `MAX_BYTES`.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

MAX_BYTES = 32 * 2**20


class FunctionLog:
    def __init__(self, path: Path) -> None:
        """Opens for appending; makes the folder. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self.descriptor = os.open(path, flags, 0o644)

    def start(self, request_id: str) -> None:
        self.write(f"START RequestId: {request_id} Version: $LATEST\n")

    def end(
        self,
        request_id: str,
        duration: float,
        memory_mb: int,
        *,
        max_memory_mb: int,
        init_duration: float | None = None,
        status: str = "",
    ) -> None:
        """`duration` and `init_duration` in seconds; `init_duration` only for a cold start."""
        milliseconds = duration * 1000
        init = "" if init_duration is None else f"Init Duration: {init_duration * 1000:.2f} ms\t"
        self.write(
            f"END RequestId: {request_id}\n"
            f"REPORT RequestId: {request_id}\tDuration: {milliseconds:.2f} ms\t"
            f"Billed Duration: {math.ceil(milliseconds)} ms\tMemory Size: {memory_mb} MB\t"
            f"Max Memory Used: {max_memory_mb} MB\t{init}{status}\n"
        )

    def write(self, text: str) -> None:
        if self.descriptor >= 0:
            os.write(self.descriptor, text.encode())

    def trim(self) -> None:
        """Empty the file when it has grown too large. The processes append, so that is safe."""
        if self.descriptor >= 0 and os.fstat(self.descriptor).st_size > MAX_BYTES:
            os.truncate(self.path, 0)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
