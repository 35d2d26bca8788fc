"""The entry of a worker process: forked by the nursery, or `python -m router.daemon.worker_process`."""

import argparse
import asyncio
import contextlib
import gc
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from router.daemon.clock import SystemClock
from router.daemon.damaged import EX_DAMAGED
from router.daemon.lifeline import ends_with
from router.daemon.logs import log_to_stderr
from router.daemon.loops import new_event_loop, to_the_end
from router.daemon.worker import Worker, WorkerOptions
from router.errors import SluiceError, SpoolDamaged
from router.report.delivery_log import DeliveryLog
from router.report.log_format import make_format, under_journal
from router.report.log_sink import SinkThread
from router.settings.published import recall_file

EX_OSERR = 71
EX_TEMPFAIL = 75
EX_CONFIG = 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one worker; the exit code."""
    os.umask(0o077)
    options = _options(arguments)
    if not ends_with(options.supervisor):
        print(f"worker {options.slot}: the supervisor has gone", file=sys.stderr)  # noqa: T201 - there is no log yet
        return EX_TEMPFAIL
    try:
        settings = recall_file(options.config)
    except SluiceError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        return EX_CONFIG
    log_to_stderr(settings.log.level, os.environ)
    form = make_format(settings.log.format, socket.gethostname(), os.getpid(), journal=under_journal(os.environ))
    _share_the_processors(options.slot, options.workers)
    sink = SinkThread(sys.stderr.buffer, form)
    sink.start()
    clock = SystemClock()
    # Long-lived objects of the start need not be looked at by every collection, and collecting after every 700 new
    # objects cost 7 % of the processor time of a message.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            worker = Worker(settings, options, DeliveryLog(sink.put, clock.wall))
            return runner.run(to_the_end(worker.run()))
    except SpoolDamaged as error:
        print(f"worker {options.slot} (spool {options.spool:04d}): {error}", file=sys.stderr)  # noqa: T201 - as above
        return EX_DAMAGED
    except (SluiceError, OSError, ValueError) as error:
        print(f"worker {options.slot} (spool {options.spool:04d}): {error}", file=sys.stderr)  # noqa: T201 - as above
        return EX_OSERR
    finally:
        sink.close()


def _share_the_processors(slot: int, workers: int) -> None:
    """
    How this worker's threads get along with each other and with everybody else; `slot` counts from 0.

    Whatever wakes up, a client, a store or a thread of ours, may finish its turn before we take the processor from it;
    else the spool's thread, woken in the middle of a step of the event loop, gets a core only to wait for the
    interpreter's lock. Where there is a worker for each core, each stays on its own: its threads run one at a time in
    any case, and that lock then never has to wake another core. Measured with 20 connections on two cores: a sixth less
    processor time for a message, and a fifth more messages (ADR 10).
    """
    # What an administrator has set otherwise stays. systemd's filter may forbid both, and the unit sets the first.
    with contextlib.suppress(OSError):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError):
        cores = sorted(os.sched_getaffinity(0))
        if slot < workers == len(cores):  # beyond are those that only drain the spools of others
            os.sched_setaffinity(0, {cores[slot]})


def _options(arguments: Sequence[str] | None) -> WorkerOptions:
    parser = argparse.ArgumentParser(prog="sluice-worker")
    parser.add_argument("config", type=Path)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--spool", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--listen", default="")
    parser.add_argument("--ready", type=int, default=-1)
    parser.add_argument("--single-step", action="store_true")
    parser.add_argument("--supervisor", type=int, default=0)
    given = parser.parse_args(arguments)
    return WorkerOptions(
        config=given.config,
        slot=given.slot,
        spool=given.spool,
        listen=tuple(int(part) for part in given.listen.split(",") if part),
        ready=given.ready,
        single_step=given.single_step,
        workers=given.workers,
        supervisor=given.supervisor,
    )


def _leave(code: int) -> NoReturn:
    """
    End without waiting for threads: all that is to be kept was written and closed by now, and one that waits for a
    silent directory, or for a name server, would keep the process, which nobody could tell from one that hangs.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(main())
