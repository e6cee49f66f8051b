"""OpenTelemetry: the spans and metrics of fan-outs, branches, attempts and waits.

Nothing has to be called. Once the process has an SDK (`opentelemetry-sdk`, with its providers set, or
`opentelemetry-instrument`), every run writes spans and metrics; without one, none are built. `configure_otel(mode)`
says which: see there.

All spans are of kind INTERNAL and hold no prompts, no outputs and no messages of exceptions.

- `invoke_workflow {name}`: the chain, graph or tool call that runs of ours are steps of, by its name, so that they are
  one trace. `gen_ai.operation.name`, `gen_ai.workflow.name`.
- `invoke_workflow {name}`: a fan-out, by its name or as `FanOut`. `gen_ai.operation.name`, `gen_ai.workflow.name`,
  `lcpp.fan_out.branch_count`, `.failure_policy`, `.succeeded`, `.failed`, `.skipped`, `.speedup`, `.critical_branch`,
  and `.limit_efficiency`, unless it shared its limits with another run: the numbers of `collect_report()`.
- `branch {key}`: a branch, or a `RunnableWithPolicy` elsewhere; `map_item`: one for an item of an input, which has no
  name of its own: `lcpp.item.index`, from 0, in place of the key. `lcpp.branch.key`, `.required`, `.outcome`,
  `.attempts`, `.wait_s`, `.backoff_s`, `.wasted_s`.
- `attempt`: one call of a branch whose policy allows for several. `lcpp.attempt.number`, `.role`, `.target`,
  `.outcome`; `lcpp.error.kind`, `http.response.status_code`, `lcpp.retry.delay_s` (on the retry: the wait before it),
  `lcpp.fallback.from`, `lcpp.hedge.delay_s`, `lcpp.hedge.won`, `lcpp.breaker.state`, `lcpp.breaker.name`.
- `rate_limit.wait`: a wait of 1 ms and more. `lcpp.limiter.name`, `.resource`, `.requested`, `.reason`,
  `.queue_depth`.
- `synthesize {strategy}`: a synthesis. `lcpp.synthesis.strategy`, `.inputs`, `.dropped`, `.agreement`.

What failed has the status ERROR, the kind of the error as its description, and `error.type`. A branch that a retry or
a fallback has saved has none of that: its failed attempts do. A fallback is linked to the attempt that failed, a hedge
to the call beside it (`lcpp.link.type`).

Metrics, with their attributes:

- `lcpp.fan_out.duration` (s): `lcpp.fan_out.name`, `error.type`
- `lcpp.branch.duration` (s): `lcpp.fan_out.name`, `lcpp.branch.key`, `lcpp.branch.outcome`, `error.type`
- `lcpp.attempt.duration` (s): `lcpp.fan_out.name`, `lcpp.branch.key`, `lcpp.attempt.role`, `lcpp.attempt.outcome`,
  `lcpp.error.kind`; its count for the role `retry` is the number of retries
- `lcpp.limiter.wait.duration` (s): `lcpp.limiter.name`, `lcpp.limiter.resource`, `lcpp.limiter.reason`
- `lcpp.limiter.rejections`: `lcpp.limiter.name`, `lcpp.limiter.reason`
- `lcpp.limiter.available`: `lcpp.limiter.name`, `lcpp.limiter.resource`
- `lcpp.branch.active`: `lcpp.fan_out.name`
- `lcpp.breaker.transitions`: `lcpp.breaker.name`, `lcpp.breaker.from`, `lcpp.breaker.to`
- `lcpp.synthesis.duration` (s): `lcpp.synthesis.strategy`, `error.type`

Model calls are written by an instrumentation of LangChain, if there is one: OpenInference's or OpenTelemetry's own. All
spans are then one trace: where theirs is of the same run as ours would be, it gets our attributes and ours is not
opened; what they write inside a branch or an attempt stands inside it. Use one of them, not both: each would open a
trace of its own.
"""

from langchain_parallel_plus.observe.otel.current import amade_inside, inside_synthesis, made_inside
from langchain_parallel_plus.observe.otel.settings import OtelMode, configure_otel
from langchain_parallel_plus.observe.otel.surroundings import Bystander

__all__ = ("Bystander", "OtelMode", "amade_inside", "configure_otel", "inside_synthesis", "made_inside")
