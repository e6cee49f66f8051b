"""`JoinText`: the branches' outputs as one text, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import TYPE_CHECKING, ClassVar

from pydantic import SkipValidation

from langchain_parallel_plus.errors import CoverageError, DeclarationError, UnknownBranchError
from langchain_parallel_plus.synthesis.reducer import Reducer
from langchain_parallel_plus.synthesis.rendering import rendered

if TYPE_CHECKING:
    from langchain_parallel_plus.synthesis.contributions import Contributions

__all__ = ("JoinText",)

_OUTPUT = "{output}"
_VARIABLES = {"output": "{output}", "branch": "{branch}"}
_MISSING = {"branch": "{branch}", "reason": "{reason}"}


class JoinText(Reducer[str]):
    r"""Join the branches' outputs as text, in the order of the fan-out.

    Outputs need not be texts: messages give their text, Documents theirs, lists one line an item, dicts and models
    JSON. What is empty is left out. Braces in an output are text: an output cannot fill variables of the template.

    Args:
        template: How each output is written, with the variables `{output}` and, if you like, `{branch}`, the branch's
            name; or a dict of such texts by branch, of which one left out is just the output. `{{` is a brace.
        separator: What stands between two outputs.
        missing: How a branch that did not come back is written, at the end, with the variables `{branch}` and
            `{reason}`. By default it is left out.
        name: Name of the run in traces.

    Raises:
        CoverageError: No branch came back with any text.
        UnknownBranchError: A template is for no branch of the fan-out.

    Example:
        ```python
        join = JoinText("## {branch}\n{output}", missing="({branch} is missing: {reason})")
        assert join.invoke({"summary": "It rains.", "terms": None}) == (
            "## summary\nIt rains.\n\n(terms is missing: empty)"
        )
        ```
    """

    _strategy: ClassVar[str] = "join_text"

    template: SkipValidation[str | Mapping[str, str]] = _OUTPUT
    """How each output is written."""
    separator: str = "\n\n"
    """What stands between two outputs."""
    missing: str | None = None
    """How a branch that did not come back is written."""

    def __init__(
        self,
        template: str | Mapping[str, str] = _OUTPUT,
        *,
        separator: str = "\n\n",
        missing: str | None = None,
        name: str | None = None,
    ) -> None:
        if isinstance(template, Mapping):
            for branch, text in template.items():
                _parts(text, f"JoinText.template[{branch!r}]", _VARIABLES)
            template = dict(template)
        else:
            _parts(template, "JoinText.template", _VARIABLES)
        if missing is not None:
            _parts(missing, "JoinText.missing", _MISSING)
        super().__init__(template=template, separator=separator, missing=missing, name=name)

    @property
    def OutputType(self) -> type[str]:
        """One text."""
        return str

    def _joined(self, given: Contributions) -> str:
        templates = self.template if isinstance(self.template, Mapping) else {}
        for branch in templates:
            if branch not in given.branches:
                raise UnknownBranchError(branch, given.branches, where="JoinText.template")
        texts = {branch: rendered(output) for branch, output in given.outputs.items()}
        if not any(text.strip() for text in texts.values()):
            branches = ", ".join(map(repr, texts))
            msg = f"JoinText has nothing to join: the outputs of all branches that came back are empty: {branches}"
            raise CoverageError(msg, help="JoinPolicy(accept=bool) counts an empty output as a failure")
        default = self.template if isinstance(self.template, str) else _OUTPUT
        written = [
            _filled(templates.get(branch, default), {"branch": branch, "output": text})
            for branch, text in texts.items()
            if text.strip()
        ]
        if self.missing is not None:
            gone = {**given.missing, **{branch: "empty" for branch, text in texts.items() if not text.strip()}}
            written += [_filled(self.missing, {"branch": branch, "reason": reason}) for branch, reason in gone.items()]
        return self.separator.join(written)


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Return `template` with the values in it; what stands in a value is not looked at."""
    return "".join(
        text + (values[name] if name is not None else "") for text, name, _, _ in Formatter().parse(template)
    )


def _parts(template: object, what: str, variables: Mapping[str, str]) -> None:
    """Refuse a template that is none, or that asks for other variables or for parts of them.

    Raises:
        DeclarationError: With the variables that there are.
    """
    words = f"it takes {' and '.join(variables.values())}; write {{{{ and }}}} for braces"
    if not isinstance(template, str):
        raise DeclarationError(f"{what} must be a text, got {template!r}", help=words)
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise DeclarationError(f"{what} is no template ({error}): {template!r}", help=words) from None
    names = [name for _, name, _, _ in parts if name is not None]
    if any(spec or conversion for _, _, spec, conversion in parts) or not set(names) <= set(variables):
        raise DeclarationError(f"{what} has variables that it cannot have: {template!r}", help=words)
    if variables is _VARIABLES and "output" not in names:
        raise DeclarationError(f"{what} has no {{output}}: {template!r}", help=words)
