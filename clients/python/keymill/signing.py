"""AWS Signature Version 4 for calls over HTTP, by botocore."""

import os
from collections.abc import Callable
from typing import Any, Protocol


class Credentials(Protocol):
    """An access key; botocore's credentials are one, and are refreshed as botocore does it."""

    access_key: str
    secret_key: str
    token: str | None


# A URL, the body and the headers in; the headers with the signature out.
Signer = Callable[[str, bytes, dict[str, str]], dict[str, str]]


def signer(credentials: Credentials | None, region: str | None) -> Signer:
    """Signs with these credentials, or with those that botocore finds."""
    try:
        import botocore.auth
        import botocore.awsrequest
        import botocore.session
    except ImportError as error:
        raise ImportError(
            "calls over HTTP are signed by botocore: pip install 'keymill[http]', "
            "or use endpoint='unix:PATH'"
        ) from error
    session = botocore.session.get_session()
    found: Any = credentials or session.get_credentials()
    region = region or session.get_config_variable("region") or os.environ.get("AWS_REGION")
    if found is None or not region:
        raise ValueError(
            "calls over HTTP are signed: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
            "AWS_REGION, or use endpoint='unix:PATH'"
        )

    def sign(url: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
        frozen = found
        if hasattr(found, "get_frozen_credentials"):
            frozen = found.get_frozen_credentials()
        request = botocore.awsrequest.AWSRequest("POST", url, headers, body)
        botocore.auth.SigV4Auth(frozen, "kms", region).add_auth(request)
        return dict(request.headers.items())

    return sign
