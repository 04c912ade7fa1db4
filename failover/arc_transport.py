"""One attempt at one cluster endpoint, by botocore.

botocore takes a tenth of a second to load and is imported at the first call, not before: `--help`
and a mistyped name must answer at once. Its own retries are switched off; `arc` asks the next
endpoint instead. Whether to go on is read from the error *code*: AWS's API reference and its
service model disagree on the HTTP statuses of these errors.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from failover.errors import CallRejected, CredentialsError, SafetyRuleRefusal
from failover.ports import EndpointFailed
from failover.recovery import Endpoint, Recovery

if TYPE_CHECKING:
    from botocore.client import BaseClient

SERVICE = "route53-recovery-cluster"
CONNECT_TIMEOUT = 1.0
READ_TIMEOUT = 4.0
"""Seconds, both. `arc` does not wait so long; this ends the call that it has left behind."""

FINAL_CODES = frozenset(
    {
        "ValidationException",
        "AccessDeniedException",
        "ResourceNotFoundException",
        "ServiceLimitExceededException",
    }
)
"""Another endpoint would say the same."""
CREDENTIAL_CODES = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "ExpiredTokenException",
        "ExpiredToken",
        "MissingAuthenticationTokenException",
        "MissingAuthenticationToken",
        "IncompleteSignature",
    }
)

NOT_ARC = "the answer is not ARC's; something else answers at this address"
SET_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN too for temporary ones), "
    "or AWS_PROFILE"
)


def judge(
    recovery: Recovery, code: str, text: str, resource: str | None, retry_after: float | None
) -> Exception:
    """What an error answer means. `resource` is its `resourceId`, if it has one. Pure."""
    if code == "ConflictException":
        rule = recovery.rule_of(resource, text)
        name, arn = rule if rule else (None, resource)
        return SafetyRuleRefusal(text, name, arn)
    if code in FINAL_CODES:
        return CallRejected(code, text)
    if code in CREDENTIAL_CODES:
        return CredentialsError(f"ARC does not accept the credentials: {code}: {text}")
    return EndpointFailed(f"{code}: {text}" if text else code, retry_after=retry_after)


class BotocoreTransport:
    """The four data-plane operations' two that are needed, through botocore.

    Clients are made once per endpoint, under a lock because a session is not thread-safe; the
    first costs about 50 ms, the others 2.
    """

    def __init__(
        self,
        recovery: Recovery,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        self._recovery = recovery
        self._timeouts = (connect_timeout, read_timeout)
        self._lock = threading.Lock()
        self._session: Any = None
        self._credentials: Any = None
        self._clients: dict[str, BaseClient] = {}

    def list_states(self, endpoint: Endpoint) -> dict[str, bool]:
        states: dict[str, bool] = {}
        token: dict[str, str] = {}
        while True:
            page = self._call(endpoint, "list_routing_controls", **token)
            if "RoutingControls" not in page:
                raise EndpointFailed(NOT_ARC)
            for control in page["RoutingControls"]:
                states[control["RoutingControlArn"]] = control["RoutingControlState"] == "On"
            if not page.get("NextToken"):
                return states
            token = {"NextToken": page["NextToken"]}

    def update_states(self, endpoint: Endpoint, entries: Mapping[str, bool]) -> None:
        self._call(
            endpoint,
            "update_routing_control_states",
            UpdateRoutingControlStateEntries=[
                {"RoutingControlArn": arn, "RoutingControlState": "On" if is_on else "Off"}
                for arn, is_on in entries.items()
            ],
        )

    def _call(self, endpoint: Endpoint, operation: str, **parameters: Any) -> dict[str, Any]:
        from botocore import exceptions

        client = self._client(endpoint)
        try:
            answer: dict[str, Any] = getattr(client, operation)(**parameters)
        except exceptions.ClientError as error:
            raise self._judge(error.response) from error
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise CredentialsError(f"no credentials: {error}", [SET_CREDENTIALS]) from error
        except exceptions.ReadTimeoutError as error:
            raise EndpointFailed(
                f"no answer within {self._timeouts[1]:g} s", ambiguous=True
            ) from error
        except exceptions.ConnectTimeoutError as error:
            raise EndpointFailed(f"no connection within {self._timeouts[0]:g} s") from error
        except exceptions.HTTPClientError as error:
            # The connection may have broken after the request was read.
            refused = isinstance(error, exceptions.EndpointConnectionError | exceptions.SSLError)
            raise EndpointFailed(short(error), ambiguous=not refused) from error
        except exceptions.BotoCoreError as error:
            # An answer that cannot be parsed comes from something that is no working endpoint.
            raise EndpointFailed(short(error), ambiguous=True) from error
        if not _is_json(answer):
            raise EndpointFailed(NOT_ARC, ambiguous=True)
        return answer

    def _judge(self, response: Mapping[str, Any]) -> Exception:
        error = response.get("Error", {})
        resource = response.get("resourceId")
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return judge(
            self._recovery,
            str(error.get("Code", "")),
            str(error.get("Message") or response.get("message") or ""),
            str(resource) if resource else None,
            seconds(headers.get("retry-after")),
        )

    def _client(self, endpoint: Endpoint) -> BaseClient:
        with self._lock:
            client = self._clients.get(endpoint.url)
            if client is None:
                client = self._clients[endpoint.url] = self._make_client(endpoint)
            return client

    def _make_client(self, endpoint: Endpoint) -> BaseClient:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session

        try:
            if self._session is None:
                self._session = Session()
                self._credentials = self._session.get_credentials()
            if self._credentials is None:
                raise CredentialsError(
                    "there are no AWS credentials to sign with", [SET_CREDENTIALS]
                )
            connect, read = self._timeouts
            client: BaseClient = self._session.create_client(
                SERVICE,
                region_name=endpoint.region,
                endpoint_url=endpoint.url,
                config=Config(
                    retries={"total_max_attempts": 1},
                    connect_timeout=connect,
                    read_timeout=read,
                ),
            )
        except BotoCoreError as error:
            raise CredentialsError(f"the AWS configuration cannot be used: {error}") from error
        return client


def seconds(retry_after: str | None) -> float | None:
    """A `Retry-After` header in seconds; None if there is none, or if it is a date."""
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None


def _is_json(answer: Mapping[str, Any]) -> bool:
    """Does the answer call itself JSON? botocore takes any 200 for the success of an update,
    also the HTML of a proxy that wants somebody to log in."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return "json" in headers.get("content-type", "json")


def short(error: Exception) -> str:
    """One line of a botocore error, without the URL that the reader already has."""
    text = str(error).splitlines()[0]
    for wordy in ("Could not connect to the endpoint URL",):
        if text.startswith(wordy):
            return "connection refused or unreachable"
    return text if len(text) <= 160 else text[:157] + "..."
