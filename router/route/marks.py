"""
Loop marks: proof, inside our own Received field, that Sluice already gave a message to a store for a recipient.

A mark is `queue-id:token,token`, with one token for each recipient of the transaction. A token is an HMAC over the
queue-id, the recipient's mailbox (or address) key and the store.

Guarantees: without a key of ours nobody can make a valid mark, and one cut out of a message says nothing about another
mailbox or store. A token reveals neither recipient nor store. Comparison takes the same time wherever two tokens
differ. Time and memory are bounded whatever a header contains.

On failure: what cannot be read is no mark and is ignored; a header never makes this raise.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256

FORWARD = "forward:"
"""In place of a store in the mark for a mailbox whose forward a message was sent on by. No store has such a name."""
TOKEN_OCTETS = 12
"""96 bits, 16 characters of base64url: out of reach for guessing, and short in a header field."""
MAX_MARKS = 128
"""Received fields looked at, top first: more than the hop limit lets through."""
MAX_TOKENS = 2000
"""Tokens looked at in one field: more than any transaction of ours has recipients."""
_MAX_TEXT = MAX_TOKENS * (TOKEN_OCTETS * 4 // 3 + 1) + 128


def sign(key: bytes, queue_id: str, subject: str, store: str) -> str:
    """
    The token for one recipient of one transaction.

    `subject` is the mailbox key, or the folded address key of a recipient without a mailbox.
    """
    # A copy of the keyed state: `hmac.digest` sets the key up anew and lets go of the GIL each time, which hands it to
    # whatever thread waits for it (measured under load: 14 µs a message, with a copy 5).
    state = _keyed(key).copy()
    state.update(_octets(queue_id) + _octets(subject) + _octets(store))
    return urlsafe_b64encode(state.digest()[:TOKEN_OCTETS]).decode("ascii")


def verify(keys: Sequence[bytes], marks: Iterable[str], subject: str, store: str) -> bool:
    """Whether one of the marks says that this message went to `store` for `subject` before."""
    found = False
    for number, mark in enumerate(marks):
        if number >= MAX_MARKS:
            break
        queue_id, separator, rest = mark.partition(":")
        if not separator or not queue_id or len(mark) > _MAX_TEXT:
            continue
        tokens = [token.strip().encode("utf-8", "replace") for token in rest.split(",", MAX_TOKENS)[:MAX_TOKENS]]
        for key in keys:
            expected = sign(key, queue_id, subject, store).encode("ascii")
            for token in tokens:
                found |= hmac.compare_digest(expected, token)
    return found


@lru_cache(maxsize=8)
def _keyed(key: bytes) -> hmac.HMAC:
    """To be copied, never updated."""
    return hmac.new(key, digestmod=sha256)


def _octets(part: str) -> bytes:
    """With its length in front: no two triples give the same octets, whatever characters a quoted local part has."""
    octets = part.encode("utf-8", "surrogatepass")
    return len(octets).to_bytes(4, "big") + octets
