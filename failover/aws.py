"""One attempt at one AWS endpoint, by botocore: what the transports of this package share.

botocore takes a tenth of a second to load and is imported at the first call, not before: `--help`
and a mistyped name must answer at once. Its own retries are switched off, because whoever calls
knows better where to ask next. Whether to go on is read from the error *code*: AWS's API
references and its service models disagree on the HTTP statuses of errors. The downside of one
helper for all is that what an error answer means has to be passed in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from failover.errors import CredentialsError
from failover.ports import EndpointFailed

if TYPE_CHECKING:
    from botocore.client import BaseClient

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
SET_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN too for temporary ones), "
    "or AWS_PROFILE"
)

Judge = Callable[[str, str, Mapping[str, Any]], Exception]
"""(code, message, whole answer) of an error answer → what it means."""


class Clients:
    """Calls one AWS service.

    Clients are made once per region and address, under a lock because a session is not
    thread-safe; the first costs about 50 ms, the others 2.
    """

    def __init__(self, service: str, connect_timeout: float, read_timeout: float) -> None:
        self._service = service
        self._timeouts = (connect_timeout, read_timeout)
        self._lock = threading.Lock()
        self._session: Any = None
        self._credentials: Any = None
        self._clients: dict[tuple[str, str | None], BaseClient] = {}

    def call(
        self, region: str, url: str | None, operation: str, judge: Judge, /, **parameters: Any
    ) -> dict[str, Any]:
        """One attempt, signed for `region`. `url`: None for the region's usual address.

        Raises what `judge` makes of an error answer, EndpointFailed or CredentialsError.
        """
        from botocore import exceptions

        client = self._client(region, url)
        try:
            answer: dict[str, Any] = getattr(client, operation)(**parameters)
        except exceptions.ClientError as error:
            said = error.response.get("Error", {})
            text = said.get("Message") or error.response.get("message") or ""
            raise judge(str(said.get("Code", "")), str(text), error.response) from error
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise CredentialsError(f"no credentials: {error}", [SET_CREDENTIALS]) from error
        except exceptions.ReadTimeoutError as error:
            cause = f"no answer within {self._timeouts[1]:g} s"
            raise EndpointFailed(cause, ambiguous=True) from error
        except exceptions.ConnectTimeoutError as error:
            raise EndpointFailed(f"no connection within {self._timeouts[0]:g} s") from error
        except exceptions.HTTPClientError as error:
            # The connection may have broken after the request was read.
            refused = isinstance(error, exceptions.EndpointConnectionError | exceptions.SSLError)
            raise EndpointFailed(short(error), ambiguous=not refused) from error
        except exceptions.BotoCoreError as error:
            # An answer that cannot be parsed comes from something that is no working endpoint.
            raise EndpointFailed(short(error), ambiguous=True) from error
        return answer

    def _client(self, region: str, url: str | None) -> BaseClient:
        with self._lock:
            client = self._clients.get((region, url))
            if client is None:
                client = self._clients[region, url] = self._make_client(region, url)
            return client

    def _make_client(self, region: str, url: str | None) -> BaseClient:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session

        connect, read = self._timeouts
        try:
            if self._session is None:
                # Looked for once: a machine without any may be asked for them over the network.
                self._session = Session()
                self._credentials = self._session.get_credentials()
            if self._credentials is None:
                raise CredentialsError(
                    "there are no AWS credentials to sign with", [SET_CREDENTIALS]
                )
            client: BaseClient = self._session.create_client(
                self._service,
                region_name=region,
                endpoint_url=url,
                config=Config(
                    retries={"total_max_attempts": 1},
                    connect_timeout=connect,
                    read_timeout=read,
                ),
            )
        except BotoCoreError as error:
            raise CredentialsError(f"the AWS configuration cannot be used: {error}") from error
        return client


def headers_of(answer: Mapping[str, Any]) -> Mapping[str, str]:
    """The HTTP headers of an answer, with lower-case names."""
    headers: Mapping[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


def seconds(retry_after: str | None) -> float | None:
    """A `Retry-After` header in seconds; None if there is none, or if it is a date."""
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None


def short(error: Exception) -> str:
    """One line of a botocore error, without the URL that the reader already has."""
    text = str(error).splitlines()[0]
    for wordy in ("Could not connect to the endpoint URL",):
        if text.startswith(wordy):
            return "connection refused or unreachable"
    return text if len(text) <= 160 else text[:157] + "..."
