"""Joining what the branches returned."""

from langchain_parallel_plus.synthesis.ballots import Ballot, VoteResult
from langchain_parallel_plus.synthesis.join_text import JoinText
from langchain_parallel_plus.synthesis.llm import RunnableSynthesis
from langchain_parallel_plus.synthesis.map_reduce import MapReduce
from langchain_parallel_plus.synthesis.merge_dicts import MergeDicts
from langchain_parallel_plus.synthesis.packing import ReductionPlan
from langchain_parallel_plus.synthesis.pick_best import PickBest, PickResult
from langchain_parallel_plus.synthesis.provenance import SynthesisProvenance, SynthesisResult
from langchain_parallel_plus.synthesis.rank_fusion import RankFusion
from langchain_parallel_plus.synthesis.rendering import rendered
from langchain_parallel_plus.synthesis.samples import samples
from langchain_parallel_plus.synthesis.vote import MajorityVote, WeightedVote

__all__ = (
    "Ballot",
    "JoinText",
    "MajorityVote",
    "MapReduce",
    "MergeDicts",
    "PickBest",
    "PickResult",
    "RankFusion",
    "ReductionPlan",
    "RunnableSynthesis",
    "SynthesisProvenance",
    "SynthesisResult",
    "VoteResult",
    "WeightedVote",
    "rendered",
    "samples",
)
