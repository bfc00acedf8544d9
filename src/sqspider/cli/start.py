"""The start of a worker, as a command line says it: see :mod:`sqspider.orders.start`."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from sqspider import secret
from sqspider.cli import archiving
from sqspider.cli.options import checked
from sqspider.orders.start import Start, check_secrets, found, start_of
from sqspider.web.options import FetchOptions
from sqspider.work.allowed import Allowed
from sqspider.work.options import WorkerOptions
from sqspider.work.secrets import Secrets

checked_start = checked()(start_of)
checked_secrets = checked()(check_secrets)


def arguments(start: Start) -> list[str]:
    """A start as flags of `consume`, for a process of our own."""
    fetch, allowed, said = start.fetch, start.allowed, list[str]()
    for flag, value in (
        ("--timeout", fetch.timeout_seconds),
        ("--max-body", fetch.max_bytes),
        ("--user-agent", fetch.user_agent),
        ("--contact", fetch.contact),
        *(("--proxy", proxy) for proxy in allowed.proxies),  # one, as it was named: what it stands for may be secret
        ("--ca-file", fetch.ca_file),
        ("--client-cert", fetch.client_cert),
        ("--client-key", fetch.client_key),
        *(("--send-to", origin) for origin in sorted(allowed.origins)),
        ("--secrets", start.secrets_folder),
    ):
        if value is not None:
            said += [flag, str(value)]
    said += ["--allow-private"] * allowed.private + ["--allow-any-port"] * allowed.any_port
    return said + ["--http2"] * fetch.http2 + archiving.arguments(start.archive)


def to_start(given: dict[str, Any]) -> Start:
    """From the options of a command. Raises ``click.UsageError``, also for a secret that cannot be had."""
    folder, proxy = given.get("secrets"), given.get("proxy")
    named = proxy
    if proxy is not None and secret.is_reference(proxy):
        with checked():
            proxy = found(Secrets(folder=folder), proxy, "proxy")
    fields = {name: given[name] for name in FetchOptions.__struct_fields__ if name in given}
    with checked():
        fetch = FetchOptions(**{**fields, "proxy": proxy})
    allowed = Allowed.by(fetch, origins=tuple(given.get("origins", ())))
    allowed = msgspec.structs.replace(allowed, proxies=frozenset((named,) if named else ()))
    return Start(fetch=fetch, allowed=allowed, secrets_folder=folder)


def check_lease(options: WorkerOptions, start: Start) -> None:
    """Raise ``click.UsageError`` where a lease could end before what was fetched is kept."""
    try:
        options.check(start.fetch.timeout_seconds, start.gather_seconds)
    except ValueError as error:
        of_archive = ", and --archive: a bucket is put into some seconds later" if start.gather_seconds else ""
        raise click.UsageError(f"{error}. See --lease and --timeout{of_archive}.") from None
