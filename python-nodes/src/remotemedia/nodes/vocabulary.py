"""What may be said to a recogniser: a grammar, or a list of phrases, and words that its dictionary does not have."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_STATEMENT = re.compile(r"\s*(?:#JSGF\b[^;]*|grammar\b[^;]*);")
_IMPORT = re.compile(r"(?:^|;)\s*import\b")
_RULE = re.compile(r"<(?:[^<>]*\.)?([^<>.]+)>(\s*=)?")
_TAG_RULE_OR_WEIGHT = re.compile(r"\{[^}]*\}|<[^>]*>|/[^/]*/")
_WORD = re.compile(r"[^\s=;|()\[\]*+]+")
_SEPARATOR = re.compile(r"[,\n]")
_PHRASE = re.compile(r"[\w'. -]+")


class VocabularyError(ValueError):
    """A grammar, a list of phrases or a list of pronunciations is not what it should be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """What may be said, if not everything."""

    grammar: str | None
    """In JSGF."""
    pronunciations: Mapping[str, str]
    """Phones of words."""

    @classmethod
    def read(cls, *, grammar: str | None, phrases: str | None, pronunciations: str | None) -> Vocabulary:
        """As parameters say it; raises `VocabularyError` with what is wrong."""
        if grammar is not None and phrases is not None:
            raise VocabularyError("grammar and phrases both say what may be said: give one of them")
        if grammar is not None:
            _refuse_unknown_rules(_COMMENT.sub("", grammar))
        if phrases is not None:
            grammar = _grammar_of(_listed(phrases))
        return cls(grammar=grammar, pronunciations=_pronunciations(pronunciations or ""))

    def words(self) -> tuple[str, ...]:
        """The words of the grammar, each once."""
        text = _COMMENT.sub("", self.grammar or "")
        while statement := _STATEMENT.match(text):
            text = text[statement.end() :]
        found = _WORD.findall(_TAG_RULE_OR_WEIGHT.sub(" ", text))
        return tuple(dict.fromkeys(word for word in found if word not in ("public", "<NULL>", "<VOID>")))

    def check(self, is_known: Callable[[str], bool]) -> None:
        """Raises `VocabularyError` with the words of the grammar that nobody can pronounce."""
        unknown = [word for word in self.words() if word not in self.pronunciations and not is_known(word)]
        if unknown:
            raise VocabularyError(
                f"no pronunciation is known of {', '.join(map(repr, unknown))}: write words of the dictionary in lower"
                " case, and say how others sound in pronunciations ('gateway G EY T W EY')"
            )


def _refuse_unknown_rules(grammar: str) -> None:
    # The recogniser would take them for nothing at all.
    if _IMPORT.search(grammar):
        raise VocabularyError("the grammar imports another: write its rules into it")
    rules = _RULE.findall(grammar)
    known = {"NULL", "VOID"} | {name for name, equals in rules if equals}
    unknown = [name for name, _ in rules if name not in known]
    if unknown:
        raise VocabularyError(f"the grammar has no rule <{unknown[0]}>: write '<{unknown[0]}> = …;'")


def _grammar_of(phrases: list[str]) -> str:
    if not phrases:
        raise VocabularyError("phrases are empty: list what may be said, parted by commas or lines")
    odd = [phrase for phrase in phrases if not _PHRASE.fullmatch(phrase)]
    if odd:
        raise VocabularyError(f"phrase {odd[0]!r} has signs that are not of words: what repeats or varies is a grammar")
    said = " | ".join(phrase.lower() for phrase in phrases)
    return f"#JSGF V1.0;\ngrammar phrases;\npublic <phrase> = {said};\n"


def _pronunciations(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _listed(text):
        word, _, phones = line.partition(" ")
        if not phones.strip():
            raise VocabularyError(f"pronunciation {line!r} has no phones: write 'gateway G EY T W EY'")
        found[word] = phones.strip()
    return found


def _listed(text: str) -> list[str]:
    return [part.strip() for part in _SEPARATOR.split(text) if part.strip()]
