"""The nursery: real forks of a process that has everything imported, their births, ends, signals, and its own death."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from router.daemon.nursery_process import order_of, words_of
from router.daemon.starting import Executed, Order

pytestmark = pytest.mark.slow

PROGRAM = '''
"""A program of `router.daemon` for tests: says what it sees, then does what its first word says."""
import argparse, json, os, signal, sys, time
def main(arguments):
    given = argparse.ArgumentParser()
    given.add_argument("deed")
    for name in ("--supervisor", "--listen", "--ready"):
        given.add_argument(name, default="")
    told = given.parse_args(arguments)
    seen = {
        "pid": os.getpid(), "parent": os.getppid(), "supervisor": int(told.supervisor), "listen": told.listen,
        "name": open("/proc/self/comm").read().strip(), "descriptors": sorted(map(int, os.listdir("/proc/self/fd"))),
        "stdin": os.readlink("/proc/self/fd/0"), "blocked": [int(one) for one in signal.pthread_sigmask(0, ())],
        "imported": sys.modules["router.daemon.nursery_program"].__dict__.get("AT", 0),
    }
    from router.daemon.lifeline import ends_with
    if not ends_with(int(told.supervisor)):
        return 1
    if told.ready:
        os.write(int(told.ready), json.dumps(seen).encode() + b"\\n")
    if told.deed == "lives":
        time.sleep(60)
    if told.deed == "fails":
        raise ValueError("a fault of the program")
    if told.deed == "leaves":
        sys.exit(75)
    return 3
AT = os.getpid()
'''
"""As `router/daemon/nursery_program.py`, on a path of the test's own."""

HEAD = """
import asyncio, errno, json, os, signal, socket, sys, time, threading
import router.daemon
router.daemon.__path__.append(sys.argv[1])
from router.daemon.nursery import Nursery
from router.daemon.starting import Executed, Order

def order(deed, ready=-1, listen=()):
    return Order("nursery_program", "sluice-" + deed, (deed,), ready, listen)

async def seen(starter, deed, listen=()):
    read, write = os.pipe()
    child = await starter.start(order(deed, write, listen))
    os.close(write)
    text = b""
    while not text.endswith(b"\\n"):
        text += await asyncio.to_thread(os.read, read, 4096)
    os.close(read)
    return child, json.loads(text)

async def fails(nursery, number):
    try:
        await nursery.start(order("lives"))
    except OSError as error:
        assert error.errno == number
    else:
        raise AssertionError("somebody was born")

def children(nursery):
    return open(f"/proc/{nursery._pid}/task/{nursery._pid}/children").read()

async def is_sound(nursery):
    assert await (await nursery.start(order("ends"))).wait() == 3

async def is_empty(nursery):
    async with asyncio.timeout(60):
        while children(nursery):
            await asyncio.sleep(0.02)

def trouble():
    wrong = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: wrong.append(context))
    return wrong
"""


def play(tmp_path: Path, story: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """
    Run a story in a process of its own, which may fork: it has no other thread. What became of it.

    The story defines `async def story(nursery)`.
    """
    (tmp_path / "nursery_program.py").write_text(PROGRAM)
    tail = """
        bound = socket.create_server(("127.0.0.1", 0))
        nursery = Nursery.fork(["router.daemon.nursery_program"], unwanted=[bound])
        asyncio.run(story(nursery))
        nursery.close()
        assert not os.path.exists(f"/proc/{nursery._pid}"), "the nursery has ended and was waited for"
    """
    code = HEAD + textwrap.dedent(story) + textwrap.dedent(tail)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, timeout=110, check=False, env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done


def test_a_child_is_forked_with_what_it_was_ordered_and_nothing_else(tmp_path: Path) -> None:
    play(
        tmp_path,
        """
        async def story(nursery):
            fifth = socket.create_server(("127.0.0.1", 0))
            child, saw = await seen(nursery, "lives", (fifth.fileno(),))
            assert saw["pid"] == child.pid and saw["parent"] == saw["supervisor"] == nursery._pid != os.getpid()
            assert saw["imported"] == nursery._pid, "it was imported before the fork"
            assert saw["name"] == "sluice-lives" and saw["stdin"] == "/dev/null" and saw["blocked"] == []
            at = f"/proc/{child.pid}/fd/"
            assert os.readlink(at + saw["listen"]) == os.readlink(f"/proc/self/fd/{fifth.fileno()}")
            sockets = [os.readlink(at + str(n)) for n in saw["descriptors"] if os.path.exists(at + str(n))]
            assert len([one for one in sockets if one.startswith("socket:")]) == 1, sockets
            assert not [one for one in sockets if "eventpoll" in one or "pidfd" in one], sockets
            child.send_signal(signal.SIGTERM)
            assert await child.wait() == -signal.SIGTERM
        """,
    )


def test_ends_are_told_with_their_status(tmp_path: Path) -> None:
    done = play(
        tmp_path,
        """
        async def story(nursery):
            async def end(deed):
                return await (await nursery.start(order(deed))).wait()
            assert await asyncio.gather(end("ends"), end("leaves"), end("fails")) == [3, 75, 70]
            child = await nursery.start(order("lives"))
            os.kill(child.pid, signal.SIGKILL)
            assert await child.wait() == await child.wait() == -9
            try:
                child.send_signal(signal.SIGTERM)
            except ProcessLookupError:
                pass
            else:
                raise AssertionError("a process that has ended was signalled")
            assert os.listdir("/proc/self/fd").__len__() == before(), "descriptors of the dead are closed"
            assert os.listdir(f"/proc/{nursery._pid}/fd").__len__() == 5, "and in the nursery"
            assert open(f"/proc/{nursery._pid}/task/{nursery._pid}/children").read() == "", "none is a zombie"

        def before():
            return 3 + 1 + 1 + 3 + 1  # standard, bound, channel, the loop's own, the listing's
        """,
    )
    assert "a fault of the program" in done.stderr


def test_who_gives_up_waiting_changes_nothing_for_others(tmp_path: Path) -> None:
    play(
        tmp_path,
        """
        async def story(nursery):
            child = await nursery.start(order("lives"))
            waiting = asyncio.ensure_future(child.wait())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            child.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(child.wait(), 60) == -signal.SIGTERM
        """,
    )


def test_a_signal_right_after_the_birth_is_not_lost(tmp_path: Path) -> None:
    """Hazard: the nursery keeps SIGTERM from itself; a child that were born deaf to it would live for ever."""
    play(
        tmp_path,
        """
        async def story(nursery):
            for _ in range(50):
                child = await nursery.start(order("lives"))
                child.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(child.wait(), 60) == -signal.SIGTERM
        """,
    )


def test_the_nursery_lives_through_signals_for_the_whole_group(tmp_path: Path) -> None:
    """Ctrl-C in a terminal, or a manager that signals every process, must not end it before its children."""
    play(
        tmp_path,
        """
        async def story(nursery):
            await (await nursery.start(order("ends"))).wait()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(nursery._pid, number)
            assert await (await nursery.start(order("ends"))).wait() == 3
            assert not nursery._dead
        """,
    )


def test_when_the_nursery_dies_its_children_end_and_others_are_started_without_it(tmp_path: Path) -> None:
    done = play(
        tmp_path,
        """
        class Spare:
            orders = []
            async def start(self, order):
                self.orders.append(order.name)
                return None

        async def story(nursery):
            nursery._spare = Spare()
            child, _ = await seen(nursery, "lives")
            os.kill(nursery._pid, signal.SIGKILL)
            assert await asyncio.wait_for(child.wait(), 60) == 75
            state = f"/proc/{child.pid}/stat"  # its new parent may not have looked yet
            assert not os.path.exists(state) or open(state).read().rpartition(")")[2].split()[0] in "ZX"
            await nursery.start(order("lives"))
            assert Spare.orders == ["sluice-lives"]
        """,
    )
    assert "the nursery has ended" in done.stderr


def test_an_order_that_the_nursery_died_of_fails_and_can_be_given_again(tmp_path: Path) -> None:
    play(
        tmp_path,
        """
        class Spare:
            async def start(self, order):
                return "spare"

        async def story(nursery):
            nursery._spare = Spare()
            await (await nursery.start(order("ends"))).wait()
            os.kill(nursery._pid, signal.SIGSTOP)
            asked = asyncio.ensure_future(nursery.start(order("lives")))
            await asyncio.sleep(0.1)
            os.kill(nursery._pid, signal.SIGKILL)
            try:
                await asked
            except ConnectionResetError:
                assert await nursery.start(order("lives")) == "spare"
            else:
                raise AssertionError("nobody was born")
        """,
    )


def test_a_fork_that_fails_is_an_error_of_the_order_alone(tmp_path: Path) -> None:
    play(
        tmp_path,
        """
        import resource
        async def story(nursery):
            await is_sound(nursery)
            before = resource.prlimit(nursery._pid, resource.RLIMIT_NOFILE)
            resource.prlimit(nursery._pid, resource.RLIMIT_NOFILE, (4, before[1]))
            await fails(nursery, errno.EMFILE)
            assert children(nursery) == "", "a half-born child lives"
            resource.prlimit(nursery._pid, resource.RLIMIT_NOFILE, before)
            await is_sound(nursery)
        """,
    )


def test_a_birth_that_cannot_be_told_leaves_no_child(tmp_path: Path) -> None:
    play(
        tmp_path,
        """
        from router.daemon import nursery_process
        say, failed = nursery_process._Nursery._say, []

        def once(self, words, *descriptors):
            if words[0] == "born" and not failed:
                failed.append(words)
                raise OSError(errno.ENOBUFS, "no room for it")
            say(self, words, *descriptors)

        nursery_process._Nursery._say = once

        async def story(nursery):
            wrong = trouble()
            await fails(nursery, errno.ENOBUFS)
            assert children(nursery) == "", "an unknown child lives"
            await is_sound(nursery)
            assert wrong == []
        """,
    )


def test_a_child_that_the_supervisor_has_no_descriptor_for_ends(tmp_path: Path) -> None:
    play(
        tmp_path,
        """
        import resource
        async def story(nursery):
            wrong = trouble()
            await is_sound(nursery)
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
            try:
                await fails(nursery, errno.EMFILE)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            await is_empty(nursery)
            await is_sound(nursery)
            assert wrong == []
        """,
    )


def test_a_child_that_nobody_waits_for_any_more_is_told_to_end(tmp_path: Path) -> None:
    play(
        tmp_path,
        """
        async def story(nursery):
            await is_sound(nursery)
            asked = asyncio.ensure_future(nursery.start(order("lives")))
            await asyncio.sleep(0)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            await is_sound(nursery)
            await is_empty(nursery)
        """,
    )


def test_one_that_nobody_waits_for_and_that_has_ended_before_it_was_heard_of_is_no_error(tmp_path: Path) -> None:
    play(
        tmp_path,
        """
        async def story(nursery):
            wrong = trouble()
            await is_sound(nursery)
            asked = asyncio.ensure_future(nursery.start(order("ends")))
            await asyncio.sleep(0)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            time.sleep(1)  # nothing is heard meanwhile
            await is_sound(nursery)
            assert wrong == []
        """,
    )


def test_a_nursery_that_has_nobody_to_tell_of_an_end_ends_quietly(tmp_path: Path) -> None:
    """The supervisor was killed, and a worker dies before its death is known."""
    play(
        tmp_path,
        """
        import router.daemon.nursery_process as process
        async def story(nursery):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            one = process._Nursery(theirs)
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            handle = os.pidfd_open(pid)
            one._children[handle] = pid
            one._selector.register(handle, process.selectors.EVENT_READ)
            ours.close()
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            one.run()
            theirs.close()
        """,
    )


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    done = play(
        tmp_path,
        """
        async def story(nursery):
            child, _ = await seen(nursery, "lives")
            print(child.pid, nursery._pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        status=-signal.SIGKILL,
    )
    # They have its standard output, so that it has come to its end only after theirs.
    assert [pid for pid in done.stdout.split() if Path(f"/proc/{pid}/exe").exists()] == []


def test_a_process_with_threads_is_not_forked(tmp_path: Path) -> None:
    play(
        tmp_path,
        """
        async def story(nursery):
            stop = threading.Event()
            one = threading.Thread(target=stop.wait)
            one.start()
            try:
                Nursery.fork([])
            except RuntimeError:
                pass
            else:
                raise AssertionError("it was forked")
            finally:
                stop.set()
                one.join()
        """,
    )


def test_an_order_is_sent_whole() -> None:
    order = Order("worker_process", "sluice-worker0", ("a", "--b"), ready=9, listen=(4, 5))
    there = order_of(words_of(order))
    assert (there.program, there.name, there.words) == (order.program, order.name, order.words)
    assert there.arguments(7, (30, 31, 32)) == ["a", "--b", "--supervisor", "7", "--listen", "30,31", "--ready", "32"]
    assert order_of(words_of(Order("p", "n"))).arguments(7, ()) == ["--supervisor", "7"]


async def test_an_interpreter_of_its_own_gets_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spare way: `python -m router.daemon.…` with the descriptors of the caller."""
    commands: list[tuple[str, ...]] = []

    async def run(*words: str, pass_fds: tuple[int, ...], stdin: int) -> None:
        commands.append(words)
        assert pass_fds == (4, 9)
        assert stdin == asyncio.subprocess.DEVNULL

    monkeypatch.setattr(asyncio, "create_subprocess_exec", run)
    await Executed().start(Order("worker_process", "sluice-worker0", ("kept",), ready=9, listen=(4,)))
    [words] = commands
    assert words[1:] == (
        *("-m", "router.daemon.worker_process", "kept"),
        *("--supervisor", str(os.getpid()), "--listen", "4", "--ready", "9"),
    )
