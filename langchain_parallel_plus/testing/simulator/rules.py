"""What a provider decides about a request, as a pure function: quota, token rule and wording, no clock, no socket."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, get_args

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing.dialects import Dialect, DialectName, OpenAIDialect, dialect_named
from langchain_parallel_plus.testing.quota import Cost, Quota, TokenRule, admission_cost, final_cost

if TYPE_CHECKING:
    from langchain_parallel_plus.testing.dialects.dialect import Headers
    from langchain_parallel_plus.testing.quota import Charge, Decision, QuotaModel, QuotaState

__all__ = ("ProviderRules", "Verdict")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the provider answers to a request before any model runs."""

    decision: Decision
    status: int
    """200 if the request may run; 429 if not, or what the dialect says instead."""
    headers: Headers
    """Of the response, whatever it will be: the quota's, and on a refusal the wait's."""
    body: bytes
    """Of the refusal; empty if the request may run."""

    @property
    def admitted(self) -> bool:
        """Whether the request may run."""
        return self.decision.admitted

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the refused request would be admitted; None if it was admitted, or never would be."""
        return None if self.decision.refusal is None else self.decision.refusal.retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRules:
    """How a provider counts and words; all methods are pure.

    Example:
        ```python
        from langchain_parallel_plus.testing import ProviderRules

        rules = ProviderRules.of(tokens_per_minute=1_000, token_rule="reserve_refund", dialect="anthropic")
        state = rules.fresh(now=0.0)
        first = rules.ask(state, now=0.0, wall=1.8e9, input_tokens=100, max_tokens=800)
        second = rules.ask(first.decision.state, now=0.0, wall=1.8e9, input_tokens=100, max_tokens=800)
        assert (first.status, second.status) == (200, 429)
        assert dict(second.headers)["retry-after"] == "48"
        ```

    Raises:
        DeclarationError: If the token rule is unknown.
    """

    quota: Quota
    dialect: Dialect = field(default_factory=OpenAIDialect)
    token_rule: TokenRule = "reserve"

    def __post_init__(self) -> None:
        if self.token_rule not in get_args(TokenRule):
            raise DeclarationError(
                f"token_rule must be one of {', '.join(get_args(TokenRule))}, got {self.token_rule!r}"
            )

    @classmethod
    def of(
        cls,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        input_tokens_per_minute: int | None = None,
        output_tokens_per_minute: int | None = None,
        requests_per_day: int | None = None,
        tokens_per_day: int | None = None,
        quota_model: QuotaModel = "bucket_minute",
        token_rule: TokenRule = "reserve",
        dialect: DialectName | Dialect = "openai",
        failed_requests_count: bool | None = None,
        quota: Quota | None = None,
    ) -> Self:
        """Return rules by numbers and names; see `ProviderSimulator` for what they mean.

        Raises:
            DeclarationError: If a limit is not a whole number >= 1, a name is unknown, or `quota` comes with limits.
        """
        words = dialect_named(dialect)
        counted = words.failed_requests_count if failed_requests_count is None else failed_requests_count
        built = Quota.of(
            quota_model,
            requests=requests_per_minute,
            tokens=tokens_per_minute,
            input_tokens=input_tokens_per_minute,
            output_tokens=output_tokens_per_minute,
            requests_per_day=requests_per_day,
            tokens_per_day=tokens_per_day,
            failed_requests_count=counted,
        )
        if quota is not None and (built.limits or failed_requests_count is not None):
            given = [*(name for name, _ in built.limits), *(["failed_requests_count"] if failed_requests_count else [])]
            raise DeclarationError(
                f"quota= was given together with {', '.join(given) or 'failed_requests_count'}",
                help="say all of it in the Quota",
            )
        return cls(quota=quota or built, dialect=words, token_rule=token_rule)

    def fresh(self, *, now: float) -> QuotaState:
        """Return the state of a key that has used nothing."""
        return self.quota.fresh(now=now)

    def ask(
        self,
        state: QuotaState,
        *,
        now: float,
        wall: float,
        input_tokens: int = 0,
        max_tokens: int | None = None,
        model: str = "gpt-4o-mini",
    ) -> Verdict:
        """Decide about one request; the state after it is `verdict.decision.state`.

        Args:
            state: The state left by the previous decision.
            now: The time of arrival, in seconds of any clock that does not go back.
            wall: The same moment as POSIX time, for headers that tell an instant.
            input_tokens: The provider's estimate of the prompt.
            max_tokens: What the request allows for its answer; None reserves 16.
            model: The model's name, for messages.
        """
        cost = admission_cost(self.token_rule, input_tokens=input_tokens, max_tokens=max_tokens)
        return self.worded(self.quota.admit(state, cost, now=now), wall=wall, model=model)

    def worded(self, decision: Decision, *, wall: float, model: str) -> Verdict:
        """Return a decision in the provider's words."""
        headers = self.dialect.quota_headers(decision.readings, wall=wall)
        refusal = decision.refusal
        if refusal is None:
            return Verdict(decision, 200, headers, b"")
        headers = (*headers, *self.dialect.retry_headers(refusal.retry_after))
        status = self.dialect.refusal_status(refusal)
        return Verdict(decision, status, headers, self.dialect.refusal_body(model, refusal))

    def final_cost(self, charge: Charge, used: Cost | None) -> Cost:
        """Return what an admitted request has cost when it has ended; `used` is None if nobody knows what it used."""
        return charge.cost if used is None else final_cost(self.token_rule, charge.cost, used)

    def settle(self, state: QuotaState, charge: Charge, used: Cost | None, *, now: float) -> QuotaState:
        """Return the state after an admitted request has ended, corrected as the token rule says."""
        cost = self.final_cost(charge, used)
        return state if cost == charge.cost else self.quota.settle(state, charge, cost, now=now)
