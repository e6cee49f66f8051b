"""Who is admitted, and when: schedules and queues as pure state, without clock, lock or I/O.

What belongs here: a rate's schedule, the order of a queue, what a provider is known to have left, and the planner that
decides over all of them. Callers pass the time. What changes a rate is in `learning`, whoever waits in `waiting`.
"""
