"""Grammars that hold a very small model to the shape of an answer, in llama.cpp's GBNF.

Without them a model of 135 million parameters loses the thread: it numbers past five, writes paragraphs for a list, or
starts a sentence that never ends. They shape the answer and do not supply any of it.
"""

from __future__ import annotations

__all__ = ("BRIEF", "KEY_TERMS", "QUESTIONS", "SUMMARY")

# A dot ends a sentence, save inside "example.org" and "version 2.0", and there are no colons and brackets: by any other
# rule the model runs on in "1.1.1.1", "L.S.A.P." or addresses. And no assistant speaks ("I'm here to help").
_LETTER = "[^\\n.:<>{}\\[\\]]"
_SENTENCE = (
    f'sentence ::= ("I" [a-z] | [A-HJ-Z]) ({_LETTER} | "." [a-z] [a-z] | [0-9] "." [0-9] {_LETTER}){{20,220}} "."'
)
_QUESTION = 'question ::= ("What" | "Why" | "How" | "When" | "Which") " " [^\\n?]{8,120} "?"'
_TERM = 'term ::= "**" word (" " word){0,2} "**"\nword ::= [A-Za-z] [a-zA-Z-]{1,14}'
_NEW_LINE = '"\\n"'


def _numbered(item: str, count: int) -> str:
    return f" {_NEW_LINE} ".join(f'"{number}. " {item}' for number in range(1, count + 1))


def _bullets(item: str, count: int) -> str:
    return f" {_NEW_LINE} ".join([f'"- " {item}'] * count)


def _heading(title: str) -> str:
    return f'"## {title}\\n"'


def _grammar(root: str, *rules: str) -> str:
    return "\n".join([f"root ::= {root}", *rules])


SUMMARY = _grammar('sentence " " sentence " " sentence', _SENTENCE)
QUESTIONS = _grammar(_numbered("question", 5), _QUESTION)
KEY_TERMS = _grammar(_numbered("term", 5), _TERM)
BRIEF = _grammar(
    f" {_NEW_LINE} {_NEW_LINE} ".join(
        [
            f'{_heading("In short")} sentence " " sentence',
            f"{_heading('Key terms')} {_bullets('term', 4)}",
            f"{_heading('Questions to ask')} {_bullets('question', 3)}",
        ]
    ),
    _SENTENCE,
    _TERM,
    _QUESTION,
)
