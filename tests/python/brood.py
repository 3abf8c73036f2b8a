"""A node that starts processes, and takes memory."""

import subprocess

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
            case ["take", mebibytes]:
                self.hoard.append(b"x" * (int(mebibytes) << 20))
            case _:
                pass
        return text


def _sleeper(*, away: bool) -> int:
    quiet = subprocess.DEVNULL
    command = ["sleep", "1000"]
    return subprocess.Popen(
        command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=away
    ).pid
