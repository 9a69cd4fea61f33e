"""Tab on a magic's line: what may come next there, and nothing else.

IPython's own hook for commands (`complete_command`) mixes Python's names and keywords in and cannot complete what
begins with dashes. A matcher says where the word begins and keeps the others out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

__all__ = ["add"]

Complete = Callable[[Sequence[str]], Iterable[str]]
"""The words after the magic's name, the last of which is still being typed, possibly empty -> what it may be."""

_LINE = re.compile(r"\s*%%?(\w+)\s+(.*)")


def add(shell: Any, name: str, complete: Complete) -> None:
    """`complete` is asked about lines of `%name` and `%%name`, and must be quick."""
    completer = shell.Completer
    if completer is None:
        return
    asked: dict[str, Complete] = shell.__dict__.setdefault("_themisto_completing", {})
    if not asked:
        completer.custom_matchers.append(_matcher(asked))
    asked[name] = complete


def _matcher(asked: dict[str, Complete]) -> Any:
    def match(context: CompletionContext) -> SimpleMatcherResult:
        line = _LINE.fullmatch(context.line_with_cursor[: context.cursor_position])
        if line is None or line[1] not in asked:
            return SimpleMatcherResult(completions=[])
        words = line[2].split(" ")
        try:
            found = [word for word in asked[line[1]](words) if word.startswith(words[-1])]
        except Exception:  # noqa: BLE001 - a failing completer must never disturb typing
            found = []
        if not found and "--help".startswith(words[-1]):
            found = ["--help"]  # with nothing to offer, IPython would go on to what Python knows
        chosen = [SimpleCompletion(word, type="magic") for word in dict.fromkeys(found)]
        return SimpleMatcherResult(completions=chosen, suppress=True, matched_fragment=words[-1], ordered=True)

    return context_matcher(identifier="themisto")(match)
