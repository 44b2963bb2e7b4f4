# SPDX-License-Identifier: BSD-3-Clause
"""When and where a task may run: after other tasks (`Dependency`), or where something holds (`depend`, `require`)."""
from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .error import UnmetDependency
from .serialize import Reference, interactive
from .task import parse_msg_id

__all__ = ["Dependency", "depend", "dependent", "require"]


class dependent:  # noqa: N801  (stock's name)
    """A function that asks another one first; made by `depend`."""

    def __init__(self, _wrapped_f: Callable, _wrapped_df: Callable, *dargs: Any, **dkwargs: Any) -> None:
        self.f = _wrapped_f
        self.func_name = getattr(_wrapped_f, "__name__", "f")
        self.__name__ = self.func_name
        self.__doc__ = getattr(_wrapped_f, "__doc__", None)
        self.df = _wrapped_df
        self.dargs = dargs
        self.dkwargs = dkwargs

    def check_dependency(self) -> None:
        """UnmetDependency if it does not hold on this engine."""
        if self.df(*self.dargs, **self.dkwargs) is False:
            raise UnmetDependency(f"{getattr(self.df, '__name__', 'the dependency')} is False here")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.check_dependency()
        return self.f(*args, **kwargs)

    def __reduce__(self) -> tuple:
        return _remake, (self.f, self.df, self.dargs, self.dkwargs)


def _remake(f: Callable, df: Callable, dargs: tuple, dkwargs: dict) -> dependent:
    return dependent(f, df, *dargs, **dkwargs)


class depend:  # noqa: N801
    """Decorator: the task runs only on an engine where ``f(*args, **kwargs)`` is not False.

    Elsewhere it is passed on to the next engine; if none is left it fails with ImpossibleDependency, and in a DirectView,
    whose tasks have one engine, with UnmetDependency.

    >>> @ipp.depend(lambda: sys.platform == "linux")
    ... def work(x): ...
    """

    def __init__(self, _wrapped_f: Callable, *args: Any, **kwargs: Any) -> None:
        self.f = _wrapped_f
        self.args = args
        self.kwargs = kwargs

    def __call__(self, f: Callable) -> dependent:
        return dependent(f, self.f, *self.args, **self.kwargs)


class required(dependent):  # noqa: N801
    """A function that needs modules and objects; made by `require`."""

    def check_dependency(self) -> None:
        """Imports the modules and sets the objects; UnmetDependency if one can't be imported."""
        _provide(_globals_of(self.f), *self.dargs, **self.dkwargs)

    def __reduce__(self) -> tuple:
        return _remake_required, (self.f, self.dargs, self.dkwargs)


def _remake_required(f: Callable, dargs: tuple, dkwargs: dict) -> required:
    return required(f, _provide, *dargs, **dkwargs)


def _globals_of(f: Any) -> dict[str, Any]:
    """Where the function looks for names: on an engine that is the user's namespace for what came by value."""
    while isinstance(f, dependent):
        f = f.f
    found = getattr(getattr(f, "func", f), "__globals__", None)
    if found is None:
        from ._remote import namespace

        return namespace()
    return found


def _provide(ns: dict[str, Any], *modules: str, **mapping: Any) -> bool:
    """Imports modules and puts objects into a namespace; UnmetDependency where that fails."""
    from importlib import import_module

    for name in modules:
        try:
            import_module(name)
        except Exception as e:
            raise UnmetDependency(f"can't import {name}: {type(e).__name__}: {e}") from e
        top = name.partition(".")[0]
        ns[top] = __import__(top)
    ns.update(mapping)
    return True


def require(*objects: Any, **mapping: Any) -> Callable[[Callable], dependent]:
    """Decorator: names that must be there on the engine before the function runs.

    objects : modules (or their names), which the engine imports; functions and classes, which are sent
    mapping : objects to send under these names

    >>> @ipp.require("numpy", helper, limit=10)
    ... def work(x):
    ...     return numpy.minimum(helper(x), limit)
    """
    names = []
    for obj in objects:
        if isinstance(obj, types.ModuleType):
            names.append(obj.__name__)
        elif isinstance(obj, str):
            names.append(obj)
        elif hasattr(obj, "__name__"):
            mapping[obj.__name__] = obj
        else:
            raise TypeError(f"require takes modules, their names, functions and classes, not {type(obj).__name__}; "
                            "other objects by keyword")
    for name, obj in mapping.items():
        if isinstance(obj, types.FunctionType):
            mapping[name] = interactive(obj) if obj.__module__ == "__main__" else obj
    return lambda f: required(f, _provide, *names, **mapping)


class Dependency(set):
    """A set of tasks that another one waits for (``after``) or goes to the engine of (``follow``).

    dependencies : msg_ids, AsyncResults, or a list of these; or what `as_dict` of another one gave
    all : wait for all of them, not just any
    success, failure : which ends count

    >>> view.set_flags(after=ipp.Dependency([ar1, ar2], all=False))
    """

    def __init__(self, dependencies: Any = (), all: bool = True, success: bool = True, failure: bool = False) -> None:
        if isinstance(dependencies, dict):
            d = dependencies
            all, success, failure = d.get("all", True), d.get("success", True), d.get("failure", False)
            dependencies = d.get("dependencies", ())
        if not (success or failure):
            raise ValueError("a Dependency needs success or failure: nothing would ever meet it")
        self.all = all
        self.success = success
        self.failure = failure
        super().__init__(ids_of(dependencies))

    def check(self, completed: Iterable[str], failed: Iterable[str] | None = None) -> bool:
        """It is met, given these sets of msg_ids."""
        if not self:
            return True
        met = self._against(completed if self.success else (), failed or () if self.failure else ())
        return self <= met if self.all else bool(self & met)

    def unreachable(self, completed: Iterable[str], failed: Iterable[str] | None = None) -> bool:
        """It can't be met any more, given these sets of msg_ids."""
        if not self:
            return False
        against = self._against(() if self.success else completed, () if self.failure else failed or ())
        return bool(self & against) if self.all else self <= against

    @staticmethod
    def _against(*sets: Iterable[str]) -> set[str]:
        return set().union(*sets)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"dependencies": list(self), "all": self.all, "success": self.success, "failure": self.failure}

    def __reduce__(self) -> tuple:
        return Dependency, (list(self), self.all, self.success, self.failure)

    def __repr__(self) -> str:
        return f"Dependency({sorted(self)}, all={self.all}, success={self.success}, failure={self.failure})"


def ids_of(dependencies: Any) -> list[str]:
    """msg_ids of what can be depended on; ValueError for anything else."""
    if dependencies is None:
        return []
    if isinstance(dependencies, str):
        return [dependencies]
    if hasattr(dependencies, "msg_ids"):
        return list(dependencies.msg_ids)
    if isinstance(dependencies, Mapping) and "dependencies" in dependencies:
        return list(dependencies["dependencies"])
    if isinstance(dependencies, Iterable) and not isinstance(dependencies, (bytes, Reference)):
        return [i for d in dependencies for i in ids_of(d)]
    raise ValueError(f"a dependency is a msg_id, an AsyncResult, a Dependency or a list of these, "
                     f"not {type(dependencies).__name__}")


def as_dependency(value: Any) -> Dependency | None:
    """What a view's ``after`` and ``follow`` take, as a Dependency."""
    if value is None or isinstance(value, Dependency):
        return value
    return Dependency(value)


def route_of(after: Dependency | None, follow: Dependency | None) -> dict[str, Any]:
    """The keys of a TASK's route that say so (src/wire/route.h)."""
    route: dict[str, Any] = {}
    flags: dict[str, bool] = {}
    for name, dep in (("after", after), ("follow", follow)):
        if not dep:
            continue
        route[name] = list(_ranges(dep))
        flags.update({f"{name}_all": dep.all, f"{name}_success": dep.success, f"{name}_failure": dep.failure})
    if flags:
        route["dep"] = flags
    return route


def _pair(id: str) -> tuple[int, int]:
    try:
        return parse_msg_id(id)
    except ValueError:
        return 0, 1  # nobody's task: the controller answers InvalidDependency


def _ranges(ids: Iterable[str]) -> Iterable[tuple[int, int, int]]:
    pairs = sorted(map(_pair, ids))
    start = 0
    for i in range(1, len(pairs) + 1):
        if i == len(pairs) or pairs[i] != (pairs[i - 1][0], pairs[i - 1][1] + 1):
            yield pairs[start][0], pairs[start][1], pairs[i - 1][1] + 1
            start = i
