# SPDX-License-Identifier: BSD-3-Clause
"""Functions that run on engines when they are called: `remote` and `parallel`."""
from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _remote, serialize
from .asyncresult import AsyncMapResult
from .map import by_name, sliceable

if TYPE_CHECKING:
    from .view import View

__all__ = ["remote", "parallel", "RemoteFunction", "ParallelFunction", "getname"]


def getname(f: Any) -> str:
    """What a call of `f` is shown as: its name, else that of its type."""
    return getattr(f, "__name__", None) or type(f).__name__


def remote(view: View, block: bool | None = None, **flags: Any) -> Callable[[Callable], RemoteFunction]:
    """Decorator: calling the function calls it on the view's engines.

    >>> @ipp.remote(rc[:], block=True)
    ... def getpid():
    ...     import os
    ...     return os.getpid()
    >>> getpid()
    [12, 13]
    """
    return lambda f: RemoteFunction(view, f, block=block, **flags)


def parallel(view: View, dist: str = "b", block: bool | None = None, ordered: bool = True,
             **flags: Any) -> Callable[[Callable], ParallelFunction]:
    """Decorator: calling the function cuts its arguments into parts, one for each engine; with a load-balanced view one for each item.

    dist : 'b' contiguous blocks, 'r' round robin
    The function gets parts; its ``map`` gets items: ``f.map(range(100))``.

    >>> @ipp.parallel(rc[:], block=True)
    ... def double(part):
    ...     return [2 * x for x in part]
    """
    return lambda f: ParallelFunction(view, f, dist=dist, block=block, ordered=ordered, **flags)


class RemoteFunction:
    """A function bound to a view; made by `remote`. ``block=None`` follows the view."""

    def __init__(self, view: View, f: Callable, block: bool | None = None, **flags: Any) -> None:
        self.view = view
        self.func = f
        self.block = block
        self.flags = flags
        self.__name__ = getname(f)
        self.__doc__ = f"{type(self).__name__} wrapping:\n{getattr(f, '__doc__', None) or ''}"
        try:
            self.__signature__ = inspect.signature(f)
        except (TypeError, ValueError):
            pass  # some builtins have none

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.__name__} on {self.view!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        block = self.view.block if self.block is None else self.block
        return self.view._with(block=block, **self.flags).apply(self.func, *args, **kwargs)


class ParallelFunction(RemoteFunction):
    """A function whose arguments are cut into parts; made by `parallel`.

    chunksize : items of a part, with a load-balanced view (default: one). A DirectView cuts into a part an engine.
    """

    def __init__(self, view: View, f: Callable, dist: str = "b", block: bool | None = None, chunksize: int | None = None,
                 ordered: bool = True, return_exceptions: bool = False, **flags: Any) -> None:
        super().__init__(view, f, block=block, **flags)
        if chunksize is not None and not view._balanced:
            warnings.warn("chunksize means something to load-balanced views only", UserWarning, stacklevel=3)
            chunksize = None
        self.chunksize = chunksize
        self.ordered = ordered
        self.return_exceptions = return_exceptions
        self.dist = dist
        self.map_object = self.mapObject = by_name(dist)

    def __call__(self, *sequences: Any, **kwargs: Any) -> Any:
        """Calls the function with the parts of each sequence. ValueError if lengths differ."""
        return self._run(sequences, False, **kwargs)

    def map(self, *sequences: Any, **kwargs: Any) -> Any:
        """Calls the function with the items of the sequences, like `map`."""
        return self._run(sequences, True, **kwargs)

    def _run(self, sequences: tuple, elementwise: bool, **kwargs: Any) -> Any:
        if not sequences:
            raise TypeError("at least one sequence is needed")
        parts = sliceable(sequences, elementwise)
        lengths = {len(p) for p in parts}
        if not elementwise and len(lengths) > 1:
            raise ValueError(f"all sequences must have equal length; these have {sorted(lengths)}")
        n = min(lengths)
        block = kwargs.pop("block", self.block)
        block = self.view.block if block is None else block
        if not n:
            return self.view._nothing_mapped(self.__name__, block)
        tasks, sizes = self._submit(self.view._with(**self.flags), parts, n, elementwise)
        ar = AsyncMapResult(self.view.client, tasks, self.__name__, sizes, self.map_object if sizes else None, self.ordered,
                            self.return_exceptions)
        return ar.get() if block else ar

    def _submit(self, view: Any, sequences: list, n: int, elementwise: bool) -> tuple[list, list[int] | None]:
        """The tasks and how many items each has; None: each is one item and gives a bare value."""
        tasks: list = []
        sizes: list[int] = []
        if view._balanced:
            size = self.chunksize or 1
            if size == 1 and elementwise:
                return view._map_ranges(self.func, sequences), None
            places: list[Any] = [None] * -(-n // size)
            cut = [[s[i:min(n, i + size)] for s in (*sequences, range(n))] for i in range(0, n, size)]
        else:
            places = view._numbers()  # type: ignore[attr-defined]
            cut = [[self.map_object.get_partition(s, p, len(places), n) for s in (*sequences, range(n))] for p in range(len(places))]
        for place, (*parts, numbers) in zip(places, cut):
            if not len(numbers):
                continue
            run = _remote.map_chunk if elementwise else _remote.call_chunk
            try:
                tasks += view._send_call(run, (self.func, parts), {}, place)
            except Exception as e:
                raise serialize.refused_item(e, self.func, numbers, parts)
            sizes.append(len(parts[0]))
        return tasks, sizes

