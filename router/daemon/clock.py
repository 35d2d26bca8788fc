"""The system's clocks behind the `Clock` port."""

import time


class SystemClock:
    """Wall time for what is written down, monotonic time for intervals; seconds."""

    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()
