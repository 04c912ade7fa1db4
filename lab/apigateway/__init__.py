"""API Gateway in one region: REST APIs behind custom domain names.

`RegionalGateway` is what the lab uses. `gateway` has the sockets; `configuration`, `definition`,
`domains`, `routes`, `headers`, `lambda_proxy`, `http_proxy` and `responses` are pure.

    GatewayConfigError      the region's resources do not fit together
    DefinitionError         an API definition that can not be imitated
    Refused                 inside: a request ends with a gateway response
"""

from lab.apigateway.authorizer import Authorizer, Refusal
from lab.apigateway.configuration import GatewayConfigError
from lab.apigateway.definition import Authorization, DefinitionError
from lab.apigateway.gateway import RegionalGateway
from lab.apigateway.pool import ConnectionKnobs

__all__ = [
    "Authorization",
    "Authorizer",
    "ConnectionKnobs",
    "DefinitionError",
    "GatewayConfigError",
    "Refusal",
    "RegionalGateway",
]
