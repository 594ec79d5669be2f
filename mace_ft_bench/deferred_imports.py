"""Modules that an import asks for and does not use, run when they are.

The standard library's ``LazyLoader`` cannot serve: the import statement asks a module for its specification, and in
Python 3.11 that alone makes it run.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.machinery import ModuleSpec

_ELSEWHERE, _RUNNING = "_deferred_submodule_of", "_deferred_running"
_lock = threading.RLock()


class _Deferred(ModuleType):
    """A module whose code runs when it is asked for what it does not have yet."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - an attribute of any module
        submodule = self.__dict__.get(_ELSEWHERE, {}).get(name)
        if submodule is not None:
            return getattr(importlib.import_module(submodule), name)
        with _lock:  # of two threads the second waits for the first
            if type(self) is _Deferred and name not in self.__dict__:
                if _RUNNING in self.__dict__:  # its own code asks for what is not there yet
                    raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)
                _run(self)
        return getattr(self, name)


def _run(module: _Deferred) -> None:
    own = module.__dict__
    spec: ModuleSpec = own["__spec__"]
    own[_RUNNING] = True
    if spec.submodule_search_locations is not None:
        own["__path__"] = spec.submodule_search_locations
    try:
        spec.loader.exec_module(module)  # type: ignore[union-attr]  # there, or the module was not deferred
        module.__class__ = ModuleType  # type: ignore[assignment]  # from now on it is as any other
        own.pop(_ELSEWHERE)
    finally:
        del own[_RUNNING]


def defer(name: str, submodule_of: Mapping[str, str] | None = None) -> None:
    """Let a module that is not imported yet wait until somebody takes something out of it.

    Parameters
    ----------
    name
        Full name of the module; nothing happens if it is imported already, or not installed.
    submodule_of
        For a package: names that are had from one of its submodules, by the submodule's full name, without running the
        package itself. Then submodules are imported without running it, too; without this argument they are not.
    """
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    module.__dict__[_ELSEWHERE] = submodule_of or {}
    if not submodule_of:
        module.__dict__.pop("__path__", None)  # asked for before a submodule is imported: then the package runs
    module.__class__ = _Deferred
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)  # as an import does
