"""The speech recognisers of a process: pocketsphinx's decoders, each with the model that its wheel ships."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Protocol, cast

from .extras import load
from .vocabulary import Vocabulary, VocabularyError

_IDLE_MOST = 4
"""Decoders that are kept for later sessions: each has a dictionary and a model of its own, about 90 MB."""
_GRAMMAR = "grammar"


class Segment(Protocol):
    """A word, or a silence, of a hypothesis."""

    word: str
    start_frame: int
    end_frame: int
    prob: float


class Hypothesis(Protocol):
    """What seems to have been said."""

    hypstr: str
    prob: float


class Decoder(Protocol):
    """What is used of pocketsphinx, which tells no types."""

    def start_utt(self) -> None: ...
    def process_raw(self, data: memoryview, /) -> None: ...
    def end_utt(self) -> None: ...
    def hyp(self) -> Hypothesis | None: ...
    def seg(self) -> Iterable[Segment] | None: ...
    def get_cmn(self, update: bool = False) -> str: ...
    def set_cmn(self, cmn: str, /) -> None: ...
    def lookup_word(self, word: str, /) -> str | None: ...
    def add_word(self, word: str, phones: str, update: bool = True) -> int: ...
    def add_jsgf_string(self, name: str, grammar: str, /) -> None: ...
    def activate_search(self, name: str | None = None) -> None: ...
    def remove_search(self, name: str, /) -> None: ...


class Endpointer(Protocol):
    """pocketsphinx's own detector of speech, where none stands before it."""

    frame_bytes: int
    in_speech: bool
    speech_start: float

    def process(self, frame: bytes, /) -> bytes | None: ...
    def end_stream(self, frame: bytes, /) -> bytes | None: ...


class Decoders:
    """Lends decoders to sessions. Those that come back are lent again, since a model takes half a second to load."""

    def __init__(self, *, node: str) -> None:
        """Loads one, on behalf of this node type; raises `MissingExtraError` if pocketsphinx is not installed."""
        self._pocketsphinx: Any = load("pocketsphinx", node=node, extra="speech-to-text")
        self._lock = threading.Lock()
        self._idle = [self._load()]
        self._unheard = self._idle[0].get_cmn()

    def endpointer(self) -> Endpointer:
        """One for a stream."""
        return cast("Endpointer", self._pocketsphinx.Endpointer())

    def take(self, vocabulary: Vocabulary) -> Decoder:
        """A decoder that has heard nothing; raises `VocabularyError` if it cannot listen for this."""
        with self._lock:
            decoder = self._idle.pop() if self._idle else None
        decoder = decoder or self._load()
        decoder.set_cmn(self._unheard)
        vocabulary.check(lambda word: decoder.lookup_word(word) is not None)
        for word, phones in vocabulary.pronunciations.items():
            _add_word(decoder, word, phones)
        if vocabulary.grammar is not None:
            try:
                decoder.add_jsgf_string(_GRAMMAR, vocabulary.grammar)
                decoder.activate_search(_GRAMMAR)
            except (ValueError, RuntimeError, KeyError) as error:
                raise VocabularyError(f"the grammar is no JSGF with a public rule: {error}") from error
        return decoder

    def give_back(self, decoder: Decoder, vocabulary: Vocabulary) -> None:
        """Takes a decoder back that is not within an utterance."""
        if vocabulary.pronunciations:
            # Words cannot be taken out of a dictionary again.
            return
        if vocabulary.grammar is not None:
            decoder.activate_search()
            decoder.remove_search(_GRAMMAR)
        with self._lock:
            if len(self._idle) < _IDLE_MOST:
                self._idle.append(decoder)

    def _load(self) -> Decoder:
        return cast("Decoder", self._pocketsphinx.Decoder(loglevel="FATAL"))


def _add_word(decoder: Decoder, word: str, phones: str) -> None:
    try:
        decoder.add_word(word, phones, False)
    except RuntimeError as error:
        raise VocabularyError(f"'{phones}' is no pronunciation of '{word}': phones are of ARPABET, as 'G EY T W EY'") from error
