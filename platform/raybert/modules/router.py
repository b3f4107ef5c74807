"""Other modules for queries than for documents (old name: Asym)."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import nn

from raybert.errors import InputError, ModelError
from raybert.modules.checkpoint import ModuleEntry, module_entry, read_config, write_config
from raybert.modules.module import Features, Module, ModuleSequence, Opening
from raybert.modules.tokenization import Tokenization

CONFIGS = ("router_config.json", "config.json")
"""Names of the configuration, new and old."""

Mappings = Mapping[tuple[str | None, str | None], str]
"""(task, kind of input) to route; None stands for any."""


class Router(Module):
    """Send a batch through the modules of its route.

    A route is found by the mappings for (task, "text"), (task, None), (None, "text") and
    (None, None), then by the task's name, then by the default.

    Args:
        sub_modules: the modules of each route, in order.
        default_route: the route where nothing else tells.
        allow_empty_key: take the first route as the default where none is named.
        route_mappings: routes by task and kind of input.
    """

    in_root: ClassVar[bool] = True

    def __init__(
        self,
        sub_modules: Mapping[str, Sequence[Module]],
        default_route: str | None = None,
        allow_empty_key: bool = True,
        route_mappings: Mappings | None = None,
    ) -> None:
        super().__init__()
        self.sub_modules = nn.ModuleDict(
            {name: ModuleSequence(*modules) for name, modules in sub_modules.items()}
        )
        if allow_empty_key and default_route is None:
            default_route = next(iter(sub_modules), None)
        self.routes = Routes(list(sub_modules), default_route, route_mappings or {})
        self.allow_empty_key = allow_empty_key
        self.tokenization = RoutedTokenization(
            {name: route[0].tokenization for name, route in self._sequences()}, self.routes
        )

    @classmethod
    def for_query_document(
        cls,
        query_modules: Sequence[Module],
        document_modules: Sequence[Module],
        default_route: str | None = "document",
        allow_empty_key: bool = True,
    ) -> Self:
        """Build a router with a route for queries and one for documents."""
        routes = {"query": query_modules, "document": document_modules}
        return cls(routes, default_route, allow_empty_key)

    @classmethod
    def open_tokenization(cls, folder: Path, opening: Opening) -> Any:
        """Read only the tokenizers of the routes."""
        from raybert.modules.registry import class_of

        config = _read(folder)
        parts = {}
        for name, ids in config["structure"].items():
            entry = _entry(config, ids[0], folder)
            parts[name] = class_of(entry, folder).open_tokenization(entry.folder, opening)
        return RoutedTokenization(parts, _routes(config, folder))

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read the routes; a module that two routes share is read once."""
        from raybert.modules.registry import open_module

        config = _read(folder)
        modules: dict[str, Any] = {
            name: open_module(_entry(config, name, folder), folder, opening)
            for name in config["types"]
        }
        routes = _routes(config, folder)
        router = cls(
            {name: [modules[key] for key in ids] for name, ids in config["structure"].items()},
            routes.default,
            route_mappings=routes.mappings,
        )
        router.allow_empty_key = config["parameters"].get("allow_empty_key", True)
        return router

    def save(self, folder: Path) -> None:
        """Write each module once, and `router_config.json` last."""
        names: dict[int, str] = {}
        types: dict[str, str] = {}
        structure: dict[str, list[str]] = {}
        for route, modules in self._sequences():
            structure[route] = []
            for place, module in enumerate(modules):
                name = names.setdefault(id(module), f"{route}_{place}_{type(module).__name__}")
                structure[route].append(name)
                if name not in types:
                    types[name] = module.type_name
                    (folder / name).mkdir()
                    module.save(folder / name)
        parameters: dict[str, Any] = {
            "default_route": self.routes.default,
            "allow_empty_key": self.allow_empty_key,
        }
        if self.routes.mappings:
            mappings = {str(key): route for key, route in self.routes.mappings.items()}
            parameters["route_mappings"] = mappings
        config = {"types": types, "structure": structure, "parameters": parameters}
        write_config(folder / CONFIGS[0], config)

    def width(self, width: int = 0) -> int:
        """Return the width of the first route's embedding."""
        _, route = next(self._sequences())
        return int(route.width())

    def forward(self, features: Features) -> Features:
        """Run the route of the features' task."""
        route = self.routes.of(features.get("task"))
        found: Features = self.sub_modules[route](features)
        return found

    def _sequences(self) -> Iterator[tuple[str, Any]]:
        """Go through the routes."""
        yield from self.sub_modules.items()


class Routes:
    """Which route a task takes."""

    def __init__(self, names: Sequence[str], default: str | None, mappings: Mappings) -> None:
        for name in (*mappings.values(), *([default] if default is not None else [])):
            if name not in names:
                raise ModelError(f"route {name!r}: this router has {', '.join(names)}")
        if not names:
            raise ModelError("a router needs at least one route")
        self.names, self.default, self.mappings = list(names), default, dict(mappings)

    def of(self, task: str | None) -> str:
        """Return the route of a task, for text.

        Raises:
            InputError: there is no route for it.
        """
        for key in ((task, "text"), (task, None), (None, "text"), (None, None)):
            if key in self.mappings:
                return self.mappings[key]
        if task in self.names:
            return str(task)
        if task is None and "text" in self.names:
            return "text"
        if task is None and self.default is not None:
            return self.default
        raise InputError(f"task {task!r}: this model has routes for {', '.join(self.names)}")


class RoutedTokenization:
    """The tokenizations of all routes, behind one face."""

    def __init__(self, parts: Mapping[str, Tokenization], routes: Routes) -> None:
        self.parts = dict(parts)
        self.routes = routes

    def routed(self, task: str | None) -> Tokenization:
        """Return the tokenization of a task's route."""
        return self.parts[self.routes.of(task)]

    @property
    def tokenizer(self) -> Any:
        """The first route's tokenizer."""
        return next(iter(self.parts.values())).tokenizer

    @property
    def max_seq_length(self) -> int | None:
        """The longest limit of any route; None where one has none."""
        limits = [part.max_seq_length for part in self.parts.values()]
        known = [limit for limit in limits if limit is not None]
        return max(known) if len(known) == len(limits) else None

    @max_seq_length.setter
    def max_seq_length(self, tokens: int | None) -> None:
        for part in self.parts.values():
            part.max_seq_length = tokens


def _read(folder: Path) -> dict[str, Any]:
    """Read a router's configuration, new or old."""
    path = next((folder / name for name in CONFIGS if (folder / name).exists()), None)
    config: dict[str, Any] = read_config(path or folder / CONFIGS[0])
    lacking = [key for key in ("types", "structure") if not isinstance(config.get(key), dict)]
    if lacking:
        raise ModelError(f"model file {str(path)!r}: {lacking[0]!r} is missing")
    return {"parameters": {}, **config}


def _routes(config: dict[str, Any], folder: Path) -> Routes:
    """Read the routes; keys of the mappings are tuples written as Python literals."""
    parameters = config["parameters"]
    try:
        listed = (parameters.get("route_mappings") or {}).items()
        mappings = {ast.literal_eval(key): route for key, route in listed}
    except (ValueError, SyntaxError):
        raise ModelError(f"model {str(folder)!r}: route_mappings cannot be read") from None
    default = parameters.get("default_route")
    if default is None and parameters.get("allow_empty_key", True):
        default = next(iter(config["structure"]), None)
    return Routes(list(config["structure"]), default, mappings)


def _entry(config: dict[str, Any], name: str, folder: Path) -> ModuleEntry:
    """Return what a router's configuration says of a route's module."""
    return module_entry(folder, name, str(config["types"].get(name, "")), name)


class Asym(Router):
    """A router, under the name it had up to version 4."""
