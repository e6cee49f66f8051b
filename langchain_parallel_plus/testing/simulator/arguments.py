"""The command line of the simulator: its options, and what they mean for a `ProviderSimulator`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing.dialects import DIALECTS
from langchain_parallel_plus.testing.quota import QUOTA_MODELS, TokenRule
from langchain_parallel_plus.testing.simulator.fault import (
    ConnectionReset,
    CutStream,
    Fault,
    Hang,
    MalformedBody,
    SlowStart,
    SlowTokens,
)
from langchain_parallel_plus.testing.simulator.fault_plan import FaultPlan, FaultRule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_parallel_plus.testing.simulator.fault import AnyFault

__all__ = ("Parser", "settings")

_FAULTS: Mapping[str, AnyFault] = {
    "insufficient_quota": Fault(status=429, code="insufficient_quota", message="You exceeded your current quota."),
    "hang": Hang(),
    "slow-start": SlowStart(10.0),
    "slow-tokens": SlowTokens(1.0),
    "cut": CutStream(),
    "truncated": MalformedBody("truncated"),
    "html": MalformedBody("html"),
    "reset": ConnectionReset(),
}


class Parser(argparse.ArgumentParser):
    """Reads the options; bad ones end the process with one line and code 2."""

    def __init__(self) -> None:
        super().__init__(
            prog="python -m langchain_parallel_plus.testing.simulator",
            description="Serve an OpenAI-compatible chat API with a quota on 127.0.0.1, until Ctrl-C.",
            allow_abbrev=False,
        )
        self._limits()
        self._manners()
        self._troubles()

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave."""
        self.exit(2, f"simulator: {message.replace(chr(10), '; ')}\n")

    def _limits(self) -> None:
        for option, what in (
            ("--rpm", "requests per minute"),
            ("--tpm", "tokens per minute"),
            ("--itpm", "input tokens per minute"),
            ("--otpm", "output tokens per minute"),
            ("--rpd", "requests per day"),
            ("--tpd", "tokens per day"),
        ):
            self.add_argument(option, type=int, metavar="N", help=f"{what} (default: no limit)")
        self.add_argument(
            "--quota-model", choices=tuple(QUOTA_MODELS), default="bucket_minute", help="how limits count over time"
        )
        self.add_argument("--token-rule", choices=get_args(TokenRule), default="reserve", help="how tokens are counted")

    def _manners(self) -> None:
        self.add_argument("--dialect", choices=tuple(DIALECTS), default="openai", help="whose headers and errors")
        self.add_argument("--port", type=int, default=0, metavar="N", help="port to listen on (default: a free one)")
        self.add_argument(
            "--latency", type=float, default=0.0, metavar="S", help="seconds before each answer (default: 0)"
        )
        self.add_argument(
            "--chunk-delay", type=float, default=0.0, metavar="S", help="seconds between streamed tokens (default: 0)"
        )

    def _troubles(self) -> None:
        self.add_argument(
            "--fault",
            action="append",
            default=[],
            metavar="KIND:SHARE",
            help=f"let a share of the requests fail: a status such as 529:0.05, or {', '.join(_FAULTS)}; repeatable",
        )
        self.add_argument("--seed", type=int, default=0, metavar="N", help="which requests the faults strike")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments for `ProviderSimulator`.

    Raises:
        DeclarationError: If a fault is not written as `KIND:SHARE`, or is unknown.
    """
    rules = [_rule(text) for text in options.fault]
    return {
        "requests_per_minute": options.rpm,
        "tokens_per_minute": options.tpm,
        "input_tokens_per_minute": options.itpm,
        "output_tokens_per_minute": options.otpm,
        "requests_per_day": options.rpd,
        "tokens_per_day": options.tpd,
        "quota_model": options.quota_model,
        "token_rule": options.token_rule,
        "dialect": options.dialect,
        "latency": options.latency,
        "chunk_delay": options.chunk_delay,
        "fail": FaultPlan(*rules, seed=options.seed) if rules else None,
        "port": options.port,
    }


def _rule(text: str) -> FaultRule:
    kind, _, share = text.partition(":")
    try:
        fault = Fault(status=int(kind)) if kind.isdecimal() else _FAULTS[kind]
        return FaultRule(fault, share=float(share))
    except (KeyError, ValueError) as error:
        if isinstance(error, DeclarationError):
            raise
        raise DeclarationError(
            f"--fault must be KIND:SHARE, got {text!r}",
            help=f"KIND is a status from 400 to 599 or one of {', '.join(_FAULTS)}; SHARE is between 0 and 1",
        ) from error
