"""Reads histories continually, from whichever node, while faults go on.

Keeps one digest per event and judges nothing: `checkers` compare what was observed with the final histories. Read errors are
expected (nodes are dying) and only counted. Used by the workloads.
"""

from __future__ import annotations

import asyncio
import random

import grpc

from .api import Api, random_page_size
from .checkers import Observation
from .history import RunHistory


class Sampler:
    def __init__(self, apis: list[Api], chance: random.Random, reads_at_once: int = 2, pause_s: float = 0.03) -> None:
        self._apis = apis
        self._chance = chance
        self._readers = reads_at_once
        self._pause_s = pause_s
        self._runs: list[tuple[str, str]] = []
        self._updated: set[str] = set()
        self._longest: dict[str, int] = {}
        self.observations: list[Observation] = []
        self.errors: dict[str, int] = {}
        self.reads = 0

    def watch(self, wf: str, run: str, updated: bool = False) -> None:
        """Adds a run. Recently added ones are read most. `updated`: it gets updates, so its outstanding task may vanish."""
        if updated:
            self._updated.add(wf)
        self._runs.append((wf, run))

    def saw(self, wf: str, node: str, history: RunHistory, known_before: int) -> None:
        stored = history.settled if wf in self._updated else history.stored
        self.observations.append(Observation(wf, node, tuple(history.digests[:stored]), known_before))
        self._longest[wf] = max(self._longest.get(wf, 0), stored)

    async def _reader(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            if not self._runs:
                continue
            recent = self._chance.random() < 0.8
            wf, run = self._chance.choice(self._runs[-40:] if recent else self._runs)
            api = self._chance.choice(self._apis)
            known = self._longest.get(wf, 0)
            try:
                history = await api.history(wf, run, 5.0, random_page_size(self._chance))
            except grpc.aio.AioRpcError as error:
                name = error.code().name
                self.errors[name] = self.errors.get(name, 0) + 1
                continue
            self.reads += 1
            self.saw(wf, api.name, history, known)

    async def run(self) -> None:
        """Reads until cancelled."""
        async with asyncio.TaskGroup() as readers:
            for _ in range(self._readers):
                readers.create_task(self._reader())
