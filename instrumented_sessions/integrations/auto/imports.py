"""Does something to a module when the program imports it, so that nothing is imported for that alone."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from .hooks import guarded

Action = Callable[[ModuleType], object]


class WhenImported(MetaPathFinder):
    """Calls an action for each of some modules, once it is imported; at once if it is imported already."""

    def __init__(self) -> None:
        self._actions: dict[str, Action] = {}
        self._finding = threading.local()

    def call(self, name: str, action: Action) -> None:
        """Call `action(module)` when the module `name` is imported; what it raises is logged."""
        module = sys.modules.get(name)
        if module is not None:
            guarded(f"instrumenting {name}", action, module)
            return
        self._actions[name] = action
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def close(self) -> None:
        """Wait for no module any more."""
        self._actions.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find what the other finders find, with a loader that calls the action."""
        action = self._actions.get(name)
        if action is None or getattr(self._finding, "now", False):
            return None
        self._finding.now = True  # The search below comes here as well.
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None
        finally:
            self._finding.now = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, action)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader, action: Action) -> None:
        self._loader = loader
        self._action = action

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # First of all, so that the module sees the loader that it really has.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        guarded(f"instrumenting {module.__name__}", self._action, module)
