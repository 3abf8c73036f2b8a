#!/usr/bin/env python3
"""Says in words what a run of examples/speech.yaml found in a recording, and fails if that is not what was said.

usage: tell.py BASE, where BASE.json comes from recordings.py, BASE.jsonl and BASE.summary.json from `remotemedia run`
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

# Of what people labelled as speech, at least so much must have been found.
FOUND = 0.6

# Where people labelled begin and end by hand, a segment is at most so far from them, in seconds.
NEAR_S = 0.1


class Stretch(NamedTuple):
    """Seconds from the recording's begin."""

    begin: float
    end: float

    def overlap(self, other: "Stretch") -> float:
        return max(0.0, min(self.end, other.end) - max(self.begin, other.begin))


def main() -> None:
    base = sys.argv[1]
    said = json.loads(Path(f"{base}.json").read_text())
    summary = json.loads(Path(f"{base}.summary.json").read_text())
    lines = [json.loads(line) for line in Path(f"{base}.jsonl").read_text().splitlines()]
    # A unary run answers with one document a node: an array where the node gave several.
    answers = [line["json"] for line in lines if line["node"] == "vad"]
    reports = [report for answer in answers for report in (answer if isinstance(answer, list) else [answer])]
    segments = [Stretch(segment["start_s"], segment["end_s"]) for report in reports[-1:] for segment in report["segments"]]

    tell_speech(said, segments)
    tell_processes(summary)
    problems = [*missing_speech(said, segments), *far_boundaries(said, segments), *speech_in_silence(said, segments), *wrong_run(summary, reports)]
    for problem in problems:
        print(f"  WRONG: {problem}")
    if problems:
        sys.exit(1)


def tell_speech(said: dict[str, Any], segments: list[Stretch]) -> None:
    print(f"  {said['seconds']:.1f} s at {said['rate']} Hz; the detector heard speech {len(segments)} times:")
    for segment in segments:
        words = " … ".join(part["words"] for part in said["spoken"] if segment.overlap(stretch(part)) > 0)
        print(f"    {segment.begin:6.2f} s to {segment.end:6.2f} s  {words or '(nothing is said there)'}")
    print("  The words are from the recordings' own transcripts, the times from the detector.")


def tell_processes(summary: dict[str, Any]) -> None:
    startup = f", up in {summary['startup_ms']:.0f} ms" if summary["startup_ms"] is not None else ""
    print(f"  gateway: pid {summary['gateway_pid']}{startup}; whole run ({summary['mode']}): {summary['wall_ms']:.1f} ms")
    for node in summary["nodes"]:
        print(
            f"  {node['node']} ({node['node_type']}): {node['worker']}, pid {node['pid']}, {node['busy_ms']:.1f} ms"
            f" in {node['calls']} calls, {node['copied_bytes']} bytes copied"
        )
    latency, sent = summary["latency_ms"], summary["sequences"]["sent"]
    if latency is not None and sent > 0:
        nodes = sum(node["busy_ms"] for node in summary["nodes"]) / sent
        print(
            f"  a piece came back after {latency['p50']:.2f} ms (median of {sent}); {nodes:.2f} ms of that the nodes worked,"
            f" the rest was gRPC in and out, two hops through shared memory, and waiting"
        )


def missing_speech(said: dict[str, Any], segments: list[Stretch]) -> list[str]:
    def found(part: Stretch) -> float:
        return sum(part.overlap(segment) for segment in segments) / (part.end - part.begin)

    return [
        f"'{part['words']}' is said from {part['begin_s']} s to {part['end_s']} s, and {found(stretch(part)):.0%} of it was found"
        for part in said["spoken"]
        if found(stretch(part)) < FOUND
    ]


def far_boundaries(said: dict[str, Any], segments: list[Stretch]) -> list[str]:
    problems = []
    for part in said["spoken"]:
        heard = [segment for segment in segments if segment.overlap(stretch(part)) > 0]
        if not part["labelled"] or not heard:
            continue
        off = heard[0].begin - part["begin_s"], heard[-1].end - part["end_s"]
        print(f"  '{part['words'][:40]}': begins {off[0] * 1000:+.0f} ms and ends {off[1] * 1000:+.0f} ms from its labels")
        if max(map(abs, off)) > NEAR_S:
            problems.append(f"'{part['words']}' was found {off[0]:+.3f} s and {off[1]:+.3f} s from its labels")
    return problems


def speech_in_silence(said: dict[str, Any], segments: list[Stretch]) -> list[str]:
    """Between two recordings there are two seconds of silence: no segment is within it, and none reaches across its middle."""
    spoken = [Stretch(part["begin_s"] - NEAR_S, part["end_s"] + NEAR_S) for part in said["spoken"]]
    lonely = [segment for segment in segments if not any(segment.overlap(part) > 0 for part in spoken)]
    ends = [0.0, *(part["end_s"] for part in said["spoken"])]
    begins = [*(part["begin_s"] for part in said["spoken"]), said["seconds"]]
    middles = [(end + begin) / 2 for end, begin in zip(ends, begins, strict=True)]
    across = [segment for segment in segments if any(segment.begin < middle < segment.end for middle in middles)]
    return [
        *(f"speech was found from {segment.begin:.2f} s to {segment.end:.2f} s, where nobody speaks" for segment in lonely),
        *(f"speech was found from {segment.begin:.2f} s to {segment.end:.2f} s, across a silence" for segment in across if segment not in lonely),
    ]


def wrong_run(summary: dict[str, Any], reports: list[dict[str, Any]]) -> list[str]:
    gateway, workers = summary["gateway_pid"], {node["pid"] for node in summary["nodes"]}
    sequences = summary["sequences"]
    checks = {
        "the last report is not final: the stream was not flushed": bool(reports) and reports[-1]["final"],
        "a node ran in the gateway, or in no process at all": gateway not in workers and 0 not in workers,
        "an input was not answered": sequences["sent"] == sequences["answered"] > 0,
    }
    return [problem for problem, holds in checks.items() if not holds]


def stretch(part: dict[str, Any]) -> Stretch:
    return Stretch(part["begin_s"], part["end_s"])


if __name__ == "__main__":
    main()
