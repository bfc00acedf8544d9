"""AWS Signature Version 4: for POSTs of a JSON document to ``/``, and for requests to S3.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import quote

from sqspider.frontier.aws.credentials import Keys
from sqspider.frontier.aws.transport import S3, Service

CONTENT_TYPE: Final = "application/x-amz-json-1.0"
ALGORITHM: Final = "AWS4-HMAC-SHA256"
OF_NOTHING: Final = hashlib.sha256(b"").hexdigest()


class S3Request(NamedTuple):
    """A request to S3, as it is signed and sent."""

    method: str
    endpoint: str  # with a slash at its end
    path: str  # below the endpoint, not quoted, as it is meant: it is not normalised, and ``..`` is a name like others
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}  # by names in small letters
    digest: str = OF_NOTHING  # SHA-256 of the body, in hex digits: a body of megabytes is not digested for each try

    @property
    def target(self) -> str:
        """Path and query below the endpoint, as the request line has them: each quoted once."""
        path = quote(self.path, safe="/-_.~")
        return f"{path}?{self.quoted_query}" if self.query else path

    @property
    def quoted_query(self) -> str:
        """Sorted by what is written, as it is signed."""
        pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in self.query.items())
        return "&".join(f"{name}={value}" for name, value in pairs)


class Signer:
    """Signs requests."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._derived: dict[tuple[Keys, str, str], bytes] = {}  # by keys, day and service

    def sign(
        self, service: Service, action: str, endpoint: str, document: bytes, keys: Keys, now: float
    ) -> dict[str, str]:
        """The headers of a POST of a JSON document at ``now`` (seconds since the epoch)."""
        headers = {"content-type": CONTENT_TYPE, "x-amz-target": f"{service.target}.{action}"}
        digest = hashlib.sha256(document).hexdigest()
        return self._signed(service, ("POST", endpoint, "/", ""), headers, digest, keys, now)

    def sign_s3(self, request: S3Request, keys: Keys, now: float) -> dict[str, str]:
        """The headers of a request to S3 at ``now``. Where others take the path quoted twice and normalised, S3 takes
        it as the request line has it, and the digest of the body is a header."""
        headers = {**request.headers, "x-amz-content-sha256": request.digest}
        path = f"/{request.target.partition('?')[0]}"
        what = (request.method, request.endpoint, path, request.quoted_query)
        return self._signed(S3, what, headers, request.digest, keys, now)

    def _signed(
        self,
        service: Service,
        what: tuple[str, str, str, str],
        headers: Mapping[str, str],
        digest: str,
        keys: Keys,
        now: float,
    ) -> dict[str, str]:
        """``what``: method, endpoint, path and query."""
        method, endpoint, path, query = what
        moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        day = moment[:8]
        signed = {**headers, "host": endpoint.partition("://")[2].partition("/")[0], "x-amz-date": moment}
        if keys.session_token:
            signed["x-amz-security-token"] = keys.session_token
        names = sorted(signed)
        listed = ";".join(names)
        lines = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in names)
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{listed}\n{digest}"
        scope = f"{day}/{self._region}/{service.name}/aws4_request"
        text = f"{ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = self._key(keys, day, service.name)
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        signed["authorization"] = (
            f"{ALGORITHM} Credential={keys.access_key_id}/{scope}, SignedHeaders={listed}, Signature={signature}"
        )
        return signed

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
