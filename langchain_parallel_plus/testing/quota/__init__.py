"""How providers count: five models of a limit, three rules for tokens, as pure functions for any clock.

Nothing here waits, reads a clock, or opens a socket: `now` is an argument, states are frozen values. An hour of traffic
takes a moment:

```python
from langchain_parallel_plus.testing.quota import Cost, Quota

quota = Quota.of("sliding_window", requests=500)
state, admitted = quota.fresh(now=0.0), 0
for call in range(36_000):  # ten calls a second, for an hour
    decision = quota.admit(state, Cost(), now=call / 10)
    state, admitted = decision.state, admitted + decision.admitted
assert admitted == 60 * 500
```
"""

from __future__ import annotations

from langchain_parallel_plus.testing.quota.bucket import Bucket
from langchain_parallel_plus.testing.quota.cost import (
    OUTPUT_ALLOWANCE,
    Cost,
    Dimension,
    TokenRule,
    admission_cost,
    final_cost,
)
from langchain_parallel_plus.testing.quota.fixed_window import FixedWindow
from langchain_parallel_plus.testing.quota.limit import LimitModel
from langchain_parallel_plus.testing.quota.quota import (
    QUOTA_MODELS,
    Charge,
    Decision,
    Quota,
    QuotaModel,
    QuotaState,
    Reading,
    Refusal,
)
from langchain_parallel_plus.testing.quota.sliding_window import SlidingWindow
from langchain_parallel_plus.testing.quota.sub_windows import SubWindows

__all__ = (
    "OUTPUT_ALLOWANCE",
    "QUOTA_MODELS",
    "Bucket",
    "Charge",
    "Cost",
    "Decision",
    "Dimension",
    "FixedWindow",
    "LimitModel",
    "Quota",
    "QuotaModel",
    "QuotaState",
    "Reading",
    "Refusal",
    "SlidingWindow",
    "SubWindows",
    "TokenRule",
    "admission_cost",
    "final_cost",
)
