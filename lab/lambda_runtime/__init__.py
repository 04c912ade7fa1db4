"""Lambda in one region: packaged functions run by AWS's own runtime client `awslambdaric`.

`LambdaService` is what the lab uses. Each execution environment is a process of its own with a
Runtime API of its own; see `environment` for what ends one and `service` for scaling.

Errors: see `function.LambdaError`. An invocation itself never raises; it answers as Lambda's
Invoke does.
"""

from lab.lambda_runtime.environment import InvokeResult
from lab.lambda_runtime.function import Function, FunctionConfigError, LambdaError
from lab.lambda_runtime.service import FunctionFault, LambdaService, LambdaSettings
from lab.lambda_runtime.vpc import VpcNames

__all__ = [
    "Function",
    "FunctionConfigError",
    "FunctionFault",
    "InvokeResult",
    "LambdaError",
    "LambdaService",
    "LambdaSettings",
    "VpcNames",
]
