"""
Many seeds in a process of their own: a fork that ends without clearing up.

To clear away what a run leaves (tasks of killed processes, half-done coroutines) costs a fifth of its time. A fork
that just ends saves it, and a seed sees nothing of another test.

Guarantees: the results are those that the same seeds have in the caller's process, in their order. The fork ends with
its seeds or with the caller.

On failure: an exception of a seed, which is a fault of the simulation itself, is raised in the caller.
"""

import gc
import multiprocessing
import resource
import warnings
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from support.simulation.run import Result, simulate
from support.simulation.seams import Present, exchanged
from support.simulation.site_database import prepared

FORK = multiprocessing.get_context("fork")
AT_ONCE = 500
"""Seeds of one fork: it keeps some 0.3 MB of each."""


def results_of(seeds: Sequence[int]) -> list[Result]:
    """Run them all, without traces."""
    parts = [seeds[first : first + AT_ONCE] for first in range(0, len(seeds), AT_ONCE)]
    return [result for part in parts for result in _forked(part)]


def processor_time() -> float:
    """Seconds of this process and of the forks that have ended."""
    spent = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def _forked(seeds: Iterable[int]) -> list[Result]:
    prepared()
    receiver, sender = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_child, args=(sender, seeds), daemon=True)
    with warnings.catch_warnings():
        # Of a fork beside threads (Python 3.12): the child touches nothing of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    sender.close()
    try:
        found: Any = receiver.recv()
    except EOFError:
        found = RuntimeError(f"the process of seeds {seeds} has died")
    finally:
        child.kill()
        child.join()
        receiver.close()
    if isinstance(found, BaseException):
        raise found
    return list(found)


def _child(sender: Connection, seeds: Iterable[int]) -> None:
    Present.collecting = False
    gc.disable()
    gc.freeze()
    try:
        with exchanged():
            found: Any = [simulate(seed) for seed in seeds]
    except BaseException as error:  # noqa: BLE001 - for the caller
        found = error
    sender.send(found)
