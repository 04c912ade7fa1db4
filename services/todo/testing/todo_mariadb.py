"""A MariaDB server of one's own for tests and benchmarks, and a TCP relay that cuts connections
at a chosen moment. Not part of the deployed package.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
from todo_testing import ENVIRONMENT, load

APPLICATION = ("todo", "application's pass'word \\ 1")
ADMINISTRATOR = ("administrator", "administrator's")


class FixedLogin:
    """Credentials without Secrets Manager: the first login, then after each refresh the next."""

    def __init__(self, *logins: tuple[str, str]) -> None:
        self._logins = [load("chalicelib.credentials").Login(*pair) for pair in logins]

    def login(self) -> Any:
        return self._logins[0]

    def refresh(self) -> bool:
        if len(self._logins) == 1:
            return False
        del self._logins[0]
        return True


class MariaDb:
    """A MariaDB server as an ordinary process with a folder of its own; TLS is required."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.folder = folder
        self.address = address
        self.port = _free_port(address)
        self.ca_file = folder / "ca.pem"
        self.socket = folder / "s"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self, *options: str) -> None:
        """Make the data folder and certificates when there are none, and start.

        Raises RuntimeError when MariaDB is not installed or does not start.
        """
        data, temporary = self.folder / "data", self.folder / "tmp"
        # Its own: a server that starts removes other servers' temporary tables from a shared one.
        temporary.mkdir(exist_ok=True)
        if not data.exists():
            self._certificates()
            _run(
                "mariadb-install-db",
                *_user(),
                f"--datadir={data}",
                f"--tmpdir={temporary}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            )
        command = [
            _program("mariadbd"),
            "--no-defaults",
            *_user(),
            f"--datadir={data}",
            f"--tmpdir={temporary}",
            f"--bind-address={self.address}",
            f"--port={self.port}",
            f"--socket={self.socket}",
            f"--pid-file={self.folder / 'pid'}",
            f"--ssl-ca={self.ca_file}",
            f"--ssl-cert={self.folder / 'server.pem'}",
            f"--ssl-key={self.folder / 'server.key'}",
            "--require-secure-transport=ON",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--innodb-buffer-pool-size=64M",
            "--innodb-lock-wait-timeout=3",
            *options,
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"mariadbd does not start:\n{self._log()}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def root(self, database: str | None = None) -> Any:
        """A connection of the administrator over the Unix socket."""
        return pymysql.connect(
            unix_socket=str(self.socket),
            user="root",
            password="",
            database=database,
            autocommit=True,
            ssl_disabled=True,
        )

    def query(self, sql: str, *values: Any) -> Any:
        connection = self.root()
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, values or None)
                return cursor.fetchall()
        finally:
            connection.close()

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file))

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def _certificates(self) -> None:
        import trustme

        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        server = authority.issue_cert(self.address, "127.0.0.1", "localhost")
        server.private_key_pem.write_to_path(str(self.folder / "server.key"))
        for index, blob in enumerate(server.cert_chain_pems):
            blob.write_to_path(str(self.folder / "server.pem"), append=index > 0)


class TodoServer(MariaDb):
    """A MariaDB with the service's tables and users."""

    def migrate(self, region: str = "us-east-1", primary: str = "us-east-1") -> dict[str, Any]:
        migrate, credentials = load("chalicelib.migrate", "chalicelib.credentials")
        return migrate.migrate(
            self.database(FixedLogin(ADMINISTRATOR)),
            region,
            primary,
            credentials.Login(*APPLICATION),
        )

    def make_administrator(self) -> None:
        name, password = ADMINISTRATOR
        self.query("CREATE DATABASE todo")
        self.query("CREATE USER %s@'%%' IDENTIFIED BY %s", name, password)
        self.query("GRANT ALL ON *.* TO %s@'%%' WITH GRANT OPTION", name)

    def database(self, login: Any = None, *, port: int = 0, writer: str = "", **more: Any) -> Any:
        """A Database on this server; `port` and `writer` lead it elsewhere."""
        database, settings = load("chalicelib.database", "chalicelib.settings")
        made = settings.Settings.from_environment(
            {
                **ENVIRONMENT,
                "DB_WRITER_HOST": writer or self.address,
                "DB_READER_HOST": self.address,
                "DB_PORT": str(port or self.port),
                "DB_CA_FILE": str(self.ca_file),
            }
        )
        return database.Database(made, login or FixedLogin(APPLICATION), **more)

    def empty(self) -> None:
        """No rows, and the fence of epoch 1 open in us-east-1."""
        self.query("DELETE FROM todo.todo")
        self.query("DELETE FROM todo.idempotency")
        self.query("DELETE FROM todo.heartbeat")
        self.query("UPDATE todo.fence SET epoch = 1, active_region = 'us-east-1', state = 'open'")


class Relay:
    """Passes TCP on to a server; can be told to cut one connection.

    A MySQL client sends one statement and waits for its answer, so the pieces that a client sends
    are counted: piece 1 is the first one after `cut_at`.
    """

    def __init__(self, server: tuple[str, int], address: str = "127.0.0.1") -> None:
        self._server = server
        self._listener = socket.create_server((address, 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._left = 0
        self._answered = True
        self.cuts = 0
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut_at(self, piece: int, answered: bool) -> None:
        """Cut at that piece: `answered` means the server has done and answered it, but the client
        does not learn it; otherwise the server never gets it."""
        with self._lock:
            self._left, self._answered = piece, answered

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            _shut(one)
        for thread in self._threads:
            thread.join(5)
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server, 5)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            muted = threading.Event()
            for work in (self._upstream, self._downstream):
                thread = threading.Thread(target=work, args=(client, server, muted), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _upstream(
        self, client: socket.socket, server: socket.socket, muted: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                with self._lock:
                    self._left -= 1
                    cut = self._left == 0
                    self.cuts += cut
                if cut and not self._answered:
                    break
                if cut:
                    muted.set()
                server.sendall(data)
        _shut(client)
        _shut(server)

    def _downstream(
        self, client: socket.socket, server: socket.socket, muted: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if muted.is_set():  # the server has answered: what was asked is done
                    break
                client.sendall(data)
        _shut(client)
        _shut(server)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def todo_server(*options: str) -> Iterator[TodoServer]:
    """A running server with tables, removed at the end."""
    # A short name: the path of a Unix socket has 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="todo") as folder:
        server = TodoServer(Path(folder))
        try:
            server.start(*options)
            server.make_administrator()
            server.migrate()
            yield server
        finally:
            server.stop()


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise RuntimeError(
            f"{name} is not installed; on Debian and Ubuntu: apt-get install mariadb-server-core"
        )
    return found


def _run(program: str, *arguments: str) -> None:
    done = subprocess.run(
        [_program(program), "--no-defaults", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{program} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")


def _user() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
