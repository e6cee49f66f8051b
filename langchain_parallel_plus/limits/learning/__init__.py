"""What the rates of a key should be: from a provider's profile, from its headers, and from its refusals.

What belongs here: knowledge of how providers count, and frozen values that answers and refusals change. `Steering` puts
them together and hands the planner new rates.
"""
