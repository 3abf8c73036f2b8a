"""The baselines of ``python-hop``: an array to another process and back, as Python's own library does it.

``queue BYTES`` or ``pipe BYTES``. Prints the other process's id; then each line of standard input is how many round
trips to make, and is answered with what each took, in nanoseconds.
"""

import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.uint8]

# A process as a service starts one: with nothing of its parent.
CONTEXT = multiprocessing.get_context("spawn")


class Way(Protocol):
    """To another process and back."""

    def trip(self, array: Array) -> Array: ...

    def end(self) -> None: ...


class Queues:
    """Arrays as objects, pickled, through a queue in each direction."""

    def __init__(self) -> None:
        self.there: Any = CONTEXT.Queue()
        self.back: Any = CONTEXT.Queue()
        self.other = CONTEXT.Process(target=return_objects, args=(self.there, self.back), daemon=True)
        self.other.start()

    def trip(self, array: Array) -> Array:
        self.there.put(array)
        return self.back.get()

    def end(self) -> None:
        self.there.put(None)
        self.other.join(5)


class Pipe:
    """Arrays as bytes, not pickled: the least that a pipe can do."""

    def __init__(self) -> None:
        self.here, away = CONTEXT.Pipe()
        self.other = CONTEXT.Process(target=return_bytes, args=(away,), daemon=True)
        self.other.start()
        away.close()

    def trip(self, array: Array) -> Array:
        self.here.send_bytes(array.data)
        return np.frombuffer(self.here.recv_bytes(), np.uint8)

    def end(self) -> None:
        self.here.close()
        self.other.join(5)


def return_objects(there: Any, back: Any) -> None:
    while (array := there.get()) is not None:
        back.put(array)


def return_bytes(connection: Connection) -> None:
    try:
        while True:
            connection.send_bytes(connection.recv_bytes())
    except EOFError:
        pass


def main() -> None:
    method, size = sys.argv[1], int(sys.argv[2])
    way = Queues() if method == "queue" else Pipe()
    print(way.other.pid, flush=True)
    for line in sys.stdin:
        print(*(round_trip(way, size, number) for number in range(int(line))), flush=True)
    way.end()


def round_trip(way: Way, size: int, number: int) -> int:
    array = np.full(size, number % 251, np.uint8)
    begin = time.perf_counter_ns()
    came = way.trip(array)
    took = time.perf_counter_ns() - begin
    if not np.array_equal(came, array):
        sys.exit("another array came back")
    return took


if __name__ == "__main__":
    main()
