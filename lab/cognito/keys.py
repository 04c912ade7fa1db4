"""What a user pool keeps to itself: its signing key and its clients' secrets, one file per pool.

`<pool id>.json` (mode 0600) has both; `<pool id>.jwks.json` has the public key, for whoever
verifies. Each is made once, under a lock, and replaced as a whole.

Downside: the secrets are on disk unencrypted, as those of a laptop's lab may be. AWS has two keys
per pool, for access and for ID tokens; here is one.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import secrets
import string
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

_LETTERS = string.ascii_lowercase + string.digits
_SECRET_LENGTH = 51


@dataclass(frozen=True, slots=True)
class Private:
    """One pool's own."""

    kid: str
    key: rsa.RSAPrivateKey
    client_secrets: Mapping[str, str]
    """By client id."""


@dataclass(frozen=True, slots=True)
class Public:
    """What others verify with."""

    kid: str
    key: rsa.RSAPublicKey


class KeyStore:
    """The files of all pools of one lab, in `folder` (made when needed, mode 0700)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def private(self, pool_id: str, client_ids: Iterable[str]) -> Private:
        """The pool's key and the secret of each client; what is missing is made. Raises OSError."""
        path = self._folder / f"{pool_id}.json"
        with self._locked():
            before = json.loads(path.read_text()) if path.exists() else {}
            pem = before.get("private_key") or _new_key()
            known = before.get("client_secrets", {})
            own = {client: known.get(client) or _new_secret() for client in client_ids}
            document = {"private_key": pem, "client_secrets": {**known, **own}}
            if document != before:
                _write(path, json.dumps(document, indent=1), 0o600)
            key = serialization.load_pem_private_key(pem.encode(), None)
            assert isinstance(key, rsa.RSAPrivateKey)
            kid = _kid(key.public_key())
            key_set = self._folder / f"{pool_id}.jwks.json"
            if not key_set.exists():
                _write(key_set, json.dumps(_jwks(kid, key.public_key()), indent=1), 0o644)
        return Private(kid, key, own)

    def jwks(self, pool_id: str) -> dict[str, Any] | None:
        """The pool's JSON web key set (RFC 7517); None when it has not been made."""
        try:
            document: dict[str, Any] = json.loads(
                (self._folder / f"{pool_id}.jwks.json").read_text()
            )
        except FileNotFoundError:
            return None
        return document

    def public(self, pool_id: str) -> Public | None:
        """The pool's public key; None when it has not been made."""
        document = self.jwks(pool_id)
        if document is None:
            return None
        (entry,) = document["keys"]
        key = RSAAlgorithm.from_jwk(entry)
        assert isinstance(key, rsa.RSAPublicKey)
        return Public(entry["kid"], key)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _new_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _new_secret() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(_SECRET_LENGTH))


def _kid(key: rsa.RSAPublicKey) -> str:
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def _jwks(kid: str, key: rsa.RSAPublicKey) -> dict[str, Any]:
    numbers = RSAAlgorithm.to_jwk(key, as_dict=True)
    return {
        "keys": [
            {
                "alg": "RS256",
                "e": numbers["e"],
                "kid": kid,
                "kty": "RSA",
                "n": numbers["n"],
                "use": "sig",
            }
        ]
    }


def _write(path: Path, text: str, mode: int) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)
