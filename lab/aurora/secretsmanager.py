"""Secrets Manager's `GetSecretValue`, for the secrets of the deployment.

Downside: one version per secret; `AWSPREVIOUS` and `AWSPENDING` do not exist, and a replica has a
new value in the same moment as its primary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lab.aurora.accounts import AccountsFile
from lab.aurora.errors import ApiError
from lab.aurora.layout import Layout, Secret

_NOT_FOUND = "Secrets Manager can't find the specified secret."
_CURRENT = "AWSCURRENT"


def find_secret(layout: Layout, region: str, secret_id: str) -> Secret:
    """By name, ARN, or ARN without its last six characters, in a region that has a copy."""
    for secret in layout.secrets:
        if region in secret.regions:
            arn = secret.arn_in(region)
            if secret_id in (secret.name, arn, arn[:-7]):
                return secret
    raise ApiError("ResourceNotFoundException", _NOT_FOUND)


def get_secret_value(
    layout: Layout, accounts: AccountsFile, region: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """The answer. Raises ApiError, StateError."""
    secret_id = request.get("SecretId")
    if not isinstance(secret_id, str) or not 1 <= len(secret_id) <= 2048:
        raise ApiError("ValidationException", "SecretId must have 1 to 2048 characters")
    secret = find_secret(layout, region, secret_id)
    value = accounts.read().values[secret.name]
    stage = request.get("VersionStage", _CURRENT)
    if stage != _CURRENT:
        raise ApiError(
            "ResourceNotFoundException",
            f"Secrets Manager can't find the specified secret value for staging label: {stage}",
        )
    version = request.get("VersionId", value.version)
    if version != value.version:
        if not re.fullmatch(r"[\w-]{32,64}", str(version)):
            raise ApiError("ValidationException", "VersionId must have 32 to 64 characters")
        raise ApiError(
            "ResourceNotFoundException",
            f"Secrets Manager can't find the specified secret value for VersionId: {version}",
        )
    return {
        "ARN": secret.arn_in(region),
        "Name": secret.name,
        "VersionId": value.version,
        "SecretString": value.text,
        "VersionStages": [_CURRENT],
        "CreatedDate": value.created,
    }
