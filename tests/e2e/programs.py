"""Workflows and activities that the end-to-end tests share. Ordinary programs for the published SDK; never a test."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

SOON = timedelta(seconds=30)


@activity.defn
async def greet(name: str) -> str:
    return f"Hello, {name}!"


@activity.defn
async def size(data: str) -> int:
    return len(data)


@activity.defn
async def add(number: int) -> int:
    return number + 1


@activity.defn
async def third_time_lucky() -> int:
    attempt = activity.info().attempt
    if attempt < 3:
        raise ApplicationError(f"attempt {attempt}")
    return attempt


@activity.defn
async def beat_then_fail() -> list[str]:
    details = list(activity.info().heartbeat_details)
    if details:
        return details
    activity.heartbeat("half way")
    raise ApplicationError("after a heartbeat")


@activity.defn
async def hang() -> str:
    try:
        while True:
            activity.heartbeat()
            await asyncio.sleep(0.1)
    finally:
        activity.logger.debug("stopped")


@workflow.defn
class Greeting:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(greet, name, start_to_close_timeout=SOON)


@workflow.defn
class Steps:
    """A chain of activities, one after the other."""

    @workflow.run
    async def run(self, count: int) -> int:
        number = 0
        for _ in range(count):
            number = await workflow.execute_activity(add, number, start_to_close_timeout=SOON)
        return number


@workflow.defn
class BigInputs:
    """Pairs of activities side by side, a pair after the other, each with an input of that length."""

    @workflow.run
    async def run(self, pairs: int, length: int) -> int:
        total = 0
        for _ in range(pairs):
            both = (workflow.execute_activity(size, "x" * length, start_to_close_timeout=SOON) for _ in range(2))
            total += sum(await asyncio.gather(*both))
        return total


@workflow.defn
class Retried:
    @workflow.run
    async def run(self) -> int:
        return await workflow.execute_activity(
            third_time_lucky,
            start_to_close_timeout=SOON,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)),
        )


@workflow.defn
class Beating:
    @workflow.run
    async def run(self) -> list[str]:
        return await workflow.execute_activity(
            beat_then_fail,
            start_to_close_timeout=SOON,
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)),
        )


@workflow.defn
class Mailbox:
    """Collects signals until it is told to finish."""

    def __init__(self) -> None:
        self.letters: list[str] = []
        self.finished = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.finished)
        return self.letters

    @workflow.signal
    def post(self, letter: str) -> None:
        self.letters.append(letter)

    @workflow.signal
    def finish(self) -> None:
        self.finished = True

    @workflow.query
    def count(self) -> int:
        return len(self.letters)


@workflow.defn
class Cancellable:
    @workflow.run
    async def run(self) -> str:
        await workflow.execute_activity(
            hang, start_to_close_timeout=timedelta(minutes=5), heartbeat_timeout=timedelta(seconds=5)
        )
        return "never"


@workflow.defn
class Napping:
    @workflow.run
    async def run(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "awake"


@workflow.defn
class Countdown:
    @workflow.run
    async def run(self, left: int) -> str:
        if left:
            workflow.continue_as_new(left - 1)
        return "zero"


WORKFLOWS = [Greeting, Steps, BigInputs, Retried, Beating, Mailbox, Cancellable, Napping, Countdown]
ACTIVITIES = [greet, size, add, third_time_lucky, beat_then_fail, hang]
