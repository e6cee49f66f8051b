"""How a branch is treated and when a fan-out is done: frozen, validated data, and nothing that runs."""

from langchain_parallel_plus.policy.branch import BranchPolicies, BranchPolicy, OnFailure, checked_policy
from langchain_parallel_plus.policy.breaker import CircuitBreaker
from langchain_parallel_plus.policy.budget import RetryBudget
from langchain_parallel_plus.policy.fallback import Fallback
from langchain_parallel_plus.policy.hedge import HedgePolicy
from langchain_parallel_plus.policy.join import JoinPolicy
from langchain_parallel_plus.policy.retry import RetryPolicy
from langchain_parallel_plus.policy.timeout import TimeoutPolicy

__all__ = (
    "BranchPolicies",
    "BranchPolicy",
    "CircuitBreaker",
    "Fallback",
    "HedgePolicy",
    "JoinPolicy",
    "OnFailure",
    "RetryBudget",
    "RetryPolicy",
    "TimeoutPolicy",
    "checked_policy",
)
