"""The demo as its users run it: a process, its two streams and its exit code."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from openai import DefaultHttpxClient

from langchain_parallel_plus.demo.__main__ import main
from langchain_parallel_plus.demo.brief import INSTRUCTIONS, PARTS
from langchain_parallel_plus.demo.embedded import embedded_server, what_is_missing
from langchain_parallel_plus.demo.model import chosen_model
from langchain_parallel_plus.demo.scenarios import SCENARIOS
from langchain_parallel_plus.testing import Fault, ProviderSimulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_parallel_plus.testing import ChatRequest

ROOT = Path(__file__).parents[2]
KEY = "sk-test-0123456789abcdef"
TEXT = "A rate limiter lets a fan-out wait. Branches share one limiter. The limiter is fair to each branch.\n"

needs_embedded = pytest.mark.skipif(what_is_missing() is not None, reason=f"{what_is_missing()}")


def demo(*arguments: str, env: dict[str, str] | None = None, input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "langchain_parallel_plus.demo", *arguments],
        env=environment(env or {}),
        input=input,
        capture_output=True,
        encoding="utf-8",
        timeout=100,
    )


def environment(more: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return inherited | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"} | more


def provider(simulator: ProviderSimulator) -> dict[str, str]:
    return {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": simulator.base_url, "NO_PROXY": "127.0.0.1"}


def part_asked(request: ChatRequest) -> str:
    return next((part for part, asked in PARTS.items() if request.prompt.endswith(asked)), "brief")


def answer(request: ChatRequest) -> str:
    return f"Written text of the {part_asked(request)}."


def test_a_document_becomes_a_brief_a_report_and_a_table() -> None:
    with ProviderSimulator(answer=answer, latency=0.05) as simulator:
        done = demo("-", env={**provider(simulator), "OPENAI_MODEL": "gpt-test"}, input=TEXT)
        tally = simulator.tally
    assert done.returncode == 0, done.stderr
    assert tally.ok == tally.requests == 4
    assert "gpt-test" in done.stderr
    assert done.stdout.startswith("Written text of the brief.\n")
    for part in PARTS:
        assert f"{part} is in after" in done.stderr
        assert re.search(rf"^\s*{part} +ok +1 ", done.stdout, re.MULTILINE)
    rows = re.findall(r"^(\w[\w ]+?) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == [scenario.name for scenario in SCENARIOS]
    for _, *cells in rows:
        one_by_one, parallel, ours, floor = map(float, cells)
        assert floor <= parallel < one_by_one
        assert floor <= ours < one_by_one
    assert KEY not in done.stdout + done.stderr


def test_the_branches_are_asked_about_the_document_and_the_synthesis_about_the_branches(tmp_path: Path) -> None:
    prompts: dict[str, str] = {}

    def kept(request: ChatRequest) -> str:
        prompts[part_asked(request)] = str(request.messages)
        return answer(request)

    file = tmp_path / "text.md"
    file.write_text(TEXT, encoding="utf-8")
    with ProviderSimulator(answer=kept) as simulator:
        done = demo(str(file), "--brief-only", env=provider(simulator))
    assert done.returncode == 0, done.stderr
    assert set(prompts) == {*PARTS, "brief"}
    assert all(TEXT.strip() in prompts[part] for part in PARTS)
    assert INSTRUCTIONS in prompts["brief"]
    assert all(f"Written text of the {part}." in prompts["brief"] for part in PARTS)
    assert TEXT.strip() not in prompts["brief"]


def test_a_failing_branch_falls_back_and_the_brief_is_still_written() -> None:
    def fail(request: ChatRequest) -> Fault | None:
        return Fault(status=400) if part_asked(request) == "key_terms" else None

    prompts: list[str] = []

    def kept(request: ChatRequest) -> str:
        prompts.append(request.prompt)
        return answer(request)

    with ProviderSimulator(answer=kept, fail=fail) as simulator:
        done = demo("-", "--brief-only", env=provider(simulator), input=TEXT)
    assert done.returncode == 0, done.stderr
    assert "1. Limiter" in prompts[-1]
    assert re.search(r"^\s*key_terms +recovered +2 ", done.stdout, re.MULTILINE)


def test_the_brief_is_shown_while_it_is_written() -> None:
    def words(request: ChatRequest) -> str:
        return "word " * (200 if part_asked(request) == "brief" else 1)

    with ProviderSimulator(answer=words, chunk_delay=0.05) as simulator:
        process = start_demo(provider(simulator))
        assert process.stdout is not None
        first = process.stdout.read(9)
        answered = simulator.tally.ok
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert first == "word word"
    assert answered == 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_it_with_one_line_that_says_what_to_do(status: int) -> None:
    def fail(request: ChatRequest) -> Fault:
        return Fault(status=status, code="invalid_api_key", message=f"Incorrect API key provided: {KEY}.")

    with ProviderSimulator(fail=fail) as simulator:
        done = demo("-", env=provider(simulator), input=TEXT)
    assert done.returncode == 2
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert "check OPENAI_API_KEY" in last
    assert sum("demo:" in line for line in done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert KEY not in done.stderr


def test_an_unreachable_provider_ends_it_with_one_line() -> None:
    with ProviderSimulator() as simulator:
        env = provider(simulator)
    done = demo("-", env=env, input=TEXT)
    assert done.returncode == 2
    assert "check the network and OPENAI_BASE_URL" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"\x89PNG\r\n\x1a\n\x00\x00", "is not UTF-8 text", id="binary"),
        pytest.param(b"a " * 1_000_001, "longer than 2 MB", id="too long"),
    ],
)
def test_bad_input_ends_it_with_one_line_and_code_2(
    content: bytes, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "input"
    file.write_bytes(content)
    assert main([str(file)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(rf"demo: .*{reason}.*; .*\n", shown.err)


def test_a_missing_file_ends_the_process_with_one_line_and_code_2() -> None:
    done = demo("missing.txt")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"demo: there is no file 'missing.txt'; .*\n", done.stderr)


@pytest.mark.parametrize("arguments", [["--fast"], ["one.txt", "two.txt"]])
def test_bad_arguments_end_it_with_one_line_and_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert re.fullmatch(r"demo: unrecognized arguments: .*; see --help\n", capsys.readouterr().err)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
def test_ctrl_c_while_branches_run_shows_what_is_finished() -> None:
    def latency(request: ChatRequest) -> float:
        return 30.0 if part_asked(request) == "questions" else 0.0

    with ProviderSimulator(answer=answer, latency=latency) as simulator:
        process = start_demo(provider(simulator))
        wait_for(process, "summary is in", "key_terms is in")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Written text of the summary." in out
    assert "Written text of the key_terms." in out
    assert "questions:" not in out
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
def test_ctrl_c_while_the_brief_is_written_shows_the_parts() -> None:
    def latency(request: ChatRequest) -> float:
        return 30.0 if part_asked(request) == "brief" else 0.0

    with ProviderSimulator(answer=answer, latency=latency) as simulator:
        process = start_demo(provider(simulator))
        wait_for(process, *(f"{part} is in" for part in PARTS))
        until(lambda: simulator.tally.requests == 4)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert all(f"Written text of the {part}." in out for part in PARTS)
    assert "Traceback" not in err


def test_when_only_the_synthesis_fails_the_parts_are_shown() -> None:
    def fail(request: ChatRequest) -> Fault | None:
        return Fault(status=429, code="insufficient_quota") if part_asked(request) == "brief" else None

    with ProviderSimulator(answer=answer, fail=fail) as simulator:
        done = demo("-", env=provider(simulator), input=TEXT)
    assert done.returncode == 2
    assert all(f"Written text of the {part}." in done.stdout for part in PARTS)
    assert "add credit" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    with ProviderSimulator(answer=answer) as simulator:
        process = start_demo(provider(simulator))
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(20)
        process.stderr.close()
    assert process.returncode == 0
    assert "Traceback" not in err
    assert "demo:" not in err
    assert "stopped" not in err


@pytest.mark.embedded
@pytest.mark.timeout(150)
@needs_embedded
def test_the_embedded_model_writes_parts_of_the_asked_shape() -> None:
    with chosen_model({}) as model:
        assert "very small" in model.label
        question = {part: f"{TEXT}\n\n{asked}" for part, asked in PARTS.items()}
        parts = {part: str(model.chat(part).invoke(question[part]).content) for part in PARTS}
    assert re.fullmatch(r"(\d\. (What|Why|How|When|Which) [^\n]+\?\n?){5}", parts["questions"])
    assert re.fullmatch(r"(\d\. \*\*[^\n]+\*\*\n?){5}", parts["key_terms"])
    assert re.fullmatch(r"[A-Z][^\n]+\.", parts["summary"])


@pytest.mark.embedded
@pytest.mark.timeout(30)
@needs_embedded
def test_the_embedded_server_answers_nobody_else_and_is_gone_afterwards() -> None:
    with embedded_server(slots=1, context=256) as server, DefaultHttpxClient(trust_env=False) as client:
        assert server.base_url.startswith("http://127.0.0.1:")
        assert server.api_key not in repr(server)
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        assert client.post(f"{server.base_url}/chat/completions", json=body).status_code == 401
        headers = {"Authorization": f"Bearer {server.api_key}"}
        assert client.post(f"{server.base_url}/chat/completions", json=body, headers=headers).status_code == 200
    port = int(server.base_url.rpartition(":")[2].removesuffix("/v1"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.embedded
@pytest.mark.timeout(150)
@needs_embedded
def test_without_a_key_the_embedded_model_writes_the_brief() -> None:
    done = demo("--brief-only")
    assert done.returncode == 0, done.stderr
    assert "SmolLM2-135M-Instruct, embedded" in done.stderr
    assert re.match(
        r"## In short\n[^\n]+\n\n## Key terms\n(- [^\n]+\n){4}\n## Questions to ask\n(- [^\n]+\?\n){3}", done.stdout
    )
    assert re.search(r"^summary +ok", done.stdout, re.MULTILINE)


def start_demo(env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "langchain_parallel_plus.demo"],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        threading.Event().wait(0.01)


def wait_for(process: subprocess.Popen[str], *texts: str) -> None:
    missing = set(texts)
    assert process.stderr is not None
    seen: list[str] = []
    while missing:
        line = process.stderr.readline()
        assert line, f"the demo ended after: {''.join(seen)}"
        seen.append(line)
        missing = {text for text in missing if text not in line}


@pytest.mark.parametrize(("part", "reason"), [("summary", "connection"), ("key_terms", "connection")])
def test_a_brief_without_one_of_its_parts_says_so(part: str, reason: str) -> None:
    with ProviderSimulator() as simulator:
        done = demo("--brief-only", "--fail", part, "-", env=provider(simulator), input=TEXT)
    assert done.returncode == 0, done.stderr
    there = ", ".join(one for one in PARTS if one != part)
    assert f"This brief: from 2 of 3 branches: {there}; missing: {part} ({reason}); 1 model call" in done.stdout
