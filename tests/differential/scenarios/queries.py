"""Queries: through a workflow task of their own, riding on a workflow task, rejected, failing, on closed runs."""

import asyncio
from typing import Any

from differential.env import Env, Refusal, complete_run
from differential.registry import scenario
from harness.wire import failure, payloads


def ask(env: Env, kind: str = "q", **fields: Any) -> asyncio.Task[Any]:
    """A query that runs beside the scenario; its answer or refusal comes with `shown`."""
    query = {"query_type": kind, "query_args": payloads("arg")}
    return asyncio.ensure_future(
        env.rpc("QueryWorkflow", timeout=30, **{"execution": env.execution(), "query": query, **fields})
    )


async def shown(env: Env, label: str, asked: asyncio.Task[Any]) -> None:
    try:
        env.response(label, "QueryWorkflow", await asked)
    except Refusal as error:
        env.refused(label, error)


def answer(value: Any) -> dict[str, Any]:
    return {"result_type": "QUERY_RESULT_TYPE_ANSWERED", "answer": payloads(value)}


async def respond(env: Env, task: Any, **fields: Any) -> None:
    await env.rpc(
        "RespondQueryTaskCompleted",
        task_token=task.task_token,
        **{"completed_type": "QUERY_RESULT_TYPE_ANSWERED", **fields},
    )


@scenario
async def query_idle_run(env: Env) -> None:
    """A query to an idle run: a task of its own that leaves no event."""
    await env.start()
    await env.step()
    asked = ask(env)
    task = await env.poll()
    env.response("query task", "PollWorkflowTaskQueue", task)
    await respond(env, task, query_result=payloads("answer"))
    await shown(env, "answer", asked)
    await env.history("open run")


@scenario
async def query_rides_on_a_task(env: Env) -> None:
    """A query while a workflow task is scheduled rides on it and is answered with its completion."""
    await env.start()
    await env.step()
    await env.signal("s")
    asked = ask(env)
    task = await _with_queries(env)
    env.response("task", "PollWorkflowTaskQueue", _without_query_ids(task))
    results = {key: answer("rode") for key in task.queries}
    await env.complete(task, query_results=results)
    await shown(env, "answer", asked)
    await env.history("open run")


async def _with_queries(env: Env) -> Any:
    """The next workflow task, given a moment for the query to arrive before it is polled."""
    await _pending_query(env)
    return await env.poll()


async def _pending_query(env: Env) -> None:
    # Nothing tells when a query has reached the server; a call made after it on the same connection is the best there is.
    for _ in range(5):
        await env.rpc("DescribeWorkflowExecution", execution=env.execution())
        await asyncio.sleep(0.05)


def _without_query_ids(task: Any) -> Any:
    from temporalio.api.workflowservice.v1 import PollWorkflowTaskQueueResponse

    copy = PollWorkflowTaskQueueResponse()
    copy.CopyFrom(task)
    entries = [copy.queries[key] for key in sorted(copy.queries)]
    copy.queries.clear()
    for number, each in enumerate(entries):
        copy.queries[f"query {number + 1}"].CopyFrom(each)
    return copy


@scenario
async def query_while_task_started(env: Env) -> None:
    """A query while a workflow task is started waits for its end, then gets a task of its own or the next one."""
    await env.start()
    task = await env.poll()
    asked = ask(env)
    await _pending_query(env)
    await env.complete(task)
    task = await env.poll()
    env.response("next task", "PollWorkflowTaskQueue", _without_query_ids(task))
    if task.queries:
        await env.complete(task, query_results={key: answer("later") for key in task.queries})
    else:
        await respond(env, task, query_result=payloads("later"))
    await shown(env, "answer", asked)
    await env.history("open run")


@scenario
async def query_failed_by_worker(env: Env) -> None:
    """A worker that fails a query, with and without a failure: code, message and detail."""
    await env.start()
    await env.step()
    for label, fields in (
        ("message only", {"error_message": "no such query"}),
        ("with failure", {"error_message": "broke", "failure": failure("broke", "QueryError")}),
    ):
        asked = ask(env)
        task = await env.poll()
        await respond(env, task, completed_type="QUERY_RESULT_TYPE_FAILED", **fields)
        await shown(env, label, asked)


@scenario
async def query_failed_with_the_task(env: Env) -> None:
    """A query that rides on a workflow task and fails there."""
    await env.start()
    await env.step()
    await env.signal("s")
    asked = ask(env)
    task = await _with_queries(env)
    results = {key: {"result_type": "QUERY_RESULT_TYPE_FAILED", "error_message": "rode badly"} for key in task.queries}
    await env.complete(task, query_results=results)
    await shown(env, "answer", asked)


@scenario
async def query_not_answered_by_the_task(env: Env) -> None:
    """A workflow task that completes without answering its query: the query comes again."""
    await env.start()
    await env.step()
    await env.signal("s")
    asked = ask(env)
    task = await _with_queries(env)
    await env.complete(task)
    task = await env.poll()
    await respond(env, task, query_result=payloads("second chance"))
    await shown(env, "answer", asked)


@scenario
async def query_closed_run(env: Env) -> None:
    """A query to a closed run is still answered by a worker."""
    await env.start()
    await env.step(complete_run("r"))
    asked = ask(env)
    task = await env.poll()
    env.response("query task", "PollWorkflowTaskQueue", task)
    await respond(env, task, query_result=payloads("afterwards"))
    await shown(env, "answer", asked)


@scenario
async def query_reject_conditions(env: Env) -> None:
    """Reject conditions over a completed and a failed run: the rejection carries the status."""
    from differential.env import command

    for name, closing in (
        ("completed", complete_run()),
        ("failed", command("FAIL_WORKFLOW_EXECUTION", failure=failure("f"))),
    ):
        wid = env.name(name)
        await env.start(workflow_id=wid)
        await env.step(closing)
        conditions = ["NOT_OPEN"] if name == "completed" else ["NOT_OPEN", "NOT_COMPLETED_CLEANLY"]
        for condition in conditions:
            await env.show(
                f"{name}, {condition}",
                "QueryWorkflow",
                execution=env.execution(wid),
                query={"query_type": "q"},
                query_reject_condition=f"QUERY_REJECT_CONDITION_{condition}",
            )


@scenario
async def query_on_sticky_queue(env: Env) -> None:
    """A query of a sticky run goes to the sticky queue, with no history in it."""
    await env.start()
    task = await env.poll()
    await env.complete(task, **env.sticky("5s"))
    waiting = await env.start_polling(env.sticky_queue())
    asked = ask(env)
    task = await waiting
    env.response("query task", "PollWorkflowTaskQueue", task)
    await respond(env, task, query_result=payloads("sticky"))
    await shown(env, "answer", asked)


@scenario
async def query_falls_back_from_sticky_queue(env: Env) -> None:
    """A query of a sticky run whose worker is gone goes to the normal queue, with the whole history."""
    await env.start()
    task = await env.poll()
    await env.complete(task, **env.sticky("1s"))
    asked = ask(env)
    task = await env.poll()
    env.response("query task", "PollWorkflowTaskQueue", task)
    await respond(env, task, query_result=payloads("full"))
    await shown(env, "answer", asked)


@scenario
async def query_after_failed_task(env: Env) -> None:
    """A query to a run whose workflow task fails again and again is refused rather than left waiting."""
    await env.start()
    for _ in range(4):
        task = await env.poll()
        await env.rpc("RespondWorkflowTaskFailed", task_token=task.task_token, failure=failure("bug"))
    await shown(env, "query", ask(env))


@scenario
async def query_answered_twice(env: Env) -> None:
    """The second answer to the same query task."""
    await env.start()
    await env.step()
    asked = ask(env)
    task = await env.poll()
    await respond(env, task, query_result=payloads("one"))
    await shown(env, "answer", asked)
    await env.show(
        "again",
        "RespondQueryTaskCompleted",
        task_token=task.task_token,
        completed_type="QUERY_RESULT_TYPE_ANSWERED",
        query_result=payloads("two"),
    )


@scenario
async def oversized_query_answer(env: Env) -> None:
    """An answer over the payload limit fails the query."""
    await env.start()
    await env.step()
    asked = ask(env)
    task = await env.poll()
    await env.show(
        "answered",
        "RespondQueryTaskCompleted",
        task_token=task.task_token,
        completed_type="QUERY_RESULT_TYPE_ANSWERED",
        query_result=payloads("y" * (2 * 1024 * 1024 + 10)),
    )
    await shown(env, "query", asked)
