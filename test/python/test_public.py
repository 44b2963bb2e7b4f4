"""Every public name of covey and of compat/ has a docstring, and every function's parameters and result have types."""
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import covey

COMPAT = Path(__file__).parents[2] / "compat"
INHERITED = {"__init__", "__repr__", "__str__"}     # said by the class's own docstring


def modules(package):
    """The public modules of a package, by name."""
    found = [package.__name__]
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            found.append(info.name)
    return found


def public_members(module):
    """(name, value) of what a module defines itself."""
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    for name in names:
        value = getattr(module, name)
        if getattr(value, "__module__", None) == module.__name__ and (inspect.isclass(value) or inspect.isroutine(value)):
            yield name, value


def functions_of(cls):
    """(name, function) of a class's public methods and properties, as it defines them."""
    for name, value in vars(cls).items():
        if name.startswith("_") and name != "__init__":
            continue
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if inspect.isfunction(function):
            yield name, function


def untyped(function):
    """Names of parameters without a type, 'return' too."""
    function = inspect.unwrap(function, stop=lambda f: not inspect.isfunction(f.__wrapped__))
    parameters = list(inspect.signature(function, follow_wrapped=False).parameters.values())
    if parameters and parameters[0].name in ("self", "cls", "mcs"):
        parameters = parameters[1:]
    missing = [p.name for p in parameters if p.annotation is p.empty]
    if "return" not in getattr(function, "__annotations__", {}) and function.__name__ != "__init__":
        missing.append("return")
    return missing


def inherits_text(cls, name):
    return any(getattr(vars(base).get(name), "__doc__", None) for base in cls.__mro__[1:])


def faults_of(module):
    faults = [] if module.__doc__ else [f"{module.__name__}: no docstring"]
    for name, value in public_members(module):
        where = f"{module.__name__}.{name}"
        if not (value.__dict__ if inspect.isclass(value) else {}).get("__doc__") and not value.__doc__:
            faults.append(f"{where}: no docstring")
        if inspect.isfunction(value):
            faults += [f"{where}: no type of {p}" for p in untyped(value)]
        elif inspect.isclass(value):
            for method, function in functions_of(value):
                if not function.__doc__ and method not in INHERITED and not inherits_text(value, method):
                    faults.append(f"{where}.{method}: no docstring")
                faults += [f"{where}.{method}: no type of {p}" for p in untyped(function)]
    return faults


@pytest.mark.parametrize("name", modules(covey))
def test_covey(name):
    assert faults_of(importlib.import_module(name)) == []


def test_compat():
    """In a process of its own: importing compat renames types."""
    code = ("import importlib, sys; sys.path[:0] = sys.argv[1:]; import test_public as t, ipyparallel\n"
            "for n in t.modules(ipyparallel): print(*t.faults_of(importlib.import_module(n)), sep='\\n', end='')")
    p = subprocess.run([sys.executable, "-c", code, str(COMPAT), str(Path(__file__).parent)], capture_output=True, text=True, timeout=60)
    assert p.returncode == 0 and p.stdout.strip() == "", p.stdout + p.stderr
