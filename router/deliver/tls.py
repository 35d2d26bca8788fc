"""
TLS towards next hops.

Policies: `off` never asks; `opportunistic` uses what is offered and falls back to plaintext on a fresh connection;
`require` takes any certificate but never plaintext; `verify` also demands a valid chain and the host's name.
Guarantees: TLS 1.2 or newer. On failure to read a CA file, `OSError` or `ssl.SSLError` at construction, so that a
bad configuration shows before mail is touched.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Mode = Literal["off", "opportunistic", "require", "verify"]


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """A policy with its ready context; `context` is None for `off`."""

    mode: Mode
    context: ssl.SSLContext | None

    @property
    def mandatory(self) -> bool:
        return self.mode in {"require", "verify"}


def tls_policy(mode: Mode, ca_file: Path | None = None) -> TlsPolicy:
    """Build the policy; reads CA certificates, so call it at start or reload and not for every message."""
    if mode == "off":
        return TlsPolicy(mode, None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if mode != "verify":
        # A certificate nobody checks still keeps passive listeners out (RFC 7435); whom we talk to is unproven.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return TlsPolicy(mode, context)
