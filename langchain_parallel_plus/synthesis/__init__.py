"""Joining what the branches returned."""

from langchain_parallel_plus.synthesis.llm import RunnableSynthesis
from langchain_parallel_plus.synthesis.packing import ReductionPlan
from langchain_parallel_plus.synthesis.provenance import SynthesisProvenance, SynthesisResult
from langchain_parallel_plus.synthesis.rendering import rendered

__all__ = ("ReductionPlan", "RunnableSynthesis", "SynthesisProvenance", "SynthesisResult", "rendered")
