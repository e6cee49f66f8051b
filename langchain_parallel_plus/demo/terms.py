"""Key terms without a model: what the demo falls back to when the model's branch fails."""

from __future__ import annotations

import re
from collections import Counter

__all__ = ("extract_terms",)

_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        about above after again against also although always among another because been before being below
        between both called cannot could does done during each either else even every example first
        following from further given have having here however into itself just made many more most much must
        never nothing only onto other others over same section shall should since some such than that their
        them then there therefore these they this those through under until upon used uses using very were
        what when where whether which while will with within without would your
        """,
    )
)


def extract_terms(text: str, *, count: int = 5) -> str:
    """Return the `count` words that `text` repeats most, as a numbered list; plurals count with their singular.

    Example:
        ```python
        assert extract_terms("A limiter waits. Limiters wait.", count=1) == "1. Limiter"
        ```
    """
    words = re.findall(r"[^\W\d_]{4,}", text.lower())
    kept = [word for word in words if word not in _STOP_WORDS]
    known = set(kept)
    singular = [word[:-1] if word.endswith("s") and word[:-1] in known else word for word in kept]
    ranked = [word for word, _ in Counter(singular).most_common(count)]
    return "\n".join(f"{number}. {word.capitalize()}" for number, word in enumerate(ranked, 1))
