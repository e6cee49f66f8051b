from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "upstream: langchain-core's own tests, from the package index, half a minute")
