"""Gateway responses: what API Gateway itself answers when no integration does. Pure.

Source: AWS docs "Gateway response types" for the status of each type; the texts and the
x-amzn-ErrorType values are what is commonly seen. Assumed: the texts of 400, 413 and 431, and 500
for a throttled function (reported by users; the docs are silent).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from lab.http1 import Headers, encode_response


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    type: str
    """The response type in AWS's docs."""
    status: int
    message: str
    error_type: str
    """x-amzn-ErrorType."""

    @property
    def headers(self) -> Headers:
        return [
            (b"Content-Type", b"application/json"),
            (b"x-amzn-ErrorType", self.error_type.encode()),
        ]

    @property
    def body(self) -> bytes:
        return json.dumps({"message": self.message}).encode()


class Refused(Exception):
    """A request ends with a gateway response. `cause` is for the log, never for the caller."""

    def __init__(self, response: GatewayResponse, cause: str = "") -> None:
        self.response = response
        self.cause = cause
        super().__init__(f"{response.type}: {cause or response.message}")


_INTERNAL = "InternalServerErrorException"

FORBIDDEN = GatewayResponse("ACCESS_DENIED", 403, "Forbidden", "ForbiddenException")
MISSING_TOKEN = GatewayResponse(
    "MISSING_AUTHENTICATION_TOKEN",
    403,
    "Missing Authentication Token",
    "MissingAuthenticationTokenException",
)
UNAUTHORIZED = GatewayResponse("UNAUTHORIZED", 401, "Unauthorized", "UnauthorizedException")
AUTHORIZER_CONFIGURATION = GatewayResponse(
    "AUTHORIZER_CONFIGURATION_ERROR",
    500,
    "Internal server error",
    "AuthorizerConfigurationException",
)
TOO_LARGE = GatewayResponse(
    "REQUEST_TOO_LARGE",
    413,
    "HTTP content length exceeded 10485760 bytes.",
    "RequestEntityTooLargeException",
)
FUNCTION_PAYLOAD_TOO_LARGE = GatewayResponse(
    "REQUEST_TOO_LARGE", 413, "Request Too Long", "RequestEntityTooLargeException"
)
API_CONFIGURATION = GatewayResponse(
    "API_CONFIGURATION_ERROR", 500, "Internal server error", _INTERNAL
)
INTEGRATION_FAILURE = GatewayResponse(
    "INTEGRATION_FAILURE", 504, "Network error communicating with endpoint", _INTERNAL
)
INTEGRATION_TIMEOUT = GatewayResponse(
    "INTEGRATION_TIMEOUT", 504, "Endpoint request timed out", _INTERNAL
)
FUNCTION_FAILURE = GatewayResponse("INTEGRATION_FAILURE", 502, "Internal server error", _INTERNAL)
FUNCTION_THROTTLED = GatewayResponse("INTEGRATION_FAILURE", 500, "Internal server error", _INTERNAL)
INTERNAL = GatewayResponse("DEFAULT_5XX", 500, "Internal server error", _INTERNAL)

UNREADABLE = {
    400: GatewayResponse("DEFAULT_4XX", 400, "Bad Request", "BadRequestException"),
    413: TOO_LARGE,
    431: GatewayResponse(
        "DEFAULT_4XX", 431, "Request Header Fields Too Large", "BadRequestException"
    ),
}


def unreadable(status: int) -> bytes:
    """The whole answer to a request that could not be read: 400, 413 or 431."""
    response = UNREADABLE[status]
    return encode_response(status, [*response.headers, (b"Connection", b"close")], response.body)


def unauthorized(message: str) -> GatewayResponse:
    """401 with an authorizer's own words."""
    return GatewayResponse("UNAUTHORIZED", 401, message, "UnauthorizedException")
