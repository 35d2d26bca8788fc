"""
End-of-data look-alikes and what may follow them: the inputs of the tests on SMTP smuggling, for whoever is tested.

Only <CR><LF>.<CR><LF> ends a message. Each of the others has been taken for it by some server.
"""

import re
from collections.abc import Iterator

BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
VARIANTS = (
    b"\n.\n", b"\n.\r\n", b"\n.\r", b"\r.\r", b"\r.\r\n", b"\r.\n", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n", b"\r\n\r.\r\n", b"\n\r\n.\n\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n. \r\n", b"\r\n.\t\r\n",
    b"\r\n\x2e\x08\r\n", b"\n\n.\n\n", b"\r\n\x85.\x85\r\n", b"\r\n\xe2\x80\xa8.\r\n",
)  # fmt: skip
"""Of smtpsmug, SMTP-Smuggling-Tools, and some more."""
STOLEN = (
    b"MAIL FROM:<smuggled@evil.example>\r\nRCPT TO:<eve@example.edu>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nfrom nobody\r\n"
)
_NAMES = {b"\r": "CR", b"\n": "LF", b"\0": "NUL", b"\t": "TAB", b"\x08": "BS", b" ": "SP"}


def ways(content: bytes, variant: bytes) -> Iterator[list[bytes]]:
    """In one segment, cut in two at each octet of the variant, and its octets one by one."""
    start = content.index(variant)
    end = start + len(variant)
    yield [content]
    for cut in range(start, end + 1):
        yield [content[:cut], content[cut:]]
    yield [content[:start], *(bytes([octet]) for octet in content[start:end]), content[end:]]


def shown(variant: bytes) -> str:
    """For a person: `CR LF . LF`."""
    octets = (bytes([octet]) for octet in variant)
    return " ".join(_NAMES.get(one) or (one.decode() if b"!" <= one <= b"~" else f"0x{one.hex()}") for one in octets)
