"""Workflows for the workload `together`: parents with children, children that signal a third run, updates, scheduled runs.

Like `workflows`, everything is a function of ids and numbers, so that the right result is known without the system. Registered
by `worker`; the model at the top is used by the workload `together`.
"""

from __future__ import annotations

import asyncio

from temporalio import workflow

from .workflows import ATTEMPT_TIMEOUT, HEARTBEAT_TIMEOUT, RETRY, StepInput, expected_chain, heartbeats, step_sleep_ms


# Of a child. The second one's completion is sent by the worker itself, which so sees its acknowledgement.
STEPS = 2


def child_id(parent: str, number: int) -> str:
    return f"{parent}-c{number}"


def expected_children(parent: str, children: int) -> list[str]:
    """What the children of a parent return when nothing went wrong with them."""
    return [expected_chain(child_id(parent, number), STEPS) for number in range(children)]


def expected_tokens(parents: list[str], children: int) -> list[str]:
    """What the collector gets: one token from each child, and one from each parent."""
    return sorted([child_id(wf, number) for wf in parents for number in range(children)] + parents)


@workflow.defn
class TogetherChild:
    """Two steps of the ledger, then a signal to the collector, which is neither parent nor child."""

    @workflow.run
    async def run(self, argument: dict) -> str:
        wf = workflow.info().workflow_id
        state = "begin"
        for step in range(1, STEPS + 1):
            state = await workflow.execute_activity(
                "step",
                StepInput(step, state, step_sleep_ms(wf, step, argument["sleep_ms"])),
                result_type=str,
                start_to_close_timeout=ATTEMPT_TIMEOUT,
                heartbeat_timeout=HEARTBEAT_TIMEOUT if heartbeats(step) else None,
                retry_policy=RETRY,
            )
        await workflow.get_external_workflow_handle(argument["collector"]).signal("add", wf)
        return state


@workflow.defn
class TogetherParent:
    """Children two at a time, updates meanwhile; ends once it is told to and everything is done."""

    def __init__(self) -> None:
        self._values: list[int] = []
        self._finished = False

    @workflow.run
    async def run(self, argument: dict) -> dict:
        wf = workflow.info().workflow_id
        results: list[str] = []
        for first in range(0, argument["children"], 2):
            pair = range(first, min(first + 2, argument["children"]))
            results += await asyncio.gather(
                *(workflow.execute_child_workflow("TogetherChild", argument, id=child_id(wf, number), result_type=str) for number in pair)
            )
        await workflow.wait_condition(lambda: self._finished)
        await workflow.get_external_workflow_handle(argument["collector"]).signal("add", wf)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return {"children": results, "updates": self._values}

    @workflow.update
    async def push(self, value: int) -> int:
        """Adds a value; the answer is its place in the list. Every third one waits for a timer in between."""
        self._values.append(value)
        place = len(self._values)
        if value % 3 == 0:
            await workflow.sleep(0.2)
        return place

    @push.validator
    def _push_is_allowed(self, value: int) -> None:
        if value < 0:
            raise ValueError("negative values are rejected")

    @workflow.signal
    def finish(self, _value: int) -> None:
        self._finished = True


@workflow.defn
class TogetherCollector:
    """Collects tokens until it has as many as it was told to expect by `finish`, and a moment longer, to see doubles."""

    def __init__(self) -> None:
        self._tokens: list[str] = []
        self._expected: int | None = None

    @workflow.run
    async def run(self, _argument: dict) -> dict:
        await workflow.wait_condition(lambda: self._expected is not None and len(self._tokens) >= self._expected)
        await workflow.sleep(2)
        return {"tokens": self._tokens}

    @workflow.signal
    def add(self, token: str) -> None:
        self._tokens.append(token)

    @workflow.signal
    def finish(self, expected: int) -> None:
        self._expected = expected


@workflow.defn
class TogetherTick:
    """What a schedule starts: nothing to do; that it was started is what counts."""

    @workflow.run
    async def run(self) -> str:
        return workflow.info().workflow_id
