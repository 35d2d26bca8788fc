"""
What programs of the tests have in common that are run by hand: `./dev bench`, `./dev compare`, `./dev mutants`.

On failure: `allow_files` raises what the kernel says; a signal is a `KeyboardInterrupt`, so that servers are stopped.
"""

import resource
import signal


def allow_files(count: int) -> None:
    """Thousands of clients are descriptors of one process, and of those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), max(hard, count)))


def interruptible() -> None:
    """SIGTERM and SIGINT end the program as Ctrl-C does, also where it was started in the background."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupted)


def say(text: str) -> None:
    """A line at once, whoever reads it."""
    print(text, flush=True)  # noqa: T201 - it is what the program is for


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt
