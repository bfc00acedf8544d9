"""AWS Signature Version 4, for POSTs of a JSON document to ``/``.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Final

from sqspider.frontier.aws.credentials import Keys
from sqspider.frontier.aws.transport import Service

CONTENT_TYPE: Final = "application/x-amz-json-1.0"
ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Signer:
    """Signs requests: AWS Signature Version 4, for POSTs of a JSON document to ``/``.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """

    def __init__(self, region: str) -> None:
        self._region = region
        self._derived: dict[tuple[Keys, str, str], bytes] = {}  # by keys, day and service

    def sign(
        self, service: Service, action: str, endpoint: str, document: bytes, keys: Keys, now: float
    ) -> dict[str, str]:
        """The headers of a request at ``now`` (seconds since the epoch)."""
        moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        day = moment[:8]
        headers = {
            "content-type": CONTENT_TYPE,
            "host": endpoint.partition("://")[2].partition("/")[0],
            "x-amz-date": moment,
            "x-amz-target": f"{service.target}.{action}",
        }
        if keys.session_token:
            headers["x-amz-security-token"] = keys.session_token
        names = sorted(headers)
        signed = ";".join(names)
        lines = "".join(f"{name}:{headers[name]}\n" for name in names)
        digest = hashlib.sha256(document).hexdigest()
        canonical = f"POST\n/\n\n{lines}\n{signed}\n{digest}"
        scope = f"{day}/{self._region}/{service.name}/aws4_request"
        text = f"{ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = self._key(keys, day, service.name)
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (
            f"{ALGORITHM} Credential={keys.access_key_id}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )
        return headers

    def _key(self, keys: Keys, day: str, service: str) -> bytes:
        derived = self._derived.get((keys, day, service))
        if derived is None:
            derived = f"AWS4{keys.secret_access_key}".encode()
            for part in (day, self._region, service, "aws4_request"):
                derived = hmac.new(derived, part.encode(), hashlib.sha256).digest()
            if len(self._derived) >= 4:  # the keys or the day have changed
                self._derived.clear()
            self._derived[(keys, day, service)] = derived
        return derived
