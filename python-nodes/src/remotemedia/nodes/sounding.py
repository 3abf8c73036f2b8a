"""A program that turns one text into sound, while it runs."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SILENT_S: Final = 10.0
"""Seconds that the program may take for its next sound. There is no limit on the whole: who listens sets the pace."""
END_S: Final = 5.0
"""Seconds to end after its last sound."""

_HEADER_BYTES = 44
_MOST_SAID = 2_000
"""Characters of what it complained that an error repeats."""


class Sounding:
    """The program, and what it says: a WAV stream of 16 bits, mono. It ends with the block that it is used in."""

    sample_rate: int
    """Frames per second, as the stream says."""

    def __init__(self, *, command: Sequence[str], text: str) -> None:
        self._command = command
        # A file and not a pipe: nobody has to write while another reads.
        self._text: IO[bytes] = tempfile.TemporaryFile()
        self._complaints: IO[bytes] = tempfile.TemporaryFile()
        self._text.write(text.encode())
        self._text.seek(0)

    def __enter__(self) -> Self:
        # If this process is killed, the program meets a broken pipe, and ends.
        self._child = subprocess.Popen(
            self._command, stdin=self._text, stdout=subprocess.PIPE, stderr=self._complaints, close_fds=True
        )
        try:
            self.sample_rate = self._header()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def ended(self) -> int | None:
        """The program's exit code once it has ended, negative for a signal."""
        return self._child.returncode

    def read(self, samples: NDArray[np.int16]) -> int:
        """Fills the array with the sound that comes next, and gives how many samples came: fewer only at the end.

        Raises `TimeoutError` if none comes in time, and `RuntimeError` with what the program complained if it failed.
        """
        filled = self._fill(samples.data.cast("B"))
        if filled < samples.nbytes:
            self._judge()
        return filled // 2

    def _header(self) -> int:
        buffer = bytearray(_HEADER_BYTES)
        if self._fill(memoryview(buffer)) < _HEADER_BYTES:
            self._judge()
            raise RuntimeError(f"{self._command[0]} gave no sound")
        header = bytes(buffer)
        channels, bits = int.from_bytes(header[22:24], "little"), int.from_bytes(header[34:36], "little")
        if header[:4] != b"RIFF" or header[36:40] != b"data" or (channels, bits) != (1, 16):
            raise RuntimeError(f"{self._command[0]} gave no WAV of 16 bits, mono: {header!r}")
        return int.from_bytes(header[24:28], "little")

    def _fill(self, buffer: memoryview) -> int:
        stream, sound = self._stream(), select.poll()
        sound.register(stream, select.POLLIN)
        filled, end = 0, time.monotonic() + SILENT_S
        while filled < len(buffer):
            if not sound.poll(max(0.0, end - time.monotonic()) * 1_000):
                raise TimeoutError(f"{self._command[0]} made no sound for {SILENT_S:.0f} s")
            count = os.readv(stream, [buffer[filled:]])
            if count == 0:
                break
            filled += count
        return filled

    def _judge(self) -> None:
        """The stream has ended: raises what was wrong, if anything was."""
        try:
            code = self._child.wait(END_S)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{self._command[0]} did not end within {END_S:.0f} s of its last sound") from error
        if code != 0:
            self._complaints.seek(0)
            said = self._complaints.read(_MOST_SAID).decode(errors="replace").strip()
            raise RuntimeError(f"{self._command[0]} ended with {code}: {said}")

    def _end(self) -> None:
        self._child.kill()
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._text.close()
        self._complaints.close()

    def _stream(self) -> int:
        if self._child.stdout is None:
            raise RuntimeError("the program was started without a pipe")
        return self._child.stdout.fileno()
