"""A node that starts processes, and takes memory."""

import ctypes
import os
import subprocess
import time
from pathlib import Path

from remotemedia import Node, Text


class Brood(Node):
    """Starts a process that outlives the call, in its own process group or away from it, and says its number."""

    def __init__(self) -> None:
        self.hoard: list[bytes] = []

    def process(self, text: Text) -> Text:
        match text.text.split():
            case ["child"]:
                return Text(text=str(_sleeper(away=False)))
            case ["away"]:
                return Text(text=str(_sleeper(away=True)))
            case ["fork"]:
                return Text(text=str(_heir()))
            case ["take", mebibytes]:
                _hold_on_to_programs()
                self.hoard.append(b"x" * (int(mebibytes) << 20))
            case _:
                pass
        return text


def _hold_on_to_programs() -> None:
    """Has the kernel keep the pages of programs, as far as it may.

    Else it gives these up first where memory is short, and asks for them again at once: a small machine can do that for
    half a minute before it finds that there is none.
    """
    mlock = ctypes.CDLL(None).mlock
    for line in Path("/proc/self/maps").read_text().splitlines():
        places, rights, *_ = line.split()
        if rights.startswith("r-x"):
            begin, end = (int(place, 16) for place in places.split("-"))
            mlock(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin))


def _heir() -> int:
    """A process in a session of its own that has all open that this one has, longer than a test takes."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        time.sleep(60)
        os._exit(0)
    return pid


def _sleeper(*, away: bool) -> int:
    quiet = subprocess.DEVNULL
    command = ["sleep", "1000"]
    return subprocess.Popen(
        command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=away
    ).pid
