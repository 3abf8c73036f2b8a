"""Plays a recording into one to four calls, in real time: all in one process, and each in a worker of its own.

Prints, for each number of calls, which share of the frames was answered late, after the next one had come; the last line
is the same as JSON. Fails if a third call does not stutter far more in one process than in workers.
"""

import argparse
import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from agent import Agent

from remotemedia import Audio

HERE = Path(__file__).parent
RATE = 16_000
FRAME_MS = 20

WORK_MS = 8.0
"""Processor time that a frame shall take: two calls fit into one processor, three do not."""

WORKERS = 4

SERVICE = """
[gateway]
grpc = "127.0.0.1:0"
admin = "127.0.0.1:0"

[[pool]]
kind = "python"
workers = {workers}
command = ["{python}", "-m", "remotemedia.worker", "agent"]
"""

THIRD = 3
ATTEMPTS = 3
"""A machine that is busy with other things makes both late."""

PATIENCE = 20.0
"""Seconds that a process may take beyond what it plays."""


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """Of all frames of all calls."""

    frames: int
    late: int

    @property
    def share(self) -> float:
        return self.late / self.frames


def main() -> int:
    options = arguments()
    print(f"{WORK_MS} ms of work for each frame of {FRAME_MS} ms; {os.cpu_count()} processors", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        scene = Path(directory)
        record(scene / "call.wav", options.seconds)
        with service(scene, options.binaries) as endpoint:
            rows = [compare(scene, options, endpoint, calls) for calls in options.calls]
    print(json.dumps({"work_ms": WORK_MS, "calls": rows}))
    return next((1 for row in rows if row.get("holds") is False), 0)


def compare(scene: Path, options: argparse.Namespace, endpoint: str, calls: int) -> dict[str, object]:
    """Both, with so many calls; at the third call again if it was no clear case."""
    for attempts_left in reversed(range(ATTEMPTS)):
        bands = calibrate()
        before = play_before(scene, calls, bands, options.seconds)
        after = play_after(scene, options, endpoint, calls, bands)
        print(f"{calls} calls: in one process {before.share:6.1%} late, in workers {after.share:6.1%} late", flush=True)
        # A good deal less than the difference that there is on a quiet machine.
        holds = before.share > 0.5 and after.share < before.share / 2
        row: dict[str, object] = {
            "calls": calls,
            "bands": bands,
            "frames": before.frames,
            "late_before": round(before.share, 4),
            "late_after": round(after.share, 4),
            "late_ratio": round(after.share / before.share, 4) if before.late else None,
        }
        if calls == THIRD:
            row["holds"] = holds
        if holds or calls != THIRD or not attempts_left:
            return row
    raise AssertionError("there is at least one attempt")


def play_before(scene: Path, calls: int, bands: int, seconds: float) -> Lateness:
    command = [sys.executable, HERE / "before.py", scene / "call.wav", f"--calls={calls}", f"--bands={bands}"]
    # In one process they come late one after the other: that takes longer than the calls.
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=calls * seconds + PATIENCE)
    return Lateness(**json.loads(done.stdout))


def play_after(scene: Path, options: argparse.Namespace, endpoint: str, calls: int, bands: int) -> Lateness:
    pipeline = {"version": "v1", "nodes": [{"id": "agent", "node_type": "Agent", "params": {"bands": bands}}]}
    (scene / "agent.json").write_text(json.dumps(pipeline))
    command: list[str | Path] = [options.binaries / "remotemedia", "run", scene / "agent.json", "--input", scene / "call.wav"]
    command += ["--endpoint", endpoint, "--stream-ms", str(FRAME_MS), "--real-time", "--json", "--output"]
    running: list[subprocess.Popen[str]] = []
    try:
        for call in range(calls):
            output = [*command, scene / f"call-{call}.jsonl"]
            running.append(subprocess.Popen(output, stdout=subprocess.PIPE, text=True))
        summaries = [json.loads(process.communicate(timeout=calls * options.seconds + PATIENCE)[0]) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    frames = sum(summary["sequences"]["answered"] for summary in summaries)
    return Lateness(frames=frames, late=sum(summary["late"] for summary in summaries))


@contextlib.contextmanager
def service(scene: Path, binaries: Path) -> Iterator[str]:
    """Where `remotemedia up` serves, when four workers of the agent have joined."""
    (scene / "service.toml").write_text(SERVICE.format(python=sys.executable, workers=WORKERS))
    command = [binaries / "remotemedia", "up", "--config", scene / "service.toml"]
    with tempfile.TemporaryFile("w+") as log:
        # In this directory: workers find the module there.
        up = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert up.stdout is not None
            line = up.stdout.readline()
            if not line:
                log.seek(0)
                sys.exit(f"the service did not start:\n{log.read()}")
            ready = json.loads(line)
            until_loaded(ready["admin"])
            yield ready["grpc"]
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(PATIENCE)


def until_loaded(admin: str) -> None:
    """Waits until all workers are ready: calls that come before would go to those that are."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with urllib.request.urlopen(f"http://{admin}/status", timeout=PATIENCE) as answer:
            states = [worker["state"] for worker in json.load(answer)["workers"]]
        if states.count("ready") == WORKERS:
            return
        if time.monotonic() > deadline:
            sys.exit(f"after {PATIENCE:.0f} s the workers are {states}")
        time.sleep(0.02)


def calibrate() -> int:
    """How many bands make a frame cost `WORK_MS` of processor time, at the speed that processors have here and now."""
    bands = 100
    agent, frame = Agent(bands=bands), Audio(samples=np.zeros((RATE * FRAME_MS // 1000, 1), np.int16), sample_rate=RATE)
    costs: list[float] = []
    until = time.monotonic() + 0.5
    while not costs or time.monotonic() < until:
        begin = time.thread_time()
        agent.process(frame)
        costs.append(time.thread_time() - begin)
    return max(2, round(bands * WORK_MS / 1000 / sorted(costs)[len(costs) // 2]))


def record(path: Path, seconds: float) -> None:
    """A voice of sorts, the same each time."""
    noise = random.Random(4)
    frames = int(seconds * 1000 / FRAME_MS) * RATE * FRAME_MS // 1000
    voice = (
        int(6_000 * math.sin(at / RATE * 2 * math.pi * 140) + noise.gauss(0, 800)) for at in range(frames)
    )
    with wave.open(str(path), "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(RATE)
        recording.writeframes(np.fromiter(voice, np.int16, frames).tobytes())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 2, 3, 4], metavar="N", help="how many at a time (default: 1 2 3 4)")
    parser.add_argument("--seconds", type=float, default=2.5, metavar="S", help="how long each call is (default: 2.5)")
    parser.add_argument("--binaries", type=Path, required=True, metavar="DIR", help="where remotemedia is")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
