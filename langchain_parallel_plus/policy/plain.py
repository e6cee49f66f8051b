"""Policies as plain data and back, so that a fan-out can be dumped and loaded with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.policy.branch import BranchPolicies, BranchPolicy
from langchain_parallel_plus.policy.breaker import CircuitBreaker
from langchain_parallel_plus.policy.budget import RetryBudget
from langchain_parallel_plus.policy.fallback import Fallback
from langchain_parallel_plus.policy.hedge import HedgePolicy
from langchain_parallel_plus.policy.join import JoinPolicy
from langchain_parallel_plus.policy.retry import RetryPolicy
from langchain_parallel_plus.policy.timeout import TimeoutPolicy

__all__ = ("join_of", "plain", "policies_of", "policy_of")


_KINDS = {
    "retry": RetryPolicy,
    "timeout": TimeoutPolicy,
    "hedge": HedgePolicy,
    "breaker": CircuitBreaker,
    "cost": Cost,
}


def plain(value: Any) -> Any:
    """Return a policy as a dict of the fields that differ from their defaults; runnables and functions stay."""
    if is_dataclass(value) and not isinstance(value, type):
        set_fields = {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != f.default}
        return {name: plain(one) for name, one in set_fields.items() if one != {}}
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, RateLimiter):
        return value.declaration
    if isinstance(value, tuple):
        return [plain(one) if isinstance(one, Fallback) else one for one in value]
    return value


def policy_of(data: Mapping[str, Any]) -> BranchPolicy:
    """Return the policy that `plain` made `data` of."""
    made = dict(data)
    retry = made.get("retry")
    if isinstance(retry, Mapping) and isinstance(retry.get("budget"), Mapping):
        made["retry"] = {**retry, "budget": RetryBudget(**retry["budget"])}
    for name, kind in _KINDS.items():
        if isinstance(made.get(name), Mapping):
            made[name] = kind(**made[name])
    if isinstance(made.get("limiter"), Mapping):
        made["limiter"] = RateLimiter.declared(made["limiter"])
    return BranchPolicy(**made)


def policies_of(data: Mapping[str, Any]) -> BranchPolicies:
    """Return the policies that `plain` made `data` of."""
    by_branch = {key: policy_of(one) for key, one in data.get("by_branch", {}).items()}
    return BranchPolicies(policy_of(data.get("default", {})), by_branch)


def join_of(data: Mapping[str, Any]) -> JoinPolicy:
    """Return the policy that `plain` made `data` of."""
    return JoinPolicy(**data)
