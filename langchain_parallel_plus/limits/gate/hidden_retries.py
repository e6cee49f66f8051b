"""Models whose SDK retries by itself, behind the limiter's back.

LangChain tells of a call once, however often the SDK sends it. The requests in between are not admitted by anybody:
they go out right after a 429, against a key that should rest, and count against a quota that is planned as if they did
not exist; and the limiter hears of the 429 only when the last of them has failed.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Mapping
from typing import Final

__all__ = ("HiddenRetriesWarning", "hidden_retries", "warn_of_hidden_retries")

_OPENAI_DEFAULT: Final = 2
"""`max_retries=None` of langchain-openai leaves it to the SDK: 2 (`openai._constants.DEFAULT_MAX_RETRIES`, 3.54)."""
_OPENAI_FIELD: Final = "openai_api_"
"""How fields of every model on langchain-openai's base class begin, those of other providers' packages included."""
_ATTEMPTS_PROVIDERS: Final = frozenset({"google_genai", "google_vertexai"})
"""Here `max_retries` counts the first attempt too, and 0 means the SDK's default (langchain-google-genai 4.4)."""
_GOOGLE_DEFAULT: Final = 5
_FIELD_IN_REPR: Final = re.compile(r"\bmax_retries=(\d{1,4})\b")
_LONGEST_REPR: Final = 65_536

_warned: dict[tuple[str, str, str], object] = {}
"""By class, model and setting: what was looked at already."""


class HiddenRetriesWarning(UserWarning):
    """A model under a rate limiter retries by itself, so the limiter does not see every request."""


def hidden_retries(serialized: object, provider: str = "") -> int:
    """Return how often the model that `serialized` describes may send a call again by itself; 0 if nothing says so.

    Args:
        serialized: What the first callback of a run is given: the model as `dumpd` writes it.
        provider: LangSmith's name of the provider, as the model reports it.
    """
    if not isinstance(serialized, Mapping):
        return 0
    set_to, on_openai = _read(serialized)
    if set_to is None:
        return _OPENAI_DEFAULT if on_openai else 0
    if provider in _ATTEMPTS_PROVIDERS:
        return set_to - 1 if set_to else _GOOGLE_DEFAULT
    return set_to


def _read(serialized: Mapping[str, object]) -> tuple[int | None, bool]:
    """Return `max_retries` if it is written, and whether the model is one on langchain-openai's base class."""
    fields = serialized.get("kwargs")
    if isinstance(fields, Mapping):
        number = fields.get("max_retries")
        valid = isinstance(number, int) and not isinstance(number, bool) and number >= 0
        return number if valid else None, any(str(name).startswith(_OPENAI_FIELD) for name in fields)
    written = serialized.get("repr")  # of a model that is not serialisable; what is set to its default is left out
    if not isinstance(written, str):
        return None, False
    found = _FIELD_IN_REPR.search(written, 0, _LONGEST_REPR)
    return int(found[1]) if found else _default_of(serialized.get("id")), _OPENAI_FIELD in written[:_LONGEST_REPR]


def _default_of(path: object) -> int | None:
    """Return the default of `max_retries` of the class at `path`, if it is imported, as that of a caller's model is."""
    if not isinstance(path, list) or not all(isinstance(part, str) for part in path):
        return None
    found = getattr(sys.modules.get(".".join(path[:-1])), path[-1], None) if path else None
    fields = getattr(found, "model_fields", None)
    default = getattr(fields.get("max_retries"), "default", None) if isinstance(fields, Mapping) else None
    return default if isinstance(default, int) and not isinstance(default, bool) and default >= 0 else None


def warn_of_hidden_retries(serialized: object, *, provider: str, model: str, limiter: str) -> None:
    """Warn, once for each model class and name, if the model retries by itself.

    Args:
        serialized: What the first callback of a run is given.
        provider: LangSmith's name of the provider.
        model: The model's name.
        limiter: Name of a limiter that governs the call.
    """
    kind = _class_name(serialized)
    key = (kind, model, _setting(serialized))
    if key in _warned:
        return
    retries = hidden_retries(serialized, provider)
    here = object()
    if _warned.setdefault(key, here) is not here or not retries:  # in one step: another thread may be here as well
        return
    off = 1 if provider in _ATTEMPTS_PROVIDERS else 0
    times = "once" if retries == 1 else f"up to {retries} times"
    warnings.warn(
        f"{kind} {model!r} is under rate limiter {limiter!r} and sends a failed call again {times} by itself. The "
        "limiter does not see these requests: they come on top of the quota that it plans, and into the pause that a "
        f"429 asks for.\nhelp: make the model with max_retries={off} and let a policy retry: "
        "BranchPolicy(retry=RetryPolicy(max_attempts=3))",
        HiddenRetriesWarning,
        stacklevel=2,
    )


def _setting(serialized: object) -> str:
    """Return what `max_retries` is set to, if that is quickly told: of every call it is asked."""
    fields = serialized.get("kwargs") if isinstance(serialized, Mapping) else None
    return repr(fields.get("max_retries"))[:20] if isinstance(fields, Mapping) else ""


def _class_name(serialized: object) -> str:
    if isinstance(serialized, Mapping):
        path = serialized.get("id")
        if isinstance(path, list) and path and isinstance(path[-1], str):
            return path[-1][:80]
    return "a model"
