"""The gate of a branch: LangChain's callbacks on one side, the limiters on the other.

What belongs here: how a model call is noticed, described, admitted by every limiter that governs it, and closed with
what came back; and what the gate needs to know of a branch. Nothing else in `limits` imports LangChain's callbacks.
"""
