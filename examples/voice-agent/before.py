"""Before: a voice agent as one process, a thread for each call, and one interpreter's lock for all of them.

``python before.py call.wav --calls 3 --bands 200`` plays the recording into so many calls in real time, and prints how
many frames were answered late: after the next one had come.
"""

import argparse
import asyncio
import json
import wave
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from agent import Agent

from remotemedia import Audio

FRAME_SECONDS = 0.02


async def call(agent: Agent, frames: list[Audio], first: float, threads: ThreadPoolExecutor) -> list[float]:
    """One call, whose first frame comes at a time of the loop. How long each frame waited for its answer, in seconds."""
    loop = asyncio.get_running_loop()
    waited: list[float] = []
    for number, frame in enumerate(frames):
        due = first + number * FRAME_SECONDS
        await asyncio.sleep(due - loop.time())
        await loop.run_in_executor(threads, agent.process, frame)
        waited.append(loop.time() - due)
    return waited


async def serve(frames: list[Audio], calls: int, bands: int) -> list[float]:
    agents = [Agent(bands=bands) for _ in range(calls)]
    with ThreadPoolExecutor(calls) as threads:
        # Calls do not wait for each other to speak.
        begin = asyncio.get_running_loop().time() + 0.1
        firsts = [begin + FRAME_SECONDS * place / calls for place in range(calls)]
        waited = await asyncio.gather(*(call(agent, frames, first, threads) for agent, first in zip(agents, firsts)))
    return [seconds for of_call in waited for seconds in of_call]


def read(path: str) -> list[Audio]:
    """The frames of a mono recording of 16 bits."""
    with wave.open(path) as recording:
        rate, per_frame = recording.getframerate(), int(recording.getframerate() * FRAME_SECONDS)
        samples = np.frombuffer(recording.readframes(recording.getnframes()), np.int16).reshape(-1, 1)
    starts = range(0, len(samples), per_frame)
    return [Audio(samples=samples[start : start + per_frame], sample_rate=rate) for start in starts]


def main() -> None:
    parser = argparse.ArgumentParser(description="A voice agent in one process.")
    parser.add_argument("recording", metavar="WAV")
    parser.add_argument("--calls", type=int, default=1, metavar="N")
    parser.add_argument("--bands", type=int, default=200, metavar="N")
    options = parser.parse_args()
    waited = asyncio.run(serve(read(options.recording), options.calls, options.bands))
    late = sum(seconds > FRAME_SECONDS for seconds in waited)
    print(json.dumps({"frames": len(waited), "late": late}))


if __name__ == "__main__":
    main()
