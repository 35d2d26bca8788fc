"""
Opens files that a configuration names, without being caught by what only looks like a file.

Guarantees: never waits (a pipe would wait for a writer) and never reads from a device or directory.

On failure: `OSError`, or `NotRegular`, which is one; its `strerror` is fit for an operator.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


class NotRegular(OSError):
    """The name leads to a pipe, a device or a directory, or cannot be a name at all."""


def open_regular(path: Path) -> BufferedReader:
    """The file, open for reading. Raises `OSError`."""
    if "\0" in str(path):
        raise NotRegular(errno.EINVAL, "Not a usable file name")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegular(errno.EINVAL, "Not a regular file")
    return os.fdopen(descriptor, "rb")
