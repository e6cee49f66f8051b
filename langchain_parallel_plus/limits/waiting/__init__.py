"""Threads and tasks that wait for the planner: its lock, the one exact timer, and how each of them is woken.

What belongs here: everything that blocks, awaits, or calls from one thread or event loop into another. Nothing here
decides who is next; `planning` does.
"""
