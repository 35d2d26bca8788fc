"""
The copy command of a move: run without a shell, told by its environment which mailbox it is about.

    SLUICE_ADDRESS   the mailbox's canonical address
    SLUICE_ALIASES   its other addresses, separated by spaces
    SLUICE_HOME      the store it is on
    SLUICE_TARGET    the store it goes to
    SLUICE_HOLD      the number of the hold

Addresses never stand in the command's arguments: one that begins with a hyphen is no option, and none is read by a
shell. Standard input is empty.

On failure: a status other than 0; 126 if it could not be started, 128 and the signal's number if one ended it.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from router.admin.cli.exits import CommandFailed, Exit
from router.control.mailboxes import Record

_NOT_STARTED = 126
_STDERR = 2


@dataclass(frozen=True, slots=True)
class CopyCommand:
    """A command line that was found to be there. `quiet`: its standard output goes to standard error."""

    words: Sequence[str]
    quiet: bool = False

    @classmethod
    def parse(cls, text: str, *, quiet: bool = False) -> "CopyCommand":
        """Raises `CommandFailed`: 64 for quotes that do not match, 66 for a program that is not there."""
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise CommandFailed(Exit.USAGE, f"--run: {error}", "quote the words as for a shell") from error
        if not words:
            raise CommandFailed(Exit.USAGE, "--run: the command is empty")
        if shutil.which(words[0]) is None:
            raise CommandFailed(Exit.NO_INPUT, f"--run: {words[0]} is no program that can be run")
        return cls(words, quiet)

    def run(self, record: Record, target: str, hold: int) -> int:
        """Run it for one mailbox and wait for its end; its exit status."""
        mailbox = record.mailbox
        told = {
            "SLUICE_ADDRESS": mailbox.key,
            "SLUICE_ALIASES": " ".join(one for one in record.addresses if one != mailbox.key),
            "SLUICE_HOME": mailbox.home,
            "SLUICE_TARGET": target,
            "SLUICE_HOLD": str(hold),
        }
        sys.stdout.flush()
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command, without a shell
                list(self.words),
                env={**os.environ, **told},
                stdin=subprocess.DEVNULL,
                stdout=_STDERR if self.quiet else None,
                check=False,
            )
        except OSError:
            return _NOT_STARTED
        return done.returncode if done.returncode >= 0 else 128 - done.returncode
