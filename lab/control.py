"""The back door through which `lab status` and `lab fault` reach the lab's processes.

One JSON line in, one JSON line out, over a Unix socket that only this user can open. It is no part
of what the lab imitates: the lab's own commands use it, and where on AWS one service has another's
data by ways that nobody sees (Route 53 the metrics of a region), one process asks another.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from lab.errors import LabError

Handler = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""(command, arguments) -> something that JSON can carry; raises LabError to refuse."""


MAX_LINE_BYTES = 2**24
"""A command carries up to the whole of recovery.json, which grows with the services."""


async def serve(path: str, handler: Handler) -> asyncio.AbstractServer:
    """Listen on `path` and answer each line with the handler's result."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), 5)
            request = json.loads(line)
            try:
                answer = {"result": await handler(request["command"], request["arguments"])}
            except LabError as error:
                answer = {"error": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, KeyError, TimeoutError):
            pass  # the caller went away or spoke nonsense: nothing to answer
        finally:
            writer.close()

    mask = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(connected, path, limit=MAX_LINE_BYTES)
    finally:
        os.umask(mask)


async def ask(path: Path, command: str, **arguments: Any) -> Any:
    """`call` for an event loop; whoever calls it sets the limit. Raises LabError, OSError."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_LINE_BYTES)
    try:
        request = {"command": command, "arguments": arguments}
        writer.write(json.dumps(request).encode() + b"\n")
        line = await reader.readline()
    finally:
        writer.close()
    return _result(path, line)


def call(path: Path, command: str, timeout: float = 5.0, **arguments: Any) -> Any:
    """Ask a process; raises LabError when it refuses, OSError when it cannot be reached in time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        request = {"command": command, "arguments": arguments}
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as stream:
            line = stream.readline()
    return _result(path, line)


def _result(path: Path, line: bytes) -> Any:
    if not line:
        raise ConnectionError(f"{path.name} closed the connection")
    answer = json.loads(line)
    if "error" in answer:
        raise LabError(answer["error"])
    return answer["result"]
