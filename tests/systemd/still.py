"""Has one thread of a process stand still, as nothing else of it does: still.py PID NAME. Ends when the process has."""

import ctypes
import os
import sys
from pathlib import Path

SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000


def thread_of(process: int, name: str) -> int:
    for task in Path(f"/proc/{process}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int(task.name)
    raise SystemExit(f"process {process} has no thread {name}")


def main(process: int, name: str) -> None:
    thread = thread_of(process, name)
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    for request in (SEIZE, INTERRUPT):
        if ptrace(request, thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")
    # Twice: it has stopped, and it has died. A thread that is not waited for keeps its process from being buried.
    os.waitpid(thread, WALL)
    print("still", flush=True)
    while not os.WIFSIGNALED(status := os.waitpid(thread, WALL)[1]) and not os.WIFEXITED(status):
        pass


main(int(sys.argv[1]), sys.argv[2])
