"""Where tests put their files: in memory where there is room, for what they write is synced again and again."""

import shutil
from pathlib import Path

_SHARED = Path("/dev/shm")
_ENOUGH = 1 << 30  # containers are often given no more than 64 MB
SCRATCH = _SHARED if _SHARED.is_dir() and shutil.disk_usage(_SHARED).free > _ENOUGH else None
"""For `tempfile`, where None means the usual place."""
