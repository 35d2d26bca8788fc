"""
The arguments of MAIL and RCPT: a path and ESMTP parameters (RFC 5321 4.1.2, 1870, 3461, 4954, 6152, 6531).

Guarantees: keywords are compared without case and come out in upper case (RET, BODY, NOTIFY); ENVID and ORCPT come
out exactly as sent, since they are not ours; a parameter given twice, or one that was not announced, is refused.
On failure: `Refused` with the reply, never anything else, whatever the input.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from router.accept import replies
from router.accept.replies import Refused
from router.model.address import Address, AddressSyntaxError, parse_path
from router.model.reply import Reply

# A space after the colon is tolerated (old scripts put it there); brackets are not optional, since without them
# there is no telling where an address ends.
_PATH = r'(<(?:[^\s"<>]|"(?:[^"\\]|\\.)*+")*+>)(?:[ \t]++(.*))?'
_MAIL = re.compile(rf"FROM:[ \t]*+{_PATH}", re.IGNORECASE | re.DOTALL)
_RCPT = re.compile(rf"TO:[ \t]*+{_PATH}", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9\-]*)(?:=([\x21-\x3c\x3e-\x7e\u0080-\U0010ffff]+))?")
_XTEXT = r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})"
_ENVID = re.compile(rf"{_XTEXT}{{1,100}}")
_ORCPT = re.compile(rf"[A-Za-z0-9][A-Za-z0-9\-]*;{_XTEXT}+")
_ORCPT_UTF8 = re.compile(r"utf-8;(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e\u00a0-\U0010ffff]|\+[0-9A-Fa-f]{2})+", re.IGNORECASE)
_SIZE = re.compile(r"[0-9]{1,20}")
_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})

MAX_ORCPT = 500
_REMEMBERED = 2048
"""Arguments of MAIL and RCPT whose parse is remembered: it costs 8 to 12 us, and the same people recur."""


@dataclass(frozen=True, slots=True)
class MailCommand:
    """MAIL FROM: `path` is None for the null sender; `size` 0 when not declared; the rest '' when not given."""

    path: Address | None
    size: int = 0
    body: str = ""
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class RcptCommand:
    """RCPT TO with its DSN parameters."""

    address: Address
    notify: str = ""
    orcpt: str = ""


@lru_cache(_REMEMBERED)
def parse_mail(argument: bytes, *, utf8_offered: bool) -> MailCommand:
    """Parse what follows `MAIL `. Raises `Refused`."""
    path, given = _split(_MAIL, argument, replies.BAD_SENDER)
    smtputf8 = "SMTPUTF8" in given
    if smtputf8 and not utf8_offered:
        raise Refused(replies.UNKNOWN_PARAMETER)
    address = _parse(path, replies.BAD_SENDER, smtputf8=smtputf8)
    if address is not None and not address.domain:
        raise Refused(replies.BAD_SENDER)
    if not given:
        return MailCommand(address)
    return _mail_parameters(address, given)


def _mail_parameters(address: Address | None, given: dict[str, str]) -> MailCommand:
    _flag(given, "SMTPUTF8")
    command = MailCommand(
        address,
        size=int(_matching(given, "SIZE", _SIZE) or 0),
        body=_word(given, "BODY", ("7BIT", "8BITMIME")),
        smtputf8="SMTPUTF8" in given,
        ret=_word(given, "RET", ("FULL", "HDRS")),
        envid=_matching(given, "ENVID", _ENVID),
    )
    # AUTH= names an identity that a trusted hop vouches for; nobody is authenticated here, so it is dropped
    # (RFC 4954 section 5).
    if not given.keys() <= {"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH"}:
        raise Refused(replies.UNKNOWN_PARAMETER)
    return command


@lru_cache(_REMEMBERED)
def parse_rcpt(argument: bytes, *, smtputf8: bool) -> RcptCommand:
    """Parse what follows `RCPT `; `smtputf8` as MAIL said. Raises `Refused`."""
    path, given = _split(_RCPT, argument, replies.BAD_RECIPIENT)
    address = _parse(path, replies.BAD_RECIPIENT, smtputf8=smtputf8)
    if address is None:
        raise Refused(replies.BAD_RECIPIENT)
    if not given:
        return RcptCommand(address)
    command = RcptCommand(address, notify=_notify(given), orcpt=_orcpt(given, smtputf8=smtputf8))
    if not given.keys() <= {"NOTIFY", "ORCPT"}:
        raise Refused(replies.UNKNOWN_PARAMETER)
    return command


def _split(pattern: re.Pattern[str], argument: bytes, bad_path: Reply) -> tuple[str, dict[str, str]]:
    """Path with brackets, and parameters by upper-case keyword ('' for one without a value)."""
    try:
        text = argument.decode("utf-8").rstrip(" \t")
    except UnicodeDecodeError:
        raise Refused(replies.NEEDS_SMTPUTF8) from None
    match = pattern.fullmatch(text)
    if match is None:
        raise Refused(bad_path)
    given: dict[str, str] = {}
    for word in (match[2] or "").split():
        parameter = _PARAMETER.fullmatch(word)
        if parameter is None or parameter[1].upper() in given:
            raise Refused(replies.BAD_PARAMETER)
        given[parameter[1].upper()] = parameter[2] or ""
    return match[1], given


def _parse(path: str, bad: Reply, *, smtputf8: bool) -> Address | None:
    if not smtputf8 and not path.isascii():
        raise Refused(replies.NEEDS_SMTPUTF8)
    try:
        return parse_path(path)
    except AddressSyntaxError:
        raise Refused(bad) from None


def _flag(given: dict[str, str], name: str) -> None:
    if given.get(name):
        raise Refused(replies.BAD_PARAMETER)


def _matching(given: dict[str, str], name: str, pattern: re.Pattern[str]) -> str:
    value = given.get(name)
    if value is None:
        return ""
    if not pattern.fullmatch(value):
        raise Refused(replies.BAD_PARAMETER)
    return value


def _word(given: dict[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = given.get(name)
    if value is None:
        return ""
    if value.upper() not in choices:
        raise Refused(replies.BAD_PARAMETER)
    return value.upper()


def _notify(given: dict[str, str]) -> str:
    """NEVER alone, or a list of the others (RFC 3461 4.1)."""
    value = given.get("NOTIFY")
    if value is None:
        return ""
    words = value.upper().split(",")
    if words != ["NEVER"] and (len(set(words)) != len(words) or not _NOTIFY.issuperset(words)):
        raise Refused(replies.BAD_PARAMETER)
    return ",".join(words)


def _orcpt(given: dict[str, str], *, smtputf8: bool) -> str:
    """`type;xtext` (RFC 3461 4.2) or the utf-8 type of RFC 6533, unencoded only inside an SMTPUTF8 transaction."""
    value = given.get("ORCPT")
    if value is None:
        return ""
    known = _ORCPT.fullmatch(value) or _ORCPT_UTF8.fullmatch(value)
    if not known or len(value) > MAX_ORCPT or not (smtputf8 or value.isascii()):
        raise Refused(replies.BAD_PARAMETER)
    return value
