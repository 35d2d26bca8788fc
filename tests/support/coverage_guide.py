"""
Which steps of the code a run took: the guide of a fuzzer.

    guide = Guide(Path(router.accept.__file__).parent)
    with guide:
        play(octets)
    guide.steps        # how many different pairs of lines followed each other in those files, in this block
    guide.known        # all pairs so far

Only what runs in this thread is seen; tracing costs some ten times the run itself.
"""

import sys
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

Arc = tuple[str, int, int]


class Guide:
    """See the module's text. `folder` is what is watched, with everything below."""

    def __init__(self, folder: Path) -> None:
        self._prefix = f"{folder}/"
        self.known: set[Arc] = set()
        self._now: set[Arc] = set()
        self._before: Any = None

    @property
    def steps(self) -> int:
        return len(self._now)

    def __enter__(self) -> Self:
        self._now = set()
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.settrace(self._before)
        self.known |= self._now

    def _call(self, frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if event != "call" or not name.startswith(self._prefix):
            return None
        last = frame.f_lineno

        def local(inner: FrameType, _event: str, _argument: Any) -> Any:
            nonlocal last
            self._now.add((name, last, inner.f_lineno))
            last = inner.f_lineno
            return local

        return local
