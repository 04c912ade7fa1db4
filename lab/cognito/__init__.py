"""Cognito user pools: the token endpoint for machine clients, and API Gateway's authorizer.

Pools, resource servers, clients and scopes are those of the deployment. What AWS keeps to itself
(signing keys, client secrets) is made once per lab by `prepare` and kept below the lab's state
directory, readable by this user alone. A region issues with the keys of its own pools; it verifies
with the public keys of all, read from that directory as API Gateway reads a key set that it then
keeps, so a token is good in both regions and stays good when the region of its pool is gone.

Downside: no users and no sign-in (no ID or refresh tokens are issued), no rotation of keys, no
revocation, and one port of the region stands for all its pools' domains.

Errors:

CognitoError
└── CognitoConfigError      resources that can not be imitated; every reason at once
"""

from lab.cognito.authorizer import CognitoAuthorizer
from lab.cognito.configuration import CognitoConfigError, CognitoError
from lab.cognito.keys import KeyStore
from lab.cognito.service import UserPools, client_credentials, prepare

COGNITO_PORT = 8444
"""Where the token endpoint of a region listens, by HTTPS."""

__all__ = [
    "COGNITO_PORT",
    "CognitoAuthorizer",
    "CognitoConfigError",
    "CognitoError",
    "KeyStore",
    "UserPools",
    "client_credentials",
    "prepare",
]
