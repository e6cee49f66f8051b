"""Whose quota rules a model call meets, as far as its first callback tells.

A model reports the provider whose protocol it speaks. `ChatOpenAI` says "openai" with any `base_url`, and what answers
there (a proxy, a local server, another provider) need not count as OpenAI does. So a provider is believed only at an
endpoint of its own. The address stands in the model's serialised fields; where an SDK reads it from the environment
instead, the environment is read here too, at the time of the call.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

__all__ = ("provider_at_endpoint",)

_OWN_HOSTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "openai": ("api.openai.com", "*.api.openai.com"),
        "azure": (
            "*.openai.azure.com",
            "*.openai.azure.us",
            "*.cognitiveservices.azure.com",
            "*.services.ai.azure.com",
        ),
        "anthropic": ("api.anthropic.com",),
        "groq": ("api.groq.com",),
        "google_genai": ("generativelanguage.googleapis.com",),
        "google_vertexai": ("*.googleapis.com",),
        "amazon_bedrock": ("*.amazonaws.com", "*.api.aws"),
        "mistral": ("api.mistral.ai",),
        "deepseek": ("api.deepseek.com",),
        "cerebras": ("api.cerebras.ai",),
    }
)
"""Where each provider answers itself, regional endpoints included."""

_ADDRESS_FIELDS: Final = ("base_url", "api_base", "api_url", "endpoint", "endpoint_url")
"""How the names of the fields end that hold an address (langchain-openai 1.7: `openai_api_base`, `azure_endpoint`;
langchain-anthropic 1.7: `anthropic_api_url`; langchain-groq 1.1: `groq_api_base`; langchain-aws 1.9: `endpoint_url`;
langchain-google-genai 4.4: `base_url`; langchain-mistralai 1.1: `endpoint`)."""

_ADDRESS_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "openai": ("OPENAI_BASE_URL",),
        "anthropic": ("ANTHROPIC_BASE_URL",),
        "groq": ("GROQ_BASE_URL",),
        "google_genai": ("GOOGLE_GEMINI_BASE_URL",),
        "google_vertexai": ("GOOGLE_VERTEX_BASE_URL",),
        "amazon_bedrock": ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_ENDPOINT_URL"),
    }
)
"""What the SDKs read themselves (openai 3.54, anthropic 2.12, groq 1.7, google-genai 3.4, botocore 1.44); addresses
that the LangChain packages read from the environment are among the model's fields."""


def provider_at_endpoint(provider: str, serialized: object, environment: Mapping[str, str] = os.environ) -> str:
    """Return `provider` if the model that `serialized` describes calls the provider's own endpoint, else "".

    Args:
        provider: LangSmith's name, as the model reports it.
        serialized: What the first callback of a run is given: the model as `dumpd` writes it.
        environment: Where SDKs look for an address that the model does not have.
    """
    fields = serialized.get("kwargs") if isinstance(serialized, Mapping) else None
    if not provider or not isinstance(fields, Mapping):
        return ""  # a model that is not serialisable does not show where it calls
    addresses = [
        value
        for name, value in fields.items()
        if value
        and not isinstance(value, bool)
        and str(name).endswith(_ADDRESS_FIELDS)  # `validate_base_url` is a flag
    ]
    if not addresses:
        variables = _ADDRESS_VARIABLES.get(provider, ())
        addresses = [environment[name] for name in variables if environment.get(name)][:1]
    return provider if all(_is_own(provider, address) for address in addresses) else ""


def _is_own(provider: str, address: object) -> bool:
    return isinstance(address, str) and len(address) <= 2_048 and _host_is_own(provider, address)


@lru_cache(maxsize=256)
def _host_is_own(provider: str, address: str) -> bool:
    try:
        host = urlsplit(address if "//" in address else f"//{address}").hostname or ""
    except ValueError:  # an address that is none
        return False
    return any(fnmatchcase(host, pattern) for pattern in _OWN_HOSTS.get(provider, ()))
