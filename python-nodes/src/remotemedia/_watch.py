"""Sees that source files have changed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

_MOST_FILES = 10_000
"""More are not looked at: a directory with so many is not somebody's source."""
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "target"})


class Watch:
    """Some files, and the Python files below some directories."""

    def __init__(self, roots: Iterable[str]) -> None:
        self._roots = sorted({os.path.realpath(root) for root in roots})
        self._seen = self._look()

    def changed(self) -> list[str]:
        """The files that are new, other or gone since the last call that gave some."""
        seen = self._look()
        changed = sorted(path for path in seen.keys() | self._seen.keys() if seen.get(path) != self._seen.get(path))
        self._seen = seen
        return changed

    def _look(self) -> dict[str, tuple[int, int]]:
        seen: dict[str, tuple[int, int]] = {}
        for path in self._files():
            try:
                stat = os.stat(path)
            except OSError:
                continue
            seen[path] = (stat.st_mtime_ns, stat.st_size)
            if len(seen) >= _MOST_FILES:
                break
        return seen

    def _files(self) -> Iterator[str]:
        for root in self._roots:
            if os.path.isfile(root):
                yield root
                continue
            for directory, below, files in os.walk(root):
                # A virtual environment is no source.
                if "pyvenv.cfg" in files:
                    below.clear()
                    continue
                below[:] = [name for name in below if not name.startswith(".") and name not in _SKIPPED]
                yield from (os.path.join(directory, name) for name in files if name.endswith(".py"))
