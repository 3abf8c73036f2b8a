#!/usr/bin/env python3
"""Runs examples/voice.yaml on a recording, tells what each process did and copied, and fails if that is not as it should be.

usage: demo.py REMOTEMEDIA BASE OUT, where BASE.wav and BASE.json come from recordings.py, and OUT holds count_copies.so
"""

import array
import json
import os
import select
import subprocess
import sys
import wave
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

READY_S = 60
"""Seconds for all processes to be there, and for their models to be loaded."""
RUN_S = 120
"""Seconds for the whole recording, which it takes a few of."""
STOP_S = 20
"""Seconds to end when asked."""
CONTROL_BYTES = 4096
"""What a process may send through sockets in a run: opening, closing, measures. A tenth of a second of audio is as much."""
LOUD = 1_000
"""Of 32768: what is spoken has louder samples than this."""


@dataclass(frozen=True)
class Counts:
    """What one process has copied, as tests/preload/count_copies.c counts it, in its order."""

    calls: int
    read_bytes: int
    written_bytes: int
    large_calls: int
    large_bytes: int
    overflow: int
    payload_read_bytes: int
    payload_written_bytes: int
    node_read_bytes: int
    node_written_bytes: int
    sent_bytes: int
    largest_sent: int

    @classmethod
    def read(cls, file: Path) -> Self:
        numbers = array.array("Q", file.read_bytes())
        if sys.byteorder == "big":
            numbers.byteswap()
        return cls(*numbers[: len(cls.__dataclass_fields__)])

    def since(self, before: "Counts") -> "Counts":
        return Counts(*(after - then for after, then in zip(astuple(self), astuple(before), strict=True)))


class Service:
    """A gateway and workers under the counting library, from here until the block ends."""

    def __init__(self, remotemedia: str, out: Path) -> None:
        self._counts = (out / "counts").absolute()
        self._log = out / "up.log"
        self._counts.mkdir()
        counted = {"LD_PRELOAD": str((out / "count_copies.so").absolute()), "COUNT_COPIES_DIR": str(self._counts)}
        command = [remotemedia, "up", "--config", "examples/voice.toml", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **counted}
            )

    def __enter__(self) -> Self:
        stdout = self._child.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], READY_S)
        line = stdout.readline() if ready else b""
        if not line:
            self._stop()
            sys.exit(f"the service was not ready within {READY_S} s:\n{self._log.read_text()}")
        self.endpoint = f"http://{json.loads(line)['grpc']}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def counts(self) -> dict[int, Counts]:
        """Of each process, by its id."""
        return {int(file.name): Counts.read(file) for file in self._counts.iterdir()}

    def _stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def main() -> None:
    remotemedia, base, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    answer, lines = out / "answer.wav", out / "transcript.jsonl"
    with Service(remotemedia, out) as service:
        before = service.counts()
        summary = run(remotemedia, service.endpoint, base.with_suffix(".wav"), [answer, lines])
        counts = {pid: after.since(before[pid]) for pid, after in service.counts().items() if pid in before}
    said = json.loads(base.with_suffix(".json").read_text())
    heard = [line for line in map(json.loads, lines.read_text().splitlines()) if line["node"] == "transcript"]
    with wave.open(str(answer)) as file:
        spoken = array.array("h", file.readframes(file.getnframes()))
        spoken_s = file.getnframes() / file.getframerate()
    workers = {node["pid"]: node["worker"] for node in summary["nodes"]}

    tell_nodes(summary)
    tell_words(said, heard)
    print(f"  spoken again: {answer}, {spoken_s:.1f} s, peak {max(map(abs, spoken), default=0) / 32_768:.2f}")
    tell_copies(summary, counts, workers, said, len(spoken) * 2)
    problems = [
        *wrong_words(said, heard),
        *wrong_sound(spoken, spoken_s, len(heard)),
        *wrong_processes(summary, workers),
        *wrong_copies(summary, counts, workers, recorded_bytes(said)),
    ]
    for problem in problems:
        print(f"  WRONG: {problem}")
    if problems:
        sys.exit(1)


def run(remotemedia: str, endpoint: str, recording: Path, outputs: list[Path]) -> dict[str, Any]:
    command = [remotemedia, "run", "examples/voice.yaml", "-i", str(recording), "--endpoint", endpoint, "--stream-ms", "100", "--json"]
    # Models load after their workers have joined.
    command += ["--start-ms", str(READY_S * 1_000)]
    for output in outputs:
        command += ["-o", str(output)]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=RUN_S, check=False)
    summary = json.loads(done.stdout)
    if done.returncode != 0:
        sys.exit(f"the run ended with {done.returncode}: {json.dumps(summary, indent=2)}")
    return summary


def tell_nodes(summary: dict[str, Any]) -> None:
    print(f"  {summary['audio_seconds']:.1f} s of audio took {summary['wall_ms'] / 1000:.2f} s; gateway: pid {summary['gateway_pid']}")
    for node in summary["nodes"]:
        print(
            f"  {node['node']:10} {node['node_type']:13} {node['worker']:8} pid {node['pid']:<7} {node['busy_ms']:7.1f} ms in"
            f" {node['calls']} calls, {node['cpu_ms']:.1f} ms of it on a processor"
        )


def tell_words(said: dict[str, Any], heard: list[dict[str, Any]]) -> None:
    print(f"  heard, of {len(said['spoken'])} that were said:")
    for line in heard:
        start_s, end_s = (float(line["metadata"][name]) for name in ("start_s", "end_s"))
        print(f"    {start_s:6.2f} s to {end_s:6.2f} s  {line['text']}")


def tell_copies(summary: dict[str, Any], counts: dict[int, Counts], workers: dict[int, str], said: dict[str, Any], spoken_bytes: int) -> None:
    items = {node["node"]: node["items"] * 2 for node in summary["nodes"]}
    print(f"  payload that went from process to process: {recorded_bytes(said)} bytes of the recording to {workers_of(summary, 'resample')},")
    print(f"    {items['vad']} resampled to {workers_of(summary, 'vad')}, {items['text']} of speech to {workers_of(summary, 'text')}, {spoken_bytes} spoken to the gateway")
    between = sum(copied_between(counts[pid]) for pid in workers)
    print(f"  payload bytes copied between processes, as the C library was asked to: {between}")
    print(f"    the gateway copied {counts[summary['gateway_pid']].payload_written_bytes} bytes in, once, when they came from the client")
    for pid, worker in workers.items():
        count = counts[pid]
        own = sum(node["copied_bytes"] for node in summary["nodes"] if node["pid"] == pid)
        print(
            f"    {worker:8} copied {copied_between(count)}, and sent {count.sent_bytes} bytes through sockets;"
            f" told apart: its nodes copied {count.node_read_bytes} bytes out for themselves and {count.node_written_bytes} in,"
            f" and gave {own} from memory of their own"
        )


def wrong_words(said: dict[str, Any], heard: list[dict[str, Any]]) -> list[str]:
    wanted, got = [part["words"] for part in said["spoken"]], [line["text"] for line in heard]
    return [] if got == wanted else [f"said was {wanted}, and heard {got}"]


def wrong_sound(spoken: "array.array[int]", spoken_s: float, utterances: int) -> list[str]:
    checks = {
        f"{utterances} utterances were spoken in {spoken_s:.1f} s: that is no speech": spoken_s > 0.4 * utterances > 0,
        "what was spoken is silence": max(map(abs, spoken), default=0) > LOUD,
    }
    return [problem for problem, holds in checks.items() if not holds]


def wrong_processes(summary: dict[str, Any], workers: dict[int, str]) -> list[str]:
    sequences = summary["sequences"]
    checks = {
        f"the nodes ran in {len(workers)} processes instead of four": len(workers) == 4,
        "a node ran in the gateway": summary["gateway_pid"] not in workers,
        "an input was not answered": sequences["sent"] == sequences["answered"] > 0,
    }
    return [problem for problem, holds in checks.items() if not holds]


def wrong_copies(summary: dict[str, Any], counts: dict[int, Counts], workers: dict[int, str], recorded: int) -> list[str]:
    missing = [name for pid, name in workers.items() if pid not in counts or counts[pid].calls == 0]
    if missing or summary["gateway_pid"] not in counts:
        return [f"the counting library was not in {missing or 'the gateway'}"]
    problems = []
    for pid, name in workers.items():
        count = counts[pid]
        if copied_between(count) > 0:
            problems.append(f"{name} copied {copied_between(count)} bytes of payload")
        if count.sent_bytes > CONTROL_BYTES:
            problems.append(f"{name} sent {count.sent_bytes} bytes through sockets")
        if count.overflow > 0:
            problems.append(f"{name} has more frame pools than the library knows")
    if counts[summary["gateway_pid"]].payload_written_bytes != recorded:
        problems.append(f"the gateway wrote {counts[summary['gateway_pid']].payload_written_bytes} bytes of {recorded}")
    return problems


def copied_between(count: Counts) -> int:
    return count.payload_read_bytes + count.payload_written_bytes


def recorded_bytes(said: dict[str, Any]) -> int:
    return round(said["seconds"] * said["rate"]) * 2


def workers_of(summary: dict[str, Any], node: str) -> str:
    return next(found["worker"] for found in summary["nodes"] if found["node"] == node)


if __name__ == "__main__":
    main()
