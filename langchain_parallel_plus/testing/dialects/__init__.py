"""How providers tell of their quota: headers on success and on errors, bodies of errors. Pure, one class a provider.

```python
from langchain_parallel_plus.testing.dialects import GroqDialect
from langchain_parallel_plus.testing.quota import Cost, Quota

quota = Quota.of(tokens=6_000)
decision = quota.admit(quota.fresh(now=0.0), Cost(input_tokens=100), now=0.0)
headers = dict(GroqDialect().quota_headers(decision.readings, wall=0.0))
assert headers["x-ratelimit-remaining-tokens"] == "5900"
assert headers["x-ratelimit-reset-tokens"] == "1s"
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing.dialects.anthropic import AnthropicDialect
from langchain_parallel_plus.testing.dialects.azure import AzureDialect
from langchain_parallel_plus.testing.dialects.dialect import Dialect
from langchain_parallel_plus.testing.dialects.gemini import GeminiDialect
from langchain_parallel_plus.testing.dialects.groq import GroqDialect
from langchain_parallel_plus.testing.dialects.ietf import IetfDialect
from langchain_parallel_plus.testing.dialects.openai import OpenAIDialect

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "DIALECTS",
    "AnthropicDialect",
    "AzureDialect",
    "Dialect",
    "DialectName",
    "GeminiDialect",
    "GroqDialect",
    "IetfDialect",
    "OpenAIDialect",
    "dialect_named",
)

DialectName = Literal["openai", "azure", "anthropic", "groq", "gemini", "ietf"]

DIALECTS: Mapping[str, type[Dialect]] = {
    "openai": OpenAIDialect,
    "azure": AzureDialect,
    "anthropic": AnthropicDialect,
    "groq": GroqDialect,
    "gemini": GeminiDialect,
    "ietf": IetfDialect,
}


def dialect_named(dialect: DialectName | Dialect) -> Dialect:
    """Return the dialect of that name, or the one that was given.

    Raises:
        DeclarationError: If there is no such dialect.
    """
    if isinstance(dialect, Dialect):
        return dialect
    if dialect not in DIALECTS:
        raise DeclarationError(
            f"dialect must be one of {', '.join(DIALECTS)}, got {dialect!r}",
            help="or an instance of a subclass of langchain_parallel_plus.testing.dialects.Dialect",
        )
    return DIALECTS[dialect]()
