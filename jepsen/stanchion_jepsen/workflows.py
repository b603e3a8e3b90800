"""The workflows and the activity that the workers run, and a model of their results.

Everything is a function of the workflow id and the step number, so that the right result is known without the system. Never
keeps state outside the ledger. Registered by `worker`; the model is used by the workloads.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

ATTEMPT_TIMEOUT = timedelta(seconds=8)
HEARTBEAT_TIMEOUT = timedelta(seconds=4)
RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=200), backoff_coefficient=1.5, maximum_interval=timedelta(seconds=2))


@dataclass
class StepInput:
    step: int
    state: str
    sleep_ms: int


def step_result(wf: str, step: int, state: str) -> str:
    return hashlib.sha256(f"{wf}/{step}/{state}".encode()).hexdigest()[:16]


def expected_chain(wf: str, steps: int) -> str:
    """The result of a `LedgerRun` that nothing went wrong with."""
    state = "begin"
    for step in range(1, steps + 1):
        state = step_result(wf, step, state)
    return state


def step_sleep_ms(wf: str, step: int, base_ms: int) -> int:
    """Between half and one and a half times `base_ms`, the same for every attempt of a step."""
    return int(base_ms * (0.5 + random.Random(f"{wf}/{step}").random()))


def heartbeats(step: int) -> bool:
    return step % 5 == 2


def fails_first(step: int) -> bool:
    """Some steps fail at their first attempt, so that retries run under faults too."""
    return step % 7 == 4


def completes_directly(step: int) -> bool:
    """Steps whose completion the activity sends itself, to see the server's acknowledgement with its own eyes."""
    return step % 2 == 0


@workflow.defn
class LedgerRun:
    """`steps` activities one after another, each fed with the result of the one before."""

    @workflow.run
    async def run(self, argument: dict) -> str:
        state = "begin"
        wf = workflow.info().workflow_id
        for step in range(1, argument["steps"] + 1):
            state = await workflow.execute_activity(
                "step",
                StepInput(step, state, step_sleep_ms(wf, step, argument["sleep_ms"])),
                result_type=str,
                start_to_close_timeout=ATTEMPT_TIMEOUT,
                heartbeat_timeout=HEARTBEAT_TIMEOUT if heartbeats(step) else None,
                retry_policy=RETRY,
            )
        return state


@workflow.defn
class SignalList:
    """Collects the integers of `add` signals; runs one step per signal; ends at `finish` when nothing is left to do."""

    def __init__(self) -> None:
        self._values: list[int] = []
        self._done = 0
        self._finished = False

    @workflow.run
    async def run(self, argument: dict) -> dict:
        state = "begin"
        wf = workflow.info().workflow_id
        while True:
            await workflow.wait_condition(lambda: self._done < len(self._values) or self._finished)
            if self._done == len(self._values):
                return {"values": self._values, "state": state}
            self._done += 1
            if self._done <= argument["steps"]:
                state = await workflow.execute_activity(
                    "step",
                    StepInput(self._done, state, step_sleep_ms(wf, self._done, argument["sleep_ms"])),
                    result_type=str,
                    start_to_close_timeout=ATTEMPT_TIMEOUT,
                    heartbeat_timeout=HEARTBEAT_TIMEOUT if heartbeats(self._done) else None,
                    retry_policy=RETRY,
                )

    @workflow.signal
    def add(self, value: int) -> None:
        self._values.append(value)

    @workflow.signal
    def finish(self, _value: int) -> None:
        self._finished = True

    @workflow.query
    def values(self) -> list[int]:
        return self._values


async def sleep_in_slices(total_ms: int, slice_ms: int, beat) -> None:
    """Sleeps while calling `beat` at every slice."""
    left = total_ms
    while left > 0:
        await asyncio.sleep(min(left, slice_ms) / 1000)
        left -= slice_ms
        beat()
