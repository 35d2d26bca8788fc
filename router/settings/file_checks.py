"""
The files a configuration names: certificates, authorities and address lists must be readable and make sense now.

Guarantees: nothing is prompted for (an encrypted key is an error) and nothing but regular files is opened.

On failure: a problem at the key that names the file; never an exception.
"""

import hashlib
import pwd
import ssl
from pathlib import Path

from router.settings.directory import Ldap
from router.settings.draft import Draft, Entry
from router.settings.findings import Findings
from router.settings.problem import KeyPath
from router.settings.regular_file import open_regular

_LONGEST_PASSWORD = 1024
"""Octets."""
_ABSOLUTE = "write an absolute path: a daemon has no folder of its own"


class _KeyIsEncrypted(Exception):
    """OpenSSL asked for a passphrase."""


def check_files(draft: Draft, findings: Findings) -> None:
    """Everything on disk that the configuration names."""
    _check_state_dir(draft, findings)
    _check_user(draft, findings)
    for listener in draft.listeners:
        if listener.value.tls is not None:
            path = (*listener.path, "tls")
            _check_certificate(path, listener.value.tls.certificate, listener.value.tls.key, findings)
    for store in draft.stores:
        if store.value.ca_file is not None:
            _check_authorities((*store.path, "ca_file"), store.value.ca_file, findings)
    for lists in draft.lists:
        if lists.value.file is not None:
            _check_readable((*lists.path, "file"), lists.value.file, findings)
        elif not lists.value.addresses and not lists.faulty & {"addresses", "file"}:
            findings.add(lists.path, "names neither `addresses` nor a `file`", "give one of them, or both")
    for ldap in draft.ldaps:
        _check_ldap(ldap, findings)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal. Raises `OSError`."""
    with open_regular(path) as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _check_state_dir(draft: Draft, findings: Findings) -> None:
    text = draft.text("state_dir")
    if text is None:
        return
    if not text.startswith("/"):
        findings.add(("state_dir",), "is no absolute path", _ABSOLUTE)
    elif Path(text).exists() and not Path(text).is_dir():
        findings.add(("state_dir",), "is no directory", "name a directory; `sluice serve` creates it where it can")


def _check_user(draft: Draft, findings: Findings) -> None:
    user = draft.text("user")
    if not user:
        return
    try:
        account = pwd.getpwnam(user)
    except (KeyError, ValueError):
        findings.add(("user",), f"there is no account {user!a}", "create it, or remove the key")
        return
    if account.pw_uid == 0:
        findings.add(("user",), "is the superuser", "name an unprivileged account")


def _check_ldap(entry: Entry[Ldap], findings: Findings) -> None:
    path, ldap = entry.path, entry.value
    if ldap.password_file is not None:
        _check_password((*path, "password_file"), ldap.password_file, findings)
    if ldap.ca_file is not None:
        _check_authorities((*path, "ca_file"), ldap.ca_file, findings)
    if ldap.certificate is not None and ldap.key is not None:
        _check_certificate(path, ldap.certificate, ldap.key, findings)
    if ldap.key is not None:
        _check_secret((*path, "key"), ldap.key, findings)


def _check_password(path: KeyPath, file: Path, findings: Findings) -> None:
    """An empty password is no log-in at all, though servers say it went well (RFC 4513 5.1.2)."""
    if not _check_readable(path, file, findings) or not _check_secret(path, file, findings):
        return
    with open_regular(file) as source:
        content = source.read(_LONGEST_PASSWORD + 2)
    password = content.removesuffix(b"\n").removesuffix(b"\r")
    if not password or len(password) > _LONGEST_PASSWORD:
        fault = "is longer than any password" if password else "is empty"
        findings.add(path, f"{file} {fault}", "write the password into it, on one line and nothing else")
    elif b"\n" in password or b"\0" in password:
        findings.add(path, f"{file} has more than one line", "write the password into it, on one line and nothing else")


def _check_secret(path: KeyPath, file: Path, findings: Findings) -> bool:
    try:
        mode = file.stat().st_mode
    except OSError:  # reported as unreadable
        return False
    if mode & 0o007:
        findings.add(path, f"{file} is open to every account of this machine", f"chmod o-rwx {file}")
        return False
    return True


def _check_readable(path: KeyPath, file: Path, findings: Findings) -> bool:
    if not file.is_absolute():
        findings.add(path, f"{file} is no absolute path", _ABSOLUTE)
        return False
    try:
        open_regular(file).close()
    except OSError as error:
        findings.add(path, f"{file} cannot be read: {error.strerror}", "check the path and its permissions")
        return False
    return True


def _check_certificate(path: KeyPath, certificate: Path, key: Path, findings: Findings) -> None:
    readable = [
        _check_readable((*path, name), file, findings) for name, file in (("certificate", certificate), ("key", key))
    ]
    if not all(readable):
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_passphrase)
    except _KeyIsEncrypted:
        findings.add((*path, "key"), f"{key} is encrypted", "store the key without a passphrase, readable by us only")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or "not PEM"
        message = f"{certificate} and {key} cannot be used together: {reason}"
        findings.add(path, message, "give the certificate chain and its own key, both in PEM")


def _refuse_passphrase() -> str:
    raise _KeyIsEncrypted


def _check_authorities(path: KeyPath, file: Path, findings: Findings) -> None:
    if not _check_readable(path, file, findings):
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or "not PEM"
        findings.add(path, f"{file} holds no certificates: {reason}", "give the authorities' certificates in PEM")
