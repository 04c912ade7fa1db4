"""One endpoint's socket: it can be shut so that connections are refused, and opened again.

The socket is bound and set to listen before `open` returns, so the effect of opening or shutting is
there at once, without waiting for the event loop. Downside: while an endpoint that was given port 0
is shut, another program may take its port; opening then fails with the system's message.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

_BACKLOG = 128


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""Answers one request."""


class Listener:
    """HTTP on one address. Use inside a running event loop."""

    def __init__(self, host: str, port: int, handler: Handler) -> None:
        """`port` 0: a free one, the same on every later `open`."""
        self._host = host
        self._port = port
        self._protocols = web.Server(handler, handler_cancellation=True, access_log=None)
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._handed_over: socket.socket | None = None
        """The socket that the event loop owns, and closes with the server."""
        self._starting: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}/v1"

    @property
    def address(self) -> str:
        return f"{self._host}:{self._port}"

    def open(self) -> None:
        """Listen. Raises OSError, for example when the port is in use."""
        if self._socket is not None:
            return
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self._host, self._port))
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
        self._port = listening.getsockname()[1]
        self._socket = listening
        task = asyncio.get_running_loop().create_task(self._serve(listening))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _serve(self, listening: socket.socket) -> None:
        if listening.fileno() < 0:
            return  # shut before the event loop came here
        self._handed_over = listening
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._protocols, sock=listening, backlog=_BACKLOG)
        if self._socket is listening:
            self._server = server
        else:
            server.close()

    def shut(self) -> None:
        """Refuse connections from now on and drop those that exist."""
        if self._server is not None:
            self._server.close()
        elif self._socket is not None and self._socket is not self._handed_over:
            self._socket.close()
        self._server = None
        self._socket = None
        self.drop_connections()

    def drop_connections(self) -> None:
        """End every connection, answered or not."""
        for connection in list(self._protocols.connections):
            connection.force_close()

    async def close(self) -> None:
        """Shut for good; nothing is left running."""
        self.shut()
        await asyncio.gather(*self._starting)
        await self._protocols.shutdown(timeout=1)
