"""A control database with one directory, commands that write to it, and a mirror that reads it when told to."""

from dataclasses import dataclass, field
from functools import partial

from router.control import alarms, mailboxes, schema, written
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.mirror import Mirror
from router.control.operations import Operations
from router.control.results import HoldResult, ReleaseResult
from router.model.mailbox import Mailbox
from support.people import People, Writer

ANN, BOB = "ann@example.edu", "bob@example.edu"
STORES = ("cliff", "sunray", "zimbra")
SOURCES = ("ldap", "database")
ACT = Act("operator", "move", 7000.0)


@dataclass
class Site:
    """A control database, a directory with Ann in it, and what commands need."""

    database: ControlDatabase
    people: People = field(default_factory=People)
    writes_home: bool = True
    writes_status: bool = True
    ann: str = ""

    def __post_init__(self) -> None:
        self.ann = self.people.add("ann", "cliff.example.edu", "a@example.edu")
        self.mirror = Mirror(self.database, "ldap", SOURCES, wall=lambda: 5000.0, sleep=lambda _: None)
        self.writer = Writer(self.people, writes_home=self.writes_home, writes_status=self.writes_status)
        self.operations = Operations(self.database, STORES, writers={"ldap": self.writer})
        self.poll()

    def poll(self, people: People | None = None) -> None:
        self.mirror.apply((people or self.people).items())
        self.mirror.catch_up()

    def hold(self) -> HoldResult:
        return self.operations.hold([ANN], ACT, timeout=0)[0]

    def release(self, to: str | None = None) -> ReleaseResult:
        return self.operations.release([ANN], ACT, to, timeout=0)[0]

    @property
    def mailbox(self) -> Mailbox:
        return self.database.run_read(partial(mailboxes.by_key, keys=[ANN]))[ANN]

    @property
    def raw(self) -> tuple[str | None, str | None]:
        return self.people.people[self.ann].status, self.people.people[self.ann].host

    def drift(self) -> str:
        found = self.database.run_read(alarms.open_alarms)
        return "; ".join(one.text for one in found if one.kind == "directory-drift")

    def nothing_left(self) -> bool:
        with self.database.read() as connection:
            writes = connection.execute(schema.directory_writes.select()).all()
        return not writes and not self.database.run_read(written.stands)
