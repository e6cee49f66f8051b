"""The names of spans, attributes and metrics: all strings that leave the process, in one place.

The GenAI conventions are in development and moved out of OpenTelemetry's core conventions after 1.41; every constant of
theirs in `opentelemetry-semantic-conventions` is marked deprecated since. So the few that are used are copied here, as
instrumentations do, from the version below. There is no convention for retries, rate limits and hedges
(open-telemetry/opentelemetry-specification#1306): these have names of their own, `lcpp.*`.
"""

from __future__ import annotations

from typing import Final

GENAI_VERSION: Final = "0.1.0"
"""Of `semantic-conventions-genai`."""
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.0"
"""The last one of the core conventions that has the GenAI attributes."""

OPERATION_NAME: Final = "gen_ai.operation.name"
INVOKE_WORKFLOW: Final = "invoke_workflow"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
"""To become `gen_ai.agent.name` when the instrumentations do so."""
ERROR_TYPE: Final = "error.type"
HTTP_STATUS: Final = "http.response.status_code"
OPENINFERENCE_KIND: Final = "openinference.span.kind"
"""Without it Phoenix shows a span as UNKNOWN."""
OPENINFERENCE_CHAIN: Final = "CHAIN"

FAN_OUT_NAME: Final = "lcpp.fan_out.name"
BRANCH_COUNT: Final = "lcpp.fan_out.branch_count"
FAILURE_POLICY: Final = "lcpp.fan_out.failure_policy"
SUCCEEDED: Final = "lcpp.fan_out.succeeded"
FAILED: Final = "lcpp.fan_out.failed"
SKIPPED: Final = "lcpp.fan_out.skipped"
SPEEDUP: Final = "lcpp.fan_out.speedup"
LIMIT_EFFICIENCY: Final = "lcpp.fan_out.limit_efficiency"
CRITICAL_BRANCH: Final = "lcpp.fan_out.critical_branch"

BRANCH_KEY: Final = "lcpp.branch.key"
ITEM_INDEX: Final = "lcpp.item.index"
BRANCH_REQUIRED: Final = "lcpp.branch.required"
BRANCH_OUTCOME: Final = "lcpp.branch.outcome"
BRANCH_ATTEMPTS: Final = "lcpp.branch.attempts"
BRANCH_WAIT: Final = "lcpp.branch.wait_s"
BRANCH_BACKOFF: Final = "lcpp.branch.backoff_s"
BRANCH_WASTED: Final = "lcpp.branch.wasted_s"

ATTEMPT_NUMBER: Final = "lcpp.attempt.number"
ATTEMPT_ROLE: Final = "lcpp.attempt.role"
ATTEMPT_TARGET: Final = "lcpp.attempt.target"
ATTEMPT_OUTCOME: Final = "lcpp.attempt.outcome"
ERROR_KIND: Final = "lcpp.error.kind"
RETRY_DELAY: Final = "lcpp.retry.delay_s"
FALLBACK_FROM: Final = "lcpp.fallback.from"
HEDGE_DELAY: Final = "lcpp.hedge.delay_s"
HEDGE_WON: Final = "lcpp.hedge.won"
LINK_TYPE: Final = "lcpp.link.type"

LIMITER_NAME: Final = "lcpp.limiter.name"
LIMITER_RESOURCE: Final = "lcpp.limiter.resource"
LIMITER_REQUESTED: Final = "lcpp.limiter.requested"
LIMITER_REASON: Final = "lcpp.limiter.reason"
LIMITER_QUEUE: Final = "lcpp.limiter.queue_depth"

BREAKER_NAME: Final = "lcpp.breaker.name"
BREAKER_STATE: Final = "lcpp.breaker.state"
BREAKER_FROM: Final = "lcpp.breaker.from"
BREAKER_TO: Final = "lcpp.breaker.to"

SYNTHESIS_STRATEGY: Final = "lcpp.synthesis.strategy"
SYNTHESIS_INPUTS: Final = "lcpp.synthesis.inputs"
SYNTHESIS_DROPPED: Final = "lcpp.synthesis.dropped"
SYNTHESIS_AGREEMENT: Final = "lcpp.synthesis.agreement"

WORKFLOW_BUCKETS: Final = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
"""Seconds, as for `gen_ai.invoke_workflow.duration`."""
CLIENT_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
"""Seconds, as for the duration of GenAI calls: 0.01 to 81.92."""
