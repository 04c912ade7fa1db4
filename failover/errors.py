"""What can go wrong, and the exit code that each carries.

    FailoverError                 1  failed
    ├── UsageError                2  command line or recovery.json cannot be used; every reason
    ├── SafetyRuleRefusal         3  a safety rule refused the update; nothing was changed
    ├── PreconditionError         4  a precondition is not met; nothing was changed; every reason
    │   ├── CredentialsError      4  there are no credentials to sign the calls with
    │   ├── RdsRefusal            4  RDS refuses: the clusters are not in a state for it
    │   └── FenceRefusal          4  the write fence refuses: it is further than the wanted state
    ├── NoEndpointError           6  no cluster endpoint, or no CloudWatch that is needed, could be
    │                                reached; the cause of each
    ├── CallRejected              1  AWS refuses the call itself (access, validation, not found)
    ├── DatabaseError             1  the database's part of a move did not come to its end
    └── NotTried                  1  left alone because an earlier step failed

Two codes belong to no error: 5, partly done, is what `verdict.settle` makes of an error after the
first change; 130 is Ctrl-C. That is the downside of codes on the classes: they hold only while
nothing has been changed, and the verdict has the last word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

DONE = 0
FAILED = 1
USAGE = 2
REFUSED = 3
PRECONDITION = 4
PARTLY = 5
NO_ENDPOINT = 6
INTERRUPTED = 130

EXIT_CODES: Mapping[int, str] = {
    DONE: "done; also when there was nothing to do",
    FAILED: "failed",
    USAGE: "the command line or recovery.json cannot be used; nothing was tried",
    REFUSED: "refused by a safety rule; nothing was changed",
    PRECONDITION: "a precondition is not met; nothing was changed",
    PARTLY: "partly done: something was changed, the rest failed or could not be confirmed",
    NO_ENDPOINT: "no cluster endpoint could be reached, or no CloudWatch that is needed",
    INTERRUPTED: "interrupted by Ctrl-C; safe to run again",
}
"""What `--help` and the runbook say of each exit code."""


class FailoverError(Exception):
    """Anything this tool reports. `str()` is the whole message, ready to print."""

    exit_code = FAILED


class _Reasons(FailoverError):
    """An error with all its reasons, one per line."""

    def __init__(self, headline: str, reasons: Iterable[str] = ()) -> None:
        self.headline = headline
        self.reasons = tuple(reasons)
        super().__init__("\n".join([headline, *(f"  - {reason}" for reason in self.reasons)]))


class UsageError(_Reasons):
    exit_code = USAGE


class SafetyRuleRefusal(FailoverError):
    """ARC's ConflictException: a safety rule (or a concurrent change) refused the transaction."""

    exit_code = REFUSED

    def __init__(self, text: str, rule: str | None = None, rule_arn: str | None = None) -> None:
        self.rule = rule
        self.rule_arn = rule_arn
        self.text = text
        named = f"safety rule {rule}" if rule else "ARC"
        arn = f" ({rule_arn})" if rule_arn else ""
        super().__init__(f"{named}{arn} refused the update: {text}")


class PreconditionError(_Reasons):
    exit_code = PRECONDITION


class CredentialsError(PreconditionError):
    """No credentials were found, or they are not usable as given."""


class NoEndpointError(_Reasons):
    """`reasons` holds the cause of every endpoint."""

    exit_code = NO_ENDPOINT


class CallRejected(FailoverError):
    """ARC (or `who`) refuses the call itself; another endpoint would say the same."""

    def __init__(self, code: str, text: str, who: str = "ARC") -> None:
        self.code = code
        self.text = text
        super().__init__(f"{who} answered {code}: {text}")


class RdsRefusal(PreconditionError):
    """RDS does not do it in the state in which the clusters are, and says why."""

    def __init__(self, code: str, text: str, where: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"RDS in {where} refused: {code}: {text}")


class DatabaseError(FailoverError):
    """A promotion, or the opening of the fence, failed or did not come to its end in time.

    The message says in what state the service is and which command goes on from there.
    """


class NotTried(FailoverError):
    """A step was left out because an earlier one failed."""


class FenceRefusal(PreconditionError):
    """The fence is further than what was wanted, or belongs to another region (HTTP 409).

    `epoch`, `active_region`, `state`: the fence as it is; epoch 0 if the answer did not say.
    """

    def __init__(self, text: str, epoch: int = 0, active_region: str = "", state: str = "") -> None:
        self.epoch, self.active_region, self.state = epoch, active_region, state
        super().__init__(f"the write fence refused: {text}")
