"""The place where a user pool authorizer is plugged in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lab.apigateway.definition import Authorization

COGNITO = "cognito_user_pools"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The token does not do: 401 with this message (AWS docs "Control access to REST APIs using
    Amazon Cognito user pools as an authorizer")."""

    message: str = "Unauthorized"


class Authorizer(Protocol):
    """Decides on a token for the user pools and scopes of a method."""

    async def authorize(
        self, authorization: Authorization, token: str
    ) -> Mapping[str, Any] | Refusal:
        """The claims for `requestContext.authorizer.claims`, or a refusal.

        `token` is the whole value of the header, with "Bearer " if the caller sent that.
        """
        ...
