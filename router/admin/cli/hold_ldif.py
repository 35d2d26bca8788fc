"""
What `hold`, `release` and `move` would write into directories, for `--dry-run`: LDIF (RFC 2849).

Guarantees: only people of a directory are asked about, so a site without one connects nowhere; nothing is written.
A directory that fails is not asked again for the others of its people.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from router.admin.cli.context import Context
from router.admin.cli.hold_operations import operations
from router.admin.cli.hold_report import mailboxes_of
from router.control.schema import DATABASE
from router.errors import Conflict, LookupFailed, NotFound


@dataclass(frozen=True, slots=True)
class Planned:
    """What would be written for one mailbox, or why that cannot be told."""

    mailbox: str
    source: str
    dn: str = ""
    ldif: str = ""
    error: str = ""

    def json(self) -> dict[str, object]:
        return {
            "mailbox": self.mailbox,
            "source": self.source,
            "dn": self.dn,
            "ldif": self.ldif,
            "error": self.error,
        }


def planned(
    context: Context, keys: Sequence[str], *, hold: bool = False, release: bool = False, to: str | None = None
) -> list[Planned]:
    """One for each of the mailboxes that comes from a directory. Raises `ControlUnavailable`."""
    known = mailboxes_of(context, keys)
    elsewhere = [(key, known[key].source) for key in keys if key in known and known[key].source != DATABASE]
    if not elsewhere:
        return []
    works, silent, found = operations(context), dict[str, str](), list[Planned]()
    for key, source in elsewhere:
        if source in silent:
            found.append(Planned(key, source, error=silent[source]))
            continue
        try:
            one = works.preview([key], hold=hold, release=release, to=to)[0]
        except LookupFailed as error:
            silent[source] = error.private
            found.append(Planned(key, source, error=error.private))
        except (Conflict, NotFound) as error:
            found.append(Planned(key, source, error=error.private))
        else:
            found.append(Planned(key, one.source, one.dn, one.ldif))
    return found


def tell(context: Context, found: Sequence[Planned]) -> None:
    """For people. Every line of LDIF is printable ASCII: what is not stands in it as base64."""
    out = context.out
    for one in found:
        out.line()
        if one.error:
            out.line(f"# {one.mailbox}: what would be written to {one.source} cannot be told: {one.error}")
        elif not one.ldif:
            out.line(f"# {one.mailbox}: nothing would be written to {one.source}")
        else:
            out.line(f"# {one.mailbox}: this would be written to {one.source}")
        for line in one.ldif.splitlines():
            out.line(line)
