"""Markers of a private dialect: constructions that a reader has to read twice, each with what to write instead.

The list was made by comparison: the published sources of httpx, anyio, stamina, svcs and procrastinate have at most
1.2 of these markers per 1,000 words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_START: Final = r"(?:^|(?<=[.:;!?(]\s)|(?<=\())"
_END: Final = r"(?=[.,;:)?!]|$)"
_FUNCTION_WORD: Final = (
    r"(?:that|which|who|and|or|but|so|as|is|are|was|had?|has|can|may|in|for|to|at|on|by|with|from|after|when|where)"
)
_VERB: Final = r"(?:is|are|was|were|has|have|can|may|would|will|could|does|do)"


@dataclass(frozen=True, slots=True)
class Marker:
    """A construction to avoid. `advice` says what to write instead."""

    name: str
    pattern: re.Pattern[str]
    advice: str


def _marker(name: str, pattern: str, advice: str) -> Marker:
    return Marker(name, re.compile(pattern), advice)


_PRONOUNS: Final = (
    _marker(
        "those that",
        r"\b[Tt]hose (?:that|who|which|whose|of|in|with|for|before|after|beyond|it|they|\w+ed)\b",
        "name the things: 'the events that wait', not 'those that wait'",
    ),
    _marker(
        "one that",
        r"\b[Oo]nes? (?:that|who|which|whose)\b",
        "repeat the noun: 'a worker that has a handler', not 'one that has a handler'",
    ),
    _marker(
        "pronoun at the end",
        rf"\b(?:is|are|was|were|be|has|have|had|of|for|with|without) (?:one|none|those|these){_END}",
        "repeat the noun, or use a verb: 'the worker, if a worker runs', not 'if there is one'",
    ),
    _marker(
        "possessive without a noun",
        rf"\b\w+'s{_END}",
        "repeat the noun: 'the latency of a put', not 'a put's'",
    ),
    _marker(
        "of its own",
        rf"\bof (?:its|their|our|your|his|(?:the|an?) \w+'s) own(?:{_END}|(?= {_FUNCTION_WORD}\b))"
        r"|\bof (?:ours|yours|theirs)\b",
        "put the owner first, or say 'separate': 'your own id', not 'an id of your own'",
    ),
    _marker(
        "is ours",
        r"\b(?:is|are|not|be|longer) (?:ours|yours|theirs)\b",
        "name the owner: 'this worker holds the claim', not 'the claim is ours'",
    ),
    _marker(
        "so many",
        r"\bso (?:many|much|few)\b",
        "name the number: 'for `seconds`', 'that number of events'",
    ),
    _marker("such a one", r"\bsuch an? one\b|\bsuch ones\b", "repeat the noun: 'such an event'"),
    _marker("whoever", r"\b[Ww]ho(?:m)?ever\b", "say who: 'the worker that ...', 'any caller'"),
)

_ORDER: Final = (
    _marker(
        "What ... is",
        rf"{_START}What (?=[^?]*[.:;,])",
        "begin with a noun: 'The options of a handler', not 'What a handler takes'",
    ),
    _marker(
        "It is ... that",
        r"\b[Ii]t (?:is|was) (?:only |not )?"
        r"(?:the|an?|this|these|its|what|where|when|who|by|for|from|in|at)\b[^.;:,]{0,60}\bthat\b",
        "begin with the subject: 'The lease decides', not 'It is the lease that decides'",
    ),
    _marker(
        "what becomes of",
        r"\b[Ww]hat (?:became|becomes|comes|came|has become) of\b|\bcom(?:es|e|ing) of (?:it|them|this|that|one)\b",
        "say 'the result of'",
    ),
    _marker("make of", r"\b[Mm]ak(?:e|es|ing) of\b", "say 'convert ... to ...' or 'build ... from ...'"),
    _marker(
        "causal for",
        r"[,:] for (?:it|they|there|he|she|we|this|that|these|those|then|nothing|nobody|no|some) \w+"
        rf"|[,:] for (?:an?|the|its|their) (?:\w+ ){{1,3}}?{_VERB}\b",
        "say 'because'",
    ),
    _marker("but for", r"(?<!,\s)\bbut for\b|\bnothing but\b", "say 'except' or 'only'"),
)

_NEGATIVES: Final = (
    _marker(
        "is no",
        r"(?<!\b[Tt]here )\b(?:is|are|was|were|be|become|becomes) no (?!longer\b|more\b|less\b|op\b)\w+|\bof no use\b",
        "say 'is not a': 'a value that is not a number', not 'that is no number'",
    ),
    _marker(
        "for nobody",
        r"\b(?:for|by|to|of|with|is|are) nobody\b|\b(?:is|are|was|were|for|by) (?:nothing|none)\b",
        "turn the sentence around, with 'not': 'without observers, nothing is built'",
    ),
)

_PHRASES: Final = (
    _marker("told of", r"\b(?:told|tells?|telling) of\b", "say 'notify', 'report' or 'is notified of'"),
    _marker("set aside", r"\bset(?:s|ting)? aside\b", "say FAILED, or 'becomes a dead letter'"),
    _marker("anew", r"\b[Aa]new\b", "say 'again'"),
    _marker("mend", r"\b[Mm]end(?:s|ed|ing)?\b", "say 'fix'"),
    _marker("beside", r"\b[Bb]eside\b", "say 'next to', 'in addition to' or 'while'"),
    _marker("had better", r"\bhad better\b", "say 'should'"),
    _marker("as ... as ever", r"\bas \w+ as (?:it|they) ever\b", "give the number or the limit"),
    _marker("all the same", r"\ball the same\b", "say 'anyway' or 'still'"),
)

_WORDS: Final = (
    _marker("birth", r"\b(?:[Bb]irths?|born)\b", "say 'claim on emit', after the option `claim_on_emit`"),
    _marker(
        "look",
        r"\b(?:an?|the|each|one|first|next|every|last|this|another|its|of|idle) looks?\b(?! at)"
        r"|\blooks\b(?! at| like| up| for a)",
        "say 'poll', after the option `poll_interval`",
    ),
    _marker(
        "engine",
        r"(?<![Ss]earch )(?<!SQLAlchemy )\b[Ee]ngines?\b(?!\.\w)",
        "say 'backend' or 'emulator', or name it: DynamoDB, moto",
    ),
)

MARKERS: Final = (*_PRONOUNS, *_ORDER, *_NEGATIVES, *_PHRASES, *_WORDS)
