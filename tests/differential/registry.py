"""The list of scenarios: a function marked `@scenario` in a module of `differential/scenarios`, with what it shows as its doc.

Never runs anything. Read by the runner and by the pytest wrapper.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from differential.env import Env

Body = Callable[[Env], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    name: str
    module: str
    says: str
    body: Body


SCENARIOS: dict[str, Scenario] = {}


def scenario(body: Body) -> Body:
    name = body.__name__
    if name in SCENARIOS:
        raise ValueError(f"two scenarios are named {name}")
    says = " ".join((body.__doc__ or "").split())
    if not says:
        raise ValueError(f"scenario {name} does not say what it shows")
    SCENARIOS[name] = Scenario(name, body.__module__.rpartition(".")[2], says, body)
    return body


def load() -> dict[str, Scenario]:
    from differential import scenarios

    for module in sorted(each.name for each in pkgutil.iter_modules(scenarios.__path__)):
        importlib.import_module(f"differential.scenarios.{module}")
    return SCENARIOS
