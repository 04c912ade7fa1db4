"""CloudWatch of one region: metrics that alarms watch, and those alarms.

alarms       alarms and metrics out of a deployment        (pure)
evaluation   what data points say about an alarm           (pure)
requests     one call's parameters checked and read        (pure)
store        data points and alarm states on disk
service      `CloudWatch`: the state, one call -> one answer
api          its HTTP listener (awsJson 1.0)

    LabError
    └── CloudWatchError     what is on disk cannot be read or written
    ApiError                a call is refused: code, message, HTTP status

Downside: a metric that no alarm of the deployment watches is accepted and forgotten.
"""

from lab.cloudwatch.alarms import CLOUDWATCH_PORT
from lab.cloudwatch.errors import ApiError, CloudWatchError
from lab.cloudwatch.service import CloudWatch

__all__ = [
    "CLOUDWATCH_PORT",
    "ApiError",
    "CloudWatch",
    "CloudWatchError",
]
