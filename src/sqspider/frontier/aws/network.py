"""How AWS is reached, by the variables that every AWS SDK reads: endpoints, proxies, certificates.

https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from sqspider.frontier.values import FrontierUnavailableError

VARIANTS: Final = ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")
# Their usual endpoints are the ones for FIPS, in the regions of the US government.
FIPS_BY_ITSELF_IN_GOV: Final = ("sqs", "monitoring")


@dataclass(frozen=True, slots=True)
class Network:
    """What lies between this machine and AWS. Its proxies do not show themselves: passwords are in their URLs."""

    # URL of a proxy by the scheme of what is asked for
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    no_proxy: str = ""  # hosts that are asked directly
    certificates: str | None = None  # a file or folder of those it trusts; none: the system's

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Network:
        """By ``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY`` and ``AWS_CA_BUNDLE``.

        Raises :class:`FrontierUnavailableError` where there are no certificates.
        """
        proxies = {scheme: _proxy(scheme, environment) for scheme in ("http", "https")}
        return cls(
            {scheme: proxy for scheme, proxy in proxies.items() if proxy},
            environment.get("no_proxy") or environment.get("NO_PROXY", ""),
            _trusted(environment.get("AWS_CA_BUNDLE", "")),
        )

    def proxy_for(self, endpoint: str) -> str | None:
        """The URL of the proxy through which an endpoint is asked; none: directly.

        Raises :class:`FrontierUnavailableError` where it is a proxy of a kind that cannot be used.
        """
        parts = urlsplit(endpoint)
        proxy = self.proxies.get(parts.scheme)
        if proxy is None:
            return None
        # Here: it brings an HTTP client along. botocore uses it, too.
        from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined] # typeshed leaves it out

        if proxy_bypass_environment(parts.netloc, {"no": self.no_proxy}):
            return None
        kind, separator, _ = proxy.partition("://")
        if separator and kind.lower() not in ("http", "https"):
            raise FrontierUnavailableError(
                f"{parts.scheme.upper()}_PROXY names a proxy of the kind {kind!r}, and AWS is reached through HTTP "
                "proxies alone: name such a one, or the host in NO_PROXY"
            )
        if not is_server(proxy):
            raise FrontierUnavailableError(
                f"{parts.scheme.upper()}_PROXY is no URL of a proxy: write http://HOST:PORT, with USER:PASSWORD@ "
                "before the host where it asks for them; what is special in them is percent-encoded"
            )
        return proxy


def is_server(url: str) -> bool:
    """Whether a URL names a server that can be asked by HTTP."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, or a bracket that is not closed
        return False


def endpoint_of(service: str, region: str, environment: Mapping[str, str]) -> str:
    """AWS's own endpoint of a service, of the kind that the environment asks for.

    https://docs.aws.amazon.com/general/latest/gr/rande.html
    """
    is_fips, is_dual = (_is_true(variant, environment) for variant in VARIANTS)
    is_gov, is_china = region.startswith("us-gov-"), region.startswith("cn-")
    if service == "s3" and is_dual:  # older than the names of all others
        suffix = "amazonaws.com.cn" if is_china else "amazonaws.com"
        return f"https://s3{'-fips' if is_fips else ''}.dualstack.{region}.{suffix}"
    if is_fips and not (is_gov and not is_dual and service in FIPS_BY_ITSELF_IN_GOV):
        service += "-fips"
    if is_dual:
        suffix = "api.amazonwebservices.com.cn" if is_china else "api.aws"
    else:
        suffix = "amazonaws.com.cn" if is_china else "amazonaws.com"
    return f"https://{service}.{region}.{suffix}"


def variant_asked_for(environment: Mapping[str, str]) -> str | None:
    """The variable that asks for another kind of endpoint, if there is one."""
    return next((variant for variant in VARIANTS if _is_true(variant, environment)), None)


def _is_true(variable: str, environment: Mapping[str, str]) -> bool:
    return environment.get(variable, "").lower() == "true"


def _proxy(scheme: str, environment: Mapping[str, str]) -> str:
    name = f"{scheme}_proxy"
    url = environment.get(name) or environment.get(name.upper(), "")
    return url if "://" in url or not url else f"http://{url.removeprefix('//')}"


def _trusted(bundle: str) -> str | None:
    if not bundle:
        return None
    from sqspider.transport import certificates  # here: few name one

    try:  # to tell now what is wrong with it
        certificates.check_trusted(bundle, may_be_folder=True)
    except certificates.UnusableError as error:
        raise FrontierUnavailableError(f"AWS_CA_BUNDLE: {error}") from None
    return bundle
