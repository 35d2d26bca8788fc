"""Trouble of a spool becomes an alarm, and the end of it is seen."""

from router.daemon.spool_watch import SpoolWatch
from router.model.reply import Reply


class Sick:
    number = 3
    findings: tuple[str, ...] = ()
    trouble = ""
    reply: Reply | None = None

    seconds = 0.0

    def unhealthy(self) -> Reply | None:
        return self.reply

    def pause(self) -> float:
        return self.seconds


class Book:
    def __init__(self) -> None:
        self.open: dict[tuple[str, str], str] = {}

    def alarm(self, kind: str, key: str, text: str) -> None:
        self.open[(str(kind), key)] = text

    def clear(self, kind: str, key: str) -> None:
        self.open.pop((str(kind), key), None)


def test_space_is_told_and_cleared() -> None:
    spool, book = Sick(), Book()
    watch = SpoolWatch(spool, book)
    watch.look()
    assert book.open == {}
    spool.reply = Reply(452, "4.3.1", "Insufficient system storage")
    watch.look()
    assert list(book.open) == [("spool-space", "spool 0003")]
    spool.reply, spool.seconds, spool.trouble = None, 0.3, "150 octets are free: mail is taken more slowly"
    watch.look()
    assert book.open == {("spool-space", "spool 0003"): "150 octets are free: mail is taken more slowly"}
    spool.seconds = 0.0
    watch.look()
    assert book.open == {}


def test_errors_and_findings_are_told_with_their_cause() -> None:
    spool, book = Sick(), Book()
    spool.reply, spool.trouble = Reply(451, "4.3.0", "Temporary failure"), "disk I/O error"
    spool.findings = ("recipient 7: its checksum is wrong", "recipient 9: as well")
    SpoolWatch(spool, book).look()
    assert book.open[("spool-error", "spool 0003")] == "disk I/O error"
    assert book.open[("corrupt-row", "spool 0003")] == "recipient 7: its checksum is wrong and 1 more"
