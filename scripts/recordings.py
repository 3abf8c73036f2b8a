#!/usr/bin/env python3
"""Joins recorded speech into WAV files, and writes down beside each what is said in it, and when.

usage: recordings.py POCKETSPHINX_SDIST.tar.gz ALSA_UTILS_ROOT OUTPUT_DIRECTORY

Nothing is resampled here: a file has the rate of its recordings, and the pipeline does the rest.
"""

import array
import io
import json
import sys
import tarfile
import wave
from dataclasses import asdict, dataclass
from pathlib import Path

SILENCE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Mono 16-bit speech; `begin_s` and `end_s` say where in it somebody speaks, and `labelled` whether a person found that."""

    words: str
    rate: int
    pcm: bytes
    begin_s: float
    end_s: float
    labelled: bool


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """Something said in a joined file."""

    words: str
    begin_s: float
    end_s: float
    labelled: bool


def main() -> None:
    sdist, alsa, out = (Path(argument) for argument in sys.argv[1:4])
    out.mkdir(parents=True, exist_ok=True)
    join(sentences(sdist), out / "sentences.wav")
    join(other_voices(sdist), out / "other-voices.wav")
    join(channel_names(alsa), out / "channel-names.wav")


def sentences(sdist: Path) -> list[Recording]:
    """Sentences of a LibriVox reading with their hand-made labels, and "go forward ten meters"."""
    with tarfile.open(sdist) as archive:
        root = archive.getnames()[0].split("/")[0]

        def read(name: str) -> bytes:
            return archive.extractfile(f"{root}/test/data/{name}").read()

        spoken = []
        for line in read("librivox/transcription").decode().splitlines():
            words, name = line.removeprefix("<s> ").rstrip(")").split(" </s> (")
            begin, end = (float(row.split()[0]) for row in read(f"librivox/{name}.lab").decode().splitlines())
            rate, pcm = samples(read(f"librivox/{name}.wav"))
            spoken.append(Recording(words=words, rate=rate, pcm=pcm, begin_s=begin, end_s=end, labelled=True))
        pcm = read("goforward.raw")
        spoken.append(loud_part("go forward ten meters", 16_000, pcm))
    return spoken


def other_voices(sdist: Path) -> list[Recording]:
    """Playing cards and numbers by other people: no threshold was chosen on them."""
    with tarfile.open(sdist) as archive:
        root = archive.getnames()[0].split("/")[0]

        def read(name: str) -> bytes:
            return archive.extractfile(f"{root}/test/data/{name}").read()

        spoken = []
        for line in read("cards/cards.transcription").decode().splitlines():
            words, name = line.removeprefix("<s> ").rstrip(")").split(" </s> (")
            spoken.append(loud_part(words.strip(), *samples(read(f"cards/{name}.wav"))))
        spoken += [loud_part(name, 16_000, read(f"{name}.raw")) for name in ("numbers", "something")]
    return spoken


def channel_names(alsa: Path) -> list[Recording]:
    """The names of loudspeakers, as a person says them, at 48 kHz."""
    files = sorted((alsa / "usr/share/sounds/alsa").glob("*_*.wav"))
    return [loud_part(file.stem.replace("_", " ").lower(), *samples(file.read_bytes())) for file in files]


def samples(wav: bytes) -> tuple[int, bytes]:
    with wave.open(io.BytesIO(wav)) as file:
        if (file.getnchannels(), file.getsampwidth()) != (1, 2):
            raise ValueError("the recordings are mono with 16 bits a sample")
        return file.getframerate(), file.readframes(file.getnframes())


def loud_part(words: str, rate: int, pcm: bytes) -> Recording:
    """Where nobody labelled a recording: its speech is what lies between the first and the last loud 20 ms."""
    values = array.array("h", pcm)
    size = rate // 50
    peaks = [max(map(abs, values[at : at + size])) for at in range(0, len(values), size)]
    loud = [index for index, peak in enumerate(peaks) if peak > max(peaks) / 5]
    return Recording(words=words, rate=rate, pcm=pcm, begin_s=loud[0] / 50, end_s=(loud[-1] + 1) / 50, labelled=False)


def join(recordings: list[Recording], path: Path) -> None:
    """Two seconds of silence, then each recording followed by as much."""
    rate = recordings[0].rate
    silence = bytes(2 * int(SILENCE_S * rate))
    pcm, spoken = bytearray(silence), []
    for recording in recordings:
        if recording.rate != rate:
            raise ValueError(f"'{recording.words}' has {recording.rate} Hz, its file has {rate} Hz")
        start_s = len(pcm) / 2 / rate
        begin_s, end_s = round(start_s + recording.begin_s, 3), round(start_s + recording.end_s, 3)
        spoken.append(Spoken(words=recording.words, begin_s=begin_s, end_s=end_s, labelled=recording.labelled))
        pcm += recording.pcm + silence
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(bytes(pcm))
    said = {"rate": rate, "seconds": len(pcm) / 2 / rate, "spoken": [asdict(part) for part in spoken]}
    path.with_suffix(".json").write_text(json.dumps(said, indent=2))


if __name__ == "__main__":
    main()
