"""One worker process: the published Python SDK, connected to one node and to no other, for the whole run.

It lives on while its node is down; finding it again is the SDK's own business. It ends at SIGTERM only. Each attempt of the step
activity is noted in the ledger before and after. Never touches the journal or another worker's ledger. Started by `workers`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import signal
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from temporalio import activity
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.workflowservice.v1 import RespondActivityTaskCompletedRequest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from .ledger import Ledger
from .workflows import LedgerRun, SignalList, StepInput, completes_directly, fails_first, heartbeats, sleep_in_slices, step_result
from .workflows_together import TogetherChild, TogetherCollector, TogetherParent, TogetherTick

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

REFUSED = {RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.FAILED_PRECONDITION}


class Steps:
    """The `step` activity with what it needs."""

    def __init__(self, client: Client, ledger: Ledger, name: str) -> None:
        self._client = client
        self._ledger = ledger
        self._name = name

    @activity.defn(name="step")
    async def step(self, argument: StepInput) -> str:
        info = activity.info()
        key = {
            "wf": info.workflow_id,
            "run": info.workflow_run_id,
            "step": argument.step,
            "attempt": info.attempt,
            "worker": self._name,
        }
        deadline = info.started_time + info.start_to_close_timeout
        beats = heartbeats(argument.step)
        # A heartbeat time-out can end an attempt earlier than its own deadline; the first beat comes at once, the last one as
        # the sleep ends, so the earliest legal end is one heartbeat time-out after the start.
        allowed = deadline.timestamp() if not beats else (info.started_time + info.heartbeat_timeout).timestamp()
        self._ledger.note("start", key, deadline=allowed, **handed_out(info))
        outcome, result = "failed", None
        try:
            if beats:

                def beat() -> None:
                    # One line for all of an attempt's beats would do: their details are equal.
                    self._ledger.note("beat", key, details=argument.step)
                    activity.heartbeat(argument.step)

                beat()
                await sleep_in_slices(argument.sleep_ms, 100, beat)
            else:
                await asyncio.sleep(argument.sleep_ms / 1000)
            if fails_first(argument.step) and info.attempt == 1:
                raise ApplicationError("the first attempt of this step fails", type="Planned")
            result = step_result(info.workflow_id, argument.step, argument.state)
            outcome = "returned"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._ledger.note("end", key, outcome=outcome, result=result)
        if completes_directly(argument.step):
            await self._complete(key, info.task_token, result, deadline.timestamp())
            activity.raise_complete_async()
        return result

    async def _complete(self, key: dict, token: bytes, result: str, deadline: float) -> None:
        """Sends the completion until the server answers or the attempt's own deadline has passed."""
        request = RespondActivityTaskCompletedRequest(
            task_token=token,
            namespace=self._client.namespace,
            identity=self._name,
            result=Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(result).encode())]),
        )
        while time.time() < deadline:
            try:
                await self._client.workflow_service.respond_activity_task_completed(request, retry=False, timeout=timedelta(seconds=3))
            except RPCError as error:
                if error.status in REFUSED:
                    self._ledger.note("ack", key, status="refused", why=error.message)
                    return
                self._ledger.note("ack", key, status="unknown", why=error.message)
                await asyncio.sleep(0.1)
            else:
                self._ledger.note("ack", key, status="acked")
                return


def handed_out(info: activity.Info) -> dict:
    """What the server said of the attempt, for checks by its own clock: times in nanoseconds since the epoch, time-outs in nanoseconds."""

    def nanos(length: timedelta | None) -> int:
        return 0 if length is None else round(length.total_seconds() * 1e9)

    def at(moment: datetime) -> int:
        return round((moment - EPOCH) / timedelta(microseconds=1)) * 1000

    return {
        "activity_id": info.activity_id,
        "token": hashlib.sha256(info.task_token).hexdigest()[:16],
        "scheduled_at": at(info.scheduled_time),
        "attempt_scheduled_at": at(info.current_attempt_scheduled_time),
        "started_at": at(info.started_time),
        "schedule_to_close": nanos(info.schedule_to_close_timeout),
        "start_to_close": nanos(info.start_to_close_timeout),
        "heartbeat": nanos(info.heartbeat_timeout),
        "given": next(iter(info.heartbeat_details), None),
    }


async def connect(target: str, namespace: str) -> Client:
    """The first connection; a worker is started once its node is ready, but may lose the race with the first fault."""
    while True:
        try:
            return await Client.connect(target, namespace=namespace)
        except (RuntimeError, RPCError) as error:
            print(f"not connected yet: {error}", file=sys.stderr, flush=True)
            await asyncio.sleep(0.3)


async def main() -> None:
    parser = argparse.ArgumentParser(prog="worker")
    parser.add_argument("--name", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await connect(arguments.target, arguments.namespace)
    steps = Steps(client, Ledger(arguments.ledger), arguments.name)
    async with Worker(
        client,
        task_queue=arguments.task_queue,
        workflows=[LedgerRun, SignalList, TogetherChild, TogetherCollector, TogetherParent, TogetherTick],
        activities=[steps.step],
        identity=arguments.name,
        # The sandbox re-imports modules for every run: seconds of CPU here, and nothing that a server could notice.
        workflow_runner=UnsandboxedWorkflowRunner(),
        graceful_shutdown_timeout=timedelta(seconds=2),
    ):
        print("worker ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
