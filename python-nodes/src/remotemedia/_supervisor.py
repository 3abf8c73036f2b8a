"""Starts worker processes, and starts them again."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Sequence
from dataclasses import dataclass, field

from ._exits import EXIT_REFUSED, EXIT_SETUP, EXIT_USAGE, EXIT_VERSION
from ._watch import Watch

_TICK = 0.1
"""Seconds between two looks at the processes."""
_LOOK = 0.3
"""Seconds between two looks at the sources."""
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0
_HEALTHY = 10.0
"""Seconds after which a process that dies does not count as one that cannot start."""
_GRACE = 3.0
"""Seconds beyond draining after which a process is killed that was asked to stop."""


@dataclass(kw_only=True)
class _Child:
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 0.0
    start_at: float = 0.0
    leaving: list[tuple[subprocess.Popen[bytes], float]] = field(default_factory=list[tuple[subprocess.Popen[bytes], float]])
    """Processes that were asked to stop, and when they are killed."""


class Supervisor:
    """Processes of the same nodes. It owns them: when it ends, they end."""

    def __init__(self, commands: Sequence[Sequence[str]], *, drain: float, watch: Watch | None) -> None:
        self._children = [_Child(command=command) for command in commands]
        self._drain = drain
        self._watch = watch
        self._stop = threading.Event()
        self._urged = False
        self._code = 0

    def run(self) -> int:
        """Until it is asked to stop, or no process can ever start."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        look_at = time.monotonic() + _LOOK
        while not self._stop.wait(_TICK):
            now = time.monotonic()
            for child in self._children:
                self._look_after(child, now)
            if self._watch is not None and now >= look_at:
                self._reload_if_changed(self._watch)
                look_at = time.monotonic() + _LOOK
        self._end_all()
        return self._code

    def _on_signal(self, _number: int, _frame: types.FrameType | None) -> None:
        self._urged = self._stop.is_set()
        self._stop.set()

    def _look_after(self, child: _Child, now: float) -> None:
        child.leaving = [pair for pair in child.leaving if not _is_over(pair, now)]
        if child.process is None:
            if now >= child.start_at:
                child.process, child.started = subprocess.Popen(child.command), now
            return
        code = child.process.poll()
        if code is not None:
            child.process = None
            self._on_end(child, code, now)

    def _on_end(self, child: _Child, code: int, now: float) -> None:
        if self._watch is not None and code in (EXIT_USAGE, EXIT_SETUP, EXIT_REFUSED, EXIT_VERSION):
            _say("it is started again when a file has changed")
            child.start_at = float("inf")
            return
        if code in (EXIT_USAGE, EXIT_REFUSED, EXIT_VERSION):
            self._code = code
            self._stop.set()
            return
        healthy = now - child.started > _HEALTHY
        child.pause = _FIRST_PAUSE if healthy or not child.pause else min(2 * child.pause, _LONGEST_PAUSE)
        child.start_at = now + child.pause
        _say(f"a worker process ended ({_in_words(code)}): it is started again in {child.pause:.1f} s")

    def _reload_if_changed(self, watch: Watch) -> None:
        changed = watch.changed()
        if not changed:
            return
        _say(f"reloading: {changed[0]} has changed" + (f", and {len(changed) - 1} more" if len(changed) > 1 else ""))
        for child in self._children:
            if child.process is not None:
                child.process.terminate()
                child.leaving.append((child.process, time.monotonic() + self._drain + _GRACE))
            child.process, child.start_at, child.pause = None, 0.0, 0.0

    def _end_all(self) -> None:
        kill_at = time.monotonic() + self._drain + _GRACE
        for child in self._children:
            if child.process is not None:
                child.process.terminate()
                child.leaving.append((child.process, kill_at))
                child.process = None
        urged = False
        while any(child.leaving for child in self._children):
            now = time.monotonic()
            for child in self._children:
                if self._urged and not urged:
                    for process, _ in child.leaving:
                        process.terminate()
                child.leaving = [pair for pair in child.leaving if not _is_over(pair, now)]
            urged = self._urged
            time.sleep(_TICK / 4)


def _is_over(leaving: tuple[subprocess.Popen[bytes], float], now: float) -> bool:
    process, kill_at = leaving
    if process.poll() is not None:
        return True
    if now >= kill_at:
        process.kill()
    return False


def _in_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
