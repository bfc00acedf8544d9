"""Files of certificates and keys, looked at before libcurl is: what is wrong with one, and what to do.

libcurl itself tells of them only with the first connection, and in the words of OpenSSL.
"""

from __future__ import annotations

import os
import re
import ssl
from typing import Final

_CERTIFICATE: Final = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----")
_KEY: Final = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")
_LOCKED: Final = re.compile(rb"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED", re.MULTILINE)
_MAX_BYTES: Final = 16 * 1024 * 1024


class UnusableError(ValueError):
    """A file cannot be used: the text says which, why, and what to do. ``is_key``: it is that of the key."""

    def __init__(self, why: str, *, is_key: bool = False) -> None:
        super().__init__(why)
        self.is_key = is_key


def check_trusted(path: str, *, may_be_folder: bool = False) -> None:
    """Raises :class:`UnusableError` unless a file holds certificates that can be trusted."""
    if may_be_folder and os.path.isdir(path):
        return
    text, context = _read(path), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        if _CERTIFICATE.search(text):
            raise UnusableError(f"a certificate in {path!r} is broken ({_said(error)}): get the file anew") from None
    if not context.cert_store_stats()["x509"]:
        raise UnusableError(f"{path!r} holds no certificate: name a file of certificates in PEM")


def check_own(certificate: str, key: str | None) -> None:
    """Raises :class:`UnusableError` unless a certificate and its key can be used together. Without a file for the key
    it lies with the certificate."""
    if not _CERTIFICATE.search(_read(certificate)):
        raise UnusableError(f"{certificate!r} holds no certificate: name a file in PEM")
    key_path, is_key = key or certificate, key is not None
    text = _read(key_path, is_key=is_key)
    if _LOCKED.search(text):
        how = "write it without one (`openssl pkey -in FILE -out NEW`) where only you can read it, and name that"
        raise UnusableError(f"the key in {key_path!r} is under a password, and none is asked for: {how}", is_key=is_key)
    if not _KEY.search(text):
        what = "name a file in PEM" if is_key else "name the file of its key, too"
        raise UnusableError(f"{key_path!r} holds no private key: {what}", is_key=is_key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:
        said = _said(error)
        if said in _OF_TWO:
            why = f"the key in {key_path!r} is not that of the certificate in {certificate!r}: name two made together"
            raise UnusableError(why, is_key=is_key) from None
        where = repr(certificate) if key is None else f"{certificate!r} or {key!r}"
        raise UnusableError(f"what {where} holds is broken ({said}): get it anew") from None


_OF_TWO: Final = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")


def _read(path: str, *, is_key: bool = False) -> bytes:
    """What is in a file. No device or pipe is one: it would be empty when libcurl reads it."""
    try:
        if os.path.isdir(path):
            raise UnusableError(f"{path!r} is a folder: name a file in PEM", is_key=is_key)
        if os.path.exists(path) and not os.path.isfile(path):
            raise UnusableError(f"{path!r} is no file, but a device or pipe: name a file in PEM", is_key=is_key)
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES)
    except FileNotFoundError:
        raise UnusableError(f"there is no file {path!r}", is_key=is_key) from None
    except OSError as error:
        raise UnusableError(f"{path!r} cannot be read ({error.strerror})", is_key=is_key) from None
    except ValueError as error:  # a NUL in the path
        if isinstance(error, UnusableError):
            raise
        raise UnusableError(f"{path!r} is no path of a file ({error})", is_key=is_key) from None


def _said(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or "no PEM"
