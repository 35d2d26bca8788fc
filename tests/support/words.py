"""
A command line's list of words with commas between them, as argparse wants a type.

Guarantees: only words that are known come through. On failure: `argparse.ArgumentTypeError` that names the word.
"""

import argparse
from collections.abc import Collection


class Words:
    """Some of `known`."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = known

    def __call__(self, text: str) -> list[str]:
        words = text.split(",")
        if unknown := [word for word in words if word not in self._known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(self._known)}")
        return words
