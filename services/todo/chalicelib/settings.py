"""The environment variables, read and checked once at import: every fault is named."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import SettingsError

_POOL = re.compile(r"arn:aws[a-z-]*:cognito-idp:[a-z0-9-]+:\d{12}:userpool/[\w-]+")
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True, slots=True)
class Settings:
    user_pool_arns: tuple[str, ...]
    tenants: Mapping[str, str]
    """Client id to tenant. Both regions' clients of an application map to one tenant."""
    writer_host: str
    reader_host: str
    port: int
    database: str
    secret_arn: str
    admin_secret_arn: str
    """Of `migrate` only; empty for the API."""
    primary_region: str
    """Where the fence is open when the schema is first made; of `migrate` only."""
    ca_file: str
    """Trust these certificate authorities for the database, instead of the system's."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Raises SettingsError with every reason."""
        reasons: list[str] = []

        def required(name: str) -> str:
            value = environment.get(name, "")
            if not value:
                reasons.append(f"{name} is not set")
            return value

        settings = cls(
            user_pool_arns=_pools(required("USER_POOL_ARNS"), reasons),
            tenants=_tenants(required("TENANTS"), reasons),
            writer_host=required("DB_WRITER_HOST"),
            reader_host=required("DB_READER_HOST"),
            port=_port(environment.get("DB_PORT", "3306"), reasons),
            database=required("DB_NAME"),
            secret_arn=required("SECRET_ARN"),
            admin_secret_arn=environment.get("ADMIN_SECRET_ARN", ""),
            primary_region=environment.get("PRIMARY_REGION", ""),
            ca_file=environment.get("DB_CA_FILE", ""),
        )
        if reasons:
            raise SettingsError("environment variables: " + "; ".join(reasons))
        return settings


def _pools(text: str, reasons: list[str]) -> tuple[str, ...]:
    """ARNs as a JSON list or separated by commas."""
    if not text:
        return ()
    try:
        arns = json.loads(text) if text.startswith("[") else text.split(",")
    except ValueError:
        arns = [text]
    arns = [str(arn).strip() for arn in arns]
    reasons.extend(
        f"USER_POOL_ARNS: {arn!r} is not a user pool's ARN"
        for arn in arns
        if not _POOL.fullmatch(arn)
    )
    return tuple(arns)


def _tenants(text: str, reasons: list[str]) -> dict[str, str]:
    if not text:
        return {}
    try:
        mapping = json.loads(text)
    except ValueError as error:
        mapping = str(error)
    if not isinstance(mapping, dict):
        reasons.append('TENANTS: give a JSON object {"client id": "tenant"}')
        return {}
    reasons.extend(
        f"TENANTS: {tenant!r} is not a tenant's name (a-z, 0-9 and -, at most 64)"
        for tenant in mapping.values()
        if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant)
    )
    return mapping


def _port(text: str, reasons: list[str]) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    reasons.append(f"DB_PORT: {text!r} is not a port")
    return 0
