"""The scripts of the emergency page do what the page says: they are taken from it and run."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

from router.ledger.behaviour import Behaviour, Refusal
from router.ledger.stores import RecordingStore

SCRIPT = re.compile(r"^( *)```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
BODY = b"Subject: x\r\n\r\n.a line with a dot\r\nbytes \xe4\xff\r\n"


def script(root: Path, name: str, place: Path) -> Path:
    """The script of that name, as a file."""
    for indent, text in SCRIPT.findall((root / "docs" / "emergency.md").read_text(encoding="utf-8")):
        if name in text.partition("\n")[0]:
            path = place / name
            path.write_text(re.sub(f"^{indent}", "", text, flags=re.MULTILINE), encoding="utf-8")
            return path
    raise AssertionError(f"the page has no {name}")


async def run(*words: str | Path, path: str = os.defpath) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE, env={"PATH": path}
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


def export(directory: Path, queue_id: str, sender: str, *recipients: str) -> None:
    """One message as `queue export` writes it, as far as the script reads it."""
    directory.mkdir(exist_ok=True)
    facts = {
        "sender": sender,
        "body": "8BITMIME",
        "smtputf8": False,
        "recipients": [{"address": a} for a in recipients],
    }
    (directory / f"{queue_id}.json").write_text(json.dumps(facts))
    (directory / f"{queue_id}.eml").write_bytes(BODY)


@pytest.mark.slow
async def test_reinjected_mail_keeps_its_envelope_and_its_bytes(root: Path, tmp_path: Path) -> None:
    mail = tmp_path / "mail"
    export(mail, "000100000001", "", "alice@example.edu")
    export(mail, "000100000002", "you@example.org", "bob@example.edu", "carol@example.edu")
    async with RecordingStore("fallback", keep_bodies=True) as store:
        store.behaviour = Behaviour(refusals=(Refusal("carol@*", "550 5.1.1 nobody here"),))
        said = await run(script(root, "reinject.py", tmp_path), mail, "127.0.0.1", str(store.port))
        assert "000100000002.eml: NOT taken for carol@example.edu" in said
        first, second = store.arrivals
        assert (first.sender, first.recipients) == ("", (("alice@example.edu", 250),))
        assert (second.sender, second.recipients) == ("you@example.org", (("bob@example.edu", 250),))
        assert first.body == second.body == BODY
        store.behaviour = Behaviour()
        assert await run(tmp_path / "reinject.py", mail, "127.0.0.1", str(store.port)) == ""
        assert store.arrivals[2].recipients == (("carol@example.edu", 250),)
    assert sorted(one.name for one in mail.iterdir()) == ["done"]


@pytest.mark.slow
async def test_the_map_of_the_fallback_has_every_address(root: Path, tmp_path: Path) -> None:
    stub = tmp_path / "sluice"
    people = [
        {"mailbox": "a@x.edu", "home": "cliff", "hold": None, "addresses": ["a@x.edu", "alias@x.edu"]},
        {"mailbox": "b@x.edu", "home": "cliff", "hold": {"number": 1}, "addresses": ["b@x.edu"]},
        {"mailbox": "c@x.edu", "home": "gone", "hold": None, "addresses": ["c@x.edu"]},
    ]
    stub.write_text(
        f"#!{sys.executable}\nimport json, sys\npeople = {people!r}\n"
        "if sys.argv[3] == 'list':\n    print(*map(json.dumps, people), sep='\\n')\nelse:\n"
        "    wanted = sys.stdin.read().split()\n"
        "    print(json.dumps({'mailboxes': [one for one in people if one['mailbox'] in wanted]}))\n"
    )
    stub.chmod(0o755)
    said = await run(script(root, "fallback_map.py", tmp_path), "cliff=relay:[cliff.x.edu]", path=str(tmp_path))
    assert said.splitlines() == [
        "a@x.edu\trelay:[cliff.x.edu]",
        "alias@x.edu\trelay:[cliff.x.edu]",
        "b@x.edu\tretry:4.3.2 mailbox is being moved",
        "c@x.edu\tretry:4.3.2 try again later",
    ]
