"""Keywords of public functions: the error for one that a function does not have says which may have been meant."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["known_keywords", "suggesting"]

P = ParamSpec("P")
R = TypeVar("R")

#: What other programs call it, by how the word begins; the first that the function has is suggested.
_OTHER_WORDS: Final = {
    "pixel": ("scale",),
    "spacing": ("scale", "steps"),
    "um_per": ("scale",),
    "z_step": ("steps",),
    "interval": ("steps",),
    "colour": ("colors",),
    "lut": ("colors",),
    "dimension": ("dims", "axes"),
    "order": ("dims",),
    "regex": ("pattern",),
    "coord": ("axes",),
    "index": ("axes",),
    "name": ("title", "name"),
    "label": ("title", "name"),
    "offset": ("translate",),
    "position": ("positions", "translate"),
    "meta": ("metadata",),
    "viewer": ("viewer", "kind"),
}


def _suggestion(name: str, known: Sequence[str]) -> str:
    words = next((words for start, words in _OTHER_WORDS.items() if name.lower().startswith(start)), ())
    from difflib import get_close_matches

    meant = next((word for word in words if word in known), None)
    meant = meant or next(iter(get_close_matches(name.lower(), known, 1)), None)
    return f"did you mean {meant!r}?" if meant else f"it has {', '.join(known)}"


def suggesting(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function say, of a keyword that it does not have, which one may have been meant."""
    parameters = inspect.signature(function).parameters.values()
    named = [each.name for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)]
    known = [name for name in named if name != "self"]
    accepted = frozenset(known)
    owner = function.__qualname__.removesuffix(".__init__")
    called = owner if function.__name__ == "__init__" else function.__name__

    @functools.wraps(function)
    def checked(*arguments: P.args, **keywords: P.kwargs) -> R:
        if not accepted.issuperset(keywords):
            name = next(name for name in keywords if name not in accepted)
            raise TypeError(f"{called}() has no argument {name!r}: {_suggestion(name, known)}")
        return function(*arguments, **keywords)

    return checked


def known_keywords(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some options that a function takes beside what it needs.

    For what hosts hand on, which may be meant for somebody else.

    >>> def save(data, path, axes=(), *, rgb=None): ...
    >>> known_keywords(save, {"axes": {"t": 1}, "path": "/plate", "compression": "lzw"})
    {'axes': {'t': 1}}
    """
    parameters = inspect.signature(function).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return {**options}
    known = {each.name for each in parameters if each.default is not each.empty or each.kind is each.KEYWORD_ONLY}
    return {name: value for name, value in options.items() if name in known}
