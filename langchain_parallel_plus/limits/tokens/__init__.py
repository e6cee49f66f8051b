"""What a model call takes, in tokens: estimated before it is made, corrected by experience, read from its result.

What belongs here: anything that looks into a prompt or a response to count. Limits and waits do not appear here.
"""
