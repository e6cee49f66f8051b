"""Joining what the branches returned."""

from langchain_parallel_plus.synthesis.llm import RunnableSynthesis

__all__ = ("RunnableSynthesis",)
