"""Who may log in where: the lab's own accounts, and the content of the template's secrets.

One file, `<lab dir>/state/aurora-accounts.json`, readable by this user alone; it is made once per
lab directory and read on every use, so that a rotated password is seen by both regions at once.
Real Secrets Manager replicates a rotation with some delay; here there is none.
"""

from __future__ import annotations

import json
import os
import secrets
import string
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lab.aurora.errors import StateError
from lab.aurora.layout import Layout, Secret

_ALPHABET = string.ascii_letters + string.digits
LAB_ADMIN = "lab_admin"
REPLICATION = "lab_replication"


@dataclass(frozen=True, slots=True)
class Login:
    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.username!r}, …)"


@dataclass(frozen=True, slots=True)
class SecretValue:
    """The current version of one secret."""

    text: str
    """SecretString."""
    version: str
    """VersionId, a UUID."""
    created: float
    """Seconds since the epoch."""

    @property
    def login(self) -> Login:
        document = json.loads(self.text)
        return Login(str(document["username"]), str(document["password"]))


@dataclass(frozen=True, slots=True)
class Accounts:
    admin: Login
    """All rights, on both servers; used by the lab alone."""
    replication: Login
    values: dict[str, SecretValue]
    """By name of the secret."""


class AccountsFile:
    """The accounts on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Accounts:
        """Raises StateError."""
        try:
            document = json.loads(self._path.read_text())
            return Accounts(
                Login(**document["admin"]),
                Login(**document["replication"]),
                {name: SecretValue(**value) for name, value in document["values"].items()},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(f"{self._path} cannot be read: {error}") from error

    def ensure(self, layout: Layout) -> Accounts:
        """What is kept, with what is missing made. A second call changes nothing."""
        if self._path.exists():
            accounts = self.read()
        else:
            accounts = Accounts(
                Login(LAB_ADMIN, _password(DEFAULT_LENGTH)),
                Login(REPLICATION, _password(DEFAULT_LENGTH)),
                {},
            )
        values = {s.name: accounts.values.get(s.name) or _first_value(s) for s in layout.secrets}
        accounts = replace(accounts, values=values)
        self._write(accounts)
        return accounts

    def replace_password(self, secret: Secret, password: str) -> SecretValue:
        """Make `password` the current version of a secret."""
        accounts = self.read()
        value = SecretValue(_text(secret, password), *_version())
        self._write(replace(accounts, values={**accounts.values, secret.name: value}))
        return value

    def _write(self, accounts: Accounts) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_private(self._path, json.dumps(asdict(accounts), indent=1))


DEFAULT_LENGTH = 32


def _first_value(secret: Secret) -> SecretValue:
    text = secret.fixed or _text(secret, _password(secret.password_length))
    return SecretValue(text, *_version())


def _text(secret: Secret, password: str) -> str:
    document: dict[str, Any] = {**secret.template, secret.password_key: password}
    return json.dumps(document)


def _version() -> tuple[str, float]:
    digits = secrets.token_hex(16)
    groups = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return "-".join(groups), round(time.time(), 3)


def new_password(secret: Secret) -> str:
    return _password(secret.password_length)


def _password(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def write_private(path: Path, text: str) -> None:
    """Replace a file by one that only this user can read."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
