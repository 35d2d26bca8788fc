"""What a spool says of its numbers after its owner was killed: no loss is reported that did not happen."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

from router.spool.sequence import STEP


async def killed(directory: Path, deaths: int) -> Path:
    """What a kill at this moment would leave: a copy of the files, in another place."""
    left = directory.parents[1] / str(deaths) / directory.name
    await asyncio.to_thread(shutil.copytree, directory, left)
    await asyncio.to_thread((left / "queue.db-shm").unlink, missing_ok=True)
    return left


async def test_two_kills_without_a_new_message_between_them_are_no_loss(
    kit: Any, open_spool: Any, directory: Path
) -> None:
    await kit.put(await open_spool())
    left = await killed(directory, 1)
    await (await open_spool(at=left)).remember("uuid", 1)
    third = await open_spool(at=await killed(left, 2))
    assert third.findings == ()


async def test_orderly_end_after_a_kill_is_no_loss(kit: Any, open_spool: Any, directory: Path) -> None:
    first = await kit.put(await open_spool())
    left = await killed(directory, 1)
    await (await open_spool(at=left)).close()
    third = await open_spool(at=left)
    assert third.findings == ()
    assert (await kit.put(third)).message.number > first.message.number + STEP - 1, "reserved numbers are not reused"
