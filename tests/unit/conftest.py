"""Tests of single parts keep their files in memory, and their databases share what was compiled."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import Engine, create_engine
from support.scratch import SCRATCH

from router.control import database


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: spools and control databases sync at every commit. What becomes of a crash is tested elsewhere."""
    with TemporaryDirectory(dir=SCRATCH) as name:
        yield Path(name)


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    """An engine compiles each statement anew, and nearly every test opens a database: all get the same memory of it."""
    common = create_engine("sqlite://")
    common.connect().close()  # from now on the dialect knows its library
    compiled: dict[object, object] = {}
    make = database._engine

    def engine(url: str, path: Path | None) -> Engine:
        made = make(url, path)
        if path is not None:
            made.dialect = common.dialect
            made.update_execution_options(compiled_cache=compiled)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_engine", engine)
        yield
    common.dispose()
