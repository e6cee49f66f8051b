"""What the first callback of a run tells of a model call, as a `ModelCall`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.limits.gate.endpoint import provider_at_endpoint
from langchain_parallel_plus.limits.tokens.estimate import ModelCall, output_cap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.messages import BaseMessage

__all__ = ("describe_call",)


def describe_call(serialized: object, prompt: Sequence[BaseMessage] | str, facts: Mapping[str, Any]) -> ModelCall:
    """Return the call that is about to be made.

    Args:
        serialized: The model, as `dumpd` writes it.
        prompt: The messages of a chat model, or the text of a completion model.
        facts: The callback's keyword arguments.
    """
    parameters = facts.get("invocation_params") or {}
    metadata = facts.get("metadata") or {}
    model = metadata.get("ls_model_name") or parameters.get("model") or parameters.get("model_name")
    provider = str(metadata.get("ls_provider") or "")
    return ModelCall(
        provider=provider,
        model=str(model or ""),
        prompt=prompt,
        parameters=parameters,
        max_tokens=output_cap(parameters, metadata),
        endpoint=provider_at_endpoint(provider, serialized),
    )
