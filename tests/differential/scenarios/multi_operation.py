"""ExecuteMultiOperation, that is update-with-start: every conflict policy, every way to fail, and the shape of its errors."""

import asyncio
import uuid

from differential.env import Env, complete_run
from differential.registry import scenario
from differential.updates import accept, admitted, answer, fail, reject, request_fields, show_poll, succeed, until_admitted
from harness.wire import payload, payloads

METHOD = "ExecuteMultiOperation"


def operations(env: Env, update_id: str = "u1", wait: str = "COMPLETED", start: object = None, update: object = None) -> dict[str, object]:
    """The two operations, with the given fields over each."""
    started = {"namespace": "default", "identity": "tester", **env.start_fields(), **(start or {})}  # type: ignore[dict-item]
    updated = {"namespace": "default", **request_fields(env, update_id, "in", wait=wait), **(update or {})}  # type: ignore[dict-item]
    return {"operations": [{"start_workflow": started}, {"update_workflow": updated}]}


def policy(name: str) -> dict[str, str]:
    return {"workflow_id_conflict_policy": f"WORKFLOW_ID_CONFLICT_POLICY_{name}"}


@scenario
async def with_start_starts_a_run(env: Env) -> None:
    """No run is open: it is started, and the update rides on its first task."""
    waiting = env.begin(METHOD, **operations(env, start=policy("FAIL")))
    task = await env.poll()
    env.response("first task", "PollWorkflowTaskQueue", task)
    await answer(env, task, accept(task, "u1"), succeed("u1", "out"))
    await env.ended("both", METHOD, waiting)
    await env.history("run")


@scenario
async def with_start_rejected_first(env: Env) -> None:
    """The new run's first task rejects the update: the run stays, the caller gets both answers."""
    waiting = env.begin(METHOD, **operations(env, start=policy("FAIL")))
    task = await env.poll()
    await answer(env, task, reject(task, "u1"))
    await env.ended("both", METHOD, waiting)
    await env.history("run")


@scenario
async def with_start_update_fails(env: Env) -> None:
    """The update fails after it was accepted."""
    waiting = env.begin(METHOD, **operations(env, start=policy("FAIL")))
    task = await env.poll()
    await answer(env, task, accept(task, "u1"), fail("u1"))
    await env.ended("both", METHOD, waiting)


@scenario
async def with_start_waits_for_accepted(env: Env) -> None:
    """A caller that waits for acceptance only; the same call again meets the same run and update."""
    fields = operations(env, wait="ACCEPTED", start={**policy("USE_EXISTING"), "request_id": "same"})
    waiting = env.begin(METHOD, **fields)
    task = await env.poll()
    await answer(env, task, accept(task, "u1"))
    await env.ended("both", METHOD, waiting)
    await env.show("again", METHOD, **fields)
    await env.show("again with another request id", METHOD, **operations(env, wait="ACCEPTED", start=policy("USE_EXISTING")))
    await env.history("run")


@scenario
async def with_start_uses_existing(env: Env) -> None:
    """USE_EXISTING over an open run: the update goes there as any other, and the start says that it started nothing."""
    await env.start()
    await env.step()
    waiting = env.begin(METHOD, **operations(env, start=policy("USE_EXISTING")))
    task = await env.poll()
    env.response("task", "PollWorkflowTaskQueue", task)
    await answer(env, task, accept(task, "u1"), succeed("u1", "out"))
    await env.ended("both", METHOD, waiting)
    await env.history("run")


@scenario
async def with_start_uses_existing_and_is_rejected(env: Env) -> None:
    """USE_EXISTING over an open run whose worker rejects the update: no trace."""
    await env.start()
    await env.step()
    waiting = env.begin(METHOD, **operations(env, start=policy("USE_EXISTING")))
    task = await env.poll()
    await answer(env, task, reject(task, "u1"))
    await env.ended("both", METHOD, waiting)
    await env.history("run")


@scenario
async def with_start_conflict_fails(env: Env) -> None:
    """FAIL over an open run: the error has a status for each operation."""
    await env.start()
    await env.step()
    await env.show("both", METHOD, **operations(env, start=policy("FAIL")))
    await env.show("no policy", METHOD, **operations(env))
    await env.history("run")


@scenario
async def with_start_terminates_existing(env: Env) -> None:
    """TERMINATE_EXISTING over an open run: the run ends, a new one gets the update."""
    first = await env.start()
    await env.step()
    waiting = env.begin(METHOD, **operations(env, start=policy("TERMINATE_EXISTING")))
    await asyncio.sleep(0.3)
    if waiting.done():
        await env.ended("both", METHOD, waiting)
        await env.history("first run", run_id=first)
        return
    task = await env.poll()
    await answer(env, task, accept(task, "u1"), succeed("u1", "out"))
    await env.ended("both", METHOD, waiting)
    await env.history("first run", run_id=first)
    await env.history("second run")


@scenario
async def with_start_over_closed_run(env: Env) -> None:
    """Over a closed run: a new one with ALLOW_DUPLICATE, an error with REJECT_DUPLICATE."""
    await env.start()
    await env.step(complete_run())
    await env.show(
        "reject duplicate",
        METHOD,
        **operations(env, start={**policy("USE_EXISTING"), "workflow_id_reuse_policy": "WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE"}),
    )
    waiting = env.begin(METHOD, **operations(env, start=policy("USE_EXISTING")))
    task = await env.poll()
    await answer(env, task, accept(task, "u1"), succeed("u1", "out"))
    await env.ended("allow duplicate", METHOD, waiting)
    await env.history("new run")


@scenario
async def with_start_same_update_over_closed_run(env: Env) -> None:
    """The update id was completed by the run that closed since: the call again with the same start is answered from there."""
    fields = operations(env, start={**policy("USE_EXISTING"), "request_id": "same"})
    waiting = env.begin(METHOD, **fields)
    task = await env.poll()
    await answer(env, task, accept(task, "u1"), succeed("u1", "out"), then=[complete_run()])
    await env.ended("first call", METHOD, waiting)
    await env.show("same call again", METHOD, **fields)
    await env.show("another start, same update id", METHOD, timeout=3.0, **operations(
        env, start={**policy("USE_EXISTING"), "workflow_id_reuse_policy": "WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE"}
    ))


@scenario
async def with_start_joins_an_admitted_update(env: Env) -> None:
    """The same update id is asked for by a plain update already: both callers get the one outcome."""
    await env.start()
    plain = await admitted(env, "u1")
    waiting = env.begin(METHOD, **operations(env, start=policy("USE_EXISTING")))
    await asyncio.sleep(0.3)
    task = await env.poll()
    env.note("messages", [each.protocol_instance_id for each in task.messages])
    await answer(env, task, accept(task, "u1"), succeed("u1", "out"))
    await env.ended("plain", "UpdateWorkflowExecution", plain)
    await env.ended("with start", METHOD, waiting)


@scenario
async def with_start_run_closes_first(env: Env) -> None:
    """The run that is started closes before the update is accepted: by its first task, by termination."""
    for way in ("completes", "is terminated"):
        wid = env.name(way)
        fields = operations(
            env, start={**policy("FAIL"), "workflow_id": wid}, update={"workflow_execution": env.execution(wid)}
        )
        waiting = env.begin(METHOD, **fields)
        await until_admitted(env, "u1", wid)
        if way == "completes":
            await env.step(complete_run())
        else:
            await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid), reason="r")
        await env.ended(way, METHOD, waiting)


@scenario
async def with_start_carries_everything(env: Env) -> None:
    """A start with memo, search attributes, time-outs, priority and header, together with an update."""
    start = {
        **policy("FAIL"),
        "input": payloads("one"),
        "memo": {"fields": {"m": payload(1)}},
        "header": {"fields": {"h": payload("v")}},
        "search_attributes": {"indexed_fields": {"CustomKeyword": payload("k")}},
        "workflow_run_timeout": "100s",
        "priority": {"priority_key": 2},
        "user_metadata": {"summary": payload("sum")},
    }
    waiting = env.begin(METHOD, **operations(env, start=start))
    task = await env.poll()
    await answer(env, task, accept(task, "u1"), succeed("u1", "out"))
    await env.ended("both", METHOD, waiting)
    await env.history("run")


@scenario
async def with_start_is_validated(env: Env) -> None:
    """ExecuteMultiOperation with one thing wrong at a time."""

    async def case(label: str, **fields: object) -> None:
        await env.show(label, METHOD, **fields)

    good = operations(env)["operations"]
    start, update = good  # type: ignore[misc]
    await case("no operations", operations=[])
    await case("one operation", operations=[start])
    await case("three operations", operations=[start, update, update])
    await case("the other way round", operations=[update, start])
    await case("two starts", operations=[start, start])
    await case("two updates", operations=[update, update])
    await case("an empty operation", operations=[start, {}])
    await case("another workflow id", **operations(env, update={"workflow_execution": env.execution(env.name("other"))}))
    await case("update names a run", **operations(env, update={"workflow_execution": env.execution(run_id=str(uuid.uuid4()))}))
    await case("update names a first run", **operations(env, update={"first_execution_run_id": str(uuid.uuid4())}))
    await case("start with a cron schedule", **operations(env, start={"cron_schedule": "@every 1h"}))
    await case("start with a delay", **operations(env, start={"workflow_start_delay": "1s"}))
    await case("start asks for eager execution", **operations(env, start={"request_eager_execution": True}))
    await case("start without a workflow type", **operations(env, start={"workflow_type": {"name": ""}}))
    await case("start without a task queue", **operations(env, start={"task_queue": {"name": ""}}))
    await case("start without a workflow id", **operations(env, start={"workflow_id": ""}))
    await case("update without a name", **operations(env, update={"request": {"meta": {"update_id": "u"}, "input": {}}}))
    await case("update without input", **operations(env, update={"request": {"meta": {"update_id": "u"}}}))
    await case("update waits for admitted", **operations(env, wait="ADMITTED"))
    await case("unknown namespace", namespace="nowhere", operations=good)
    await case("no namespace", namespace="", operations=good)
    await case("operations of another namespace", **operations(env, start={"namespace": "nowhere"}))
    await case("unknown search attribute", **operations(env, start={"search_attributes": {"indexed_fields": {"Nope": payload(1)}}}))
    await env.show("nothing was started", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def with_start_limits_in_flight(env: Env) -> None:
    """Ten updates are in flight on the open run: the update-with-start is refused as a whole."""
    await env.start()
    waiting = [await admitted(env, f"u{number:02}") for number in range(10)]
    await env.show("the eleventh", METHOD, **operations(env, "u10", start=policy("USE_EXISTING")))
    for each in waiting:
        each.cancel()
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution())


@scenario
async def with_start_poll_afterwards(env: Env) -> None:
    """The update of an update-with-start can be polled like any other."""
    waiting = env.begin(METHOD, **operations(env, wait="ACCEPTED", start=policy("FAIL")))
    task = await env.poll()
    await answer(env, task, accept(task, "u1"))
    await waiting
    await show_poll(env, "accepted", "u1")
    await env.signal("s")
    await answer(env, await env.poll(), succeed("u1", "out"))
    await show_poll(env, "completed", "u1", "COMPLETED")
