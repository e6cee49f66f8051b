"""Plain exceptions with the shape of the real ones, so that every reading is tested without the packages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Refused(Exception):
    """An error with whatever attributes a package gives it."""

    def __init__(self, message: str = "refused", **attributes: Any) -> None:
        super().__init__(message)
        vars(self).update(attributes)


def named(name: str, *bases: type[Exception], **attributes: Any) -> Exception:
    """Return an instance of a new class of that name."""
    return type(name, bases or (Exception,), attributes)("refused")


def openai_like(status: int, error: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Refused:
    response = SimpleNamespace(status_code=status, headers=dict(headers or {}))
    message = f"Error code: {status} - {{'error': {dict(error)!r}}}"
    return Refused(message, status_code=status, body=dict(error), code=error.get("code"), response=response)


def anthropic_like(status: int, error: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Refused:
    response = SimpleNamespace(status_code=status, headers=dict(headers or {}))
    return Refused(status_code=status, body={"type": "error", "error": dict(error)}, response=response)


def genai_like(status: int, error: Mapping[str, Any]) -> Refused:
    return Refused(code=status, status=error.get("status"), details={"error": dict(error)}, response=None)


def boto_like(code: str, message: str, status: int, headers: Mapping[str, str] | None = None) -> Refused:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": dict(headers or {})}
    return Refused(response={"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata})
