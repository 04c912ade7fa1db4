"""What stops a deployment, and the next command to run. Messages are for the person at the shell.

DeployError                 has `reason` and `next_step`
├── SetupError              domain, zone, regions or quota are not as needed; nothing was begun
├── CredentialsError        none, expired, wrong, or not allowed to do this
├── QuotaError              a quota of the account is used up
├── BusyError               another operation on the stack is under way
├── StackStateError         the stack is in a state that needs a decision first
├── FailedError             an operation failed; CloudFormation rolled the stack back
├── RefusedChangeError      a change would replace or remove what serves traffic or keeps data
├── PendingError            AWS was not done when the time was up; it goes on by itself
├── ApplicationError        Chalice failed, or its application cannot be found again
├── InterruptedDeployError  the run was told to stop
└── UnexpectedAnswerError   AWS answered with an error that has no case of its own

`from_aws` makes one of these from what boto3 raises. Downside: AWS's quota errors have no common
code; they are recognised by code or by words of the message, so an unknown wording is shown as
UnexpectedAnswerError, with AWS's own text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

_SIGN_IN = "sign in again (aws sso login, or new keys in the environment), then: {command}"
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_UNKNOWN = {
    "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch",
    "InvalidAccessKeyId", "AuthFailure", "InvalidSignatureException",
}  # fmt: skip
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AccessDeniedFault"}
_QUOTA_CODES = re.compile(r"LimitExceeded|QuotaExceeded|QuotaExceededFault|TooMany(?!Requests)")
_QUOTA_WORDS = re.compile(
    r"limit exceeded|limitexceeded|quota|exceeded the (maximum|limit)|maximum number of", re.I
)
_RATE_WORDS = re.compile(r"rate exceeded|throttl", re.I)


class DeployError(Exception):
    """`reason` says what is wrong, `next_step` what to do now."""

    def __init__(self, reason: str, next_step: str) -> None:
        self.reason, self.next_step = reason, next_step
        super().__init__(f"{reason}\n  next: {next_step}")


class SetupError(DeployError):
    """Domain, zone or regions are not as needed."""


class CredentialsError(DeployError):
    """AWS does not know who asks, or does not allow it."""


class QuotaError(DeployError):
    """A quota of the account is used up."""


class BusyError(DeployError):
    """Another operation on the stack is under way."""


class StackStateError(DeployError):
    """The stack is in a state that needs a decision first."""


class FailedError(DeployError):
    """An operation on a stack failed."""


class RefusedChangeError(DeployError):
    """A change would replace or remove what serves traffic or keeps data."""


class PendingError(DeployError):
    """AWS was not done when the time was up."""


class ApplicationError(DeployError):
    """Chalice failed, or its application cannot be found again."""


class InterruptedDeployError(DeployError):
    """The run was told to stop."""


class UnexpectedAnswerError(DeployError):
    """AWS answered with an error that has no case of its own."""


def is_quota(text: str) -> bool:
    """Whether a status reason of CloudFormation speaks of a quota (not of a request rate)."""
    return bool(_QUOTA_WORDS.search(text)) and not _RATE_WORDS.search(text)


def quota_error(what: str, region: str, command: str) -> QuotaError:
    return QuotaError(
        what,
        "look at `aws service-quotas list-service-quotas --service-code SERVICE --region "
        f"{region}`, ask for more or remove what is not needed, then: {command}",
    )


def from_aws(
    error: ClientError | BotoCoreError, doing: str, region: str, command: str
) -> DeployError:
    """`error` of boto3 as a DeployError. `doing` names the step or the call; `command` is the one
    to run again."""
    if isinstance(error, ClientError):
        return _from_code(error, doing, region, command)
    signed_out = (SSOTokenLoadError, UnauthorizedSSOTokenError, TokenRetrievalError)
    if isinstance(error, signed_out):
        return CredentialsError(f"{doing}: {error}", _SIGN_IN.format(command=command))
    missing = (
        NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, ProfileNotFound,
    )  # fmt: skip
    if isinstance(error, missing):
        return CredentialsError(f"{doing}: {error}", _SIGN_IN.format(command=command))
    return UnexpectedAnswerError(f"{doing} ({region}): {error}", f"{command} continues from here")


def _from_code(error: ClientError, doing: str, region: str, command: str) -> DeployError:
    code = error.response.get("Error", {}).get("Code", "")
    message = error.response.get("Error", {}).get("Message", "") or str(error)
    text = f"{doing} ({region}): {code}: {message}"
    if code in _EXPIRED:
        return CredentialsError(
            f"{doing} ({region}): the credentials have expired",
            _SIGN_IN.format(command=command),
        )
    if code in _UNKNOWN:
        return CredentialsError(
            f"{text}; or this region is not switched on for the account",
            "check `aws sts get-caller-identity` and `aws account list-regions`, then: " + command,
        )
    if code in _DENIED:
        return CredentialsError(text, f"let this identity do what is named there, then: {command}")
    if _QUOTA_CODES.search(code) or is_quota(message):
        return quota_error(text, region, command)
    if code == "AlreadyExistsException" or "IN_PROGRESS state" in message:
        return BusyError(text, f"wait until that is done, then: {command}")
    return UnexpectedAnswerError(text, f"{command} continues from here")


@contextmanager
def explained(doing: str, region: str, command: str) -> Iterator[None]:
    """What boto3 raises inside leaves as a DeployError."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise from_aws(error, doing, region, command) from error
