"""Functions compiled for one owner, of which nothing is shared with another, or with arguments of another make-up."""

from __future__ import annotations

import types
from collections.abc import Callable, Hashable
from typing import Any

import torch


class Compiled:
    """Compiles a method at its first call with arguments of each make-up (which keys, which are tensors, which not).

    Of what it traced PyTorch looks again at the shapes of tensors only; to re-check the modules and settings behind
    them would take a third of a small step. It keeps compiled code by code object, so that a second learner would run
    what was traced for the first, with that one's settings. So each compiled function here has a code object of its
    own, and each make-up of the arguments a function of its own. PyTorch before 2.8 cannot be told to look at tensors
    only, and checks all.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self._compiled: dict[Hashable, Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        key = _make_up(arguments)
        if key not in self._compiled:
            guards = getattr(torch.compiler, "keep_tensor_guards_unsafe", None)
            options = None if guards is None else {"guard_filter_fn": guards}
            self._compiled[key] = torch.compile(_copy(self._method), dynamic=False, options=options)
        return self._compiled[key](*arguments)


def _make_up(value: Any) -> Hashable:
    """All that a trace of code depends on but for the shapes of tensors."""
    if isinstance(value, torch.Tensor):
        return torch.Tensor
    if isinstance(value, dict):
        return tuple((name, _make_up(item)) for name, item in value.items())
    if isinstance(value, tuple | list):
        return tuple(map(_make_up, value))
    return (type(value), value)


def _copy(method: Callable[..., Any]) -> Callable[..., Any]:
    """The same method with a code object of its own."""
    assert isinstance(method, types.MethodType)
    of = method.__func__
    copied = types.FunctionType(of.__code__.replace(), of.__globals__, of.__name__, of.__defaults__, of.__closure__)
    return types.MethodType(copied, method.__self__)
