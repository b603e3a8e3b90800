"""What the server refuses of calls on a run: signal, cancel, terminate, query, describe, history, reset of stickiness."""

from differential.env import UNKNOWN_RUN, Case, Env, complete_run
from differential.registry import scenario
from harness.wire import payloads

LONG = "x" * 1001
BIG = payloads("y" * (2 * 1024 * 1024 + 10))


@scenario
async def signal_is_validated(env: Env) -> None:
    """SignalWorkflowExecution with one thing wrong at a time, and on a closed run."""
    run = await env.start()

    async def case(label: str, **fields: object) -> None:
        base = {"workflow_execution": env.execution(), "signal_name": "s"}
        await env.show(label, "SignalWorkflowExecution", **{**base, **fields})

    await case("no execution", workflow_execution=None)
    await case("no workflow id", workflow_execution={"workflow_id": ""})
    await case("run id is no UUID", workflow_execution={"workflow_id": env.wid, "run_id": "abc"})
    await case("unknown workflow", workflow_execution={"workflow_id": "nope"})
    await case("unknown run", workflow_execution={"workflow_id": env.wid, "run_id": UNKNOWN_RUN})
    await case("no signal name", signal_name="")
    await case("signal name of 1001", signal_name=LONG)
    await case("request id of 1001", request_id=LONG)
    await case("workflow id of 1001", workflow_execution={"workflow_id": LONG})
    await case("input over the limit", input=BIG)
    await case("unknown namespace", namespace="nowhere")
    await case("accepted", workflow_execution=env.execution(run_id=run))
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution())
    await case("closed run")
    await case("closed run by id", workflow_execution=env.execution(run_id=run))


async def misnamed(env: Env, case: Case) -> None:
    """Everything that is wrong with the names of a run."""
    await case("no execution", workflow_execution=None)
    await case("no workflow id", workflow_execution={"workflow_id": ""})
    await case("run id is no UUID", workflow_execution={"workflow_id": env.wid, "run_id": "abc"})
    await case("unknown workflow", workflow_execution={"workflow_id": "nope"})
    await case("unknown run", workflow_execution={"workflow_id": env.wid, "run_id": UNKNOWN_RUN})
    await case("wrong first run", first_execution_run_id=UNKNOWN_RUN)
    await case("unknown namespace", namespace="nowhere")


@scenario
async def cancel_is_validated(env: Env) -> None:
    """RequestCancelWorkflowExecution with one thing wrong at a time."""
    await env.start()

    async def case(label: str, **fields: object) -> None:
        await env.show(
            label, "RequestCancelWorkflowExecution", **{"workflow_execution": env.execution(), **fields}
        )

    await misnamed(env, case)
    await case("request id of 1001", request_id=LONG)
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution())
    await case("closed run")


@scenario
async def terminate_is_validated(env: Env) -> None:
    """TerminateWorkflowExecution with one thing wrong at a time, then with a reason and details, then again."""
    run = await env.start()

    async def case(label: str, **fields: object) -> None:
        await env.show(label, "TerminateWorkflowExecution", **{"workflow_execution": env.execution(), **fields})

    await misnamed(env, case)
    await case("terminated", first_execution_run_id=run, reason="why", details=payloads("d", 1))
    await case("again")
    await case("again by run id", workflow_execution=env.execution(run_id=run))
    await env.history("terminated run")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def describe_is_validated(env: Env) -> None:
    """DescribeWorkflowExecution with one thing wrong at a time."""
    await env.start()

    async def case(label: str, execution: object, **fields: object) -> None:
        await env.show(label, "DescribeWorkflowExecution", **{"execution": execution, **fields})

    await case("no execution", None)
    await case("no workflow id", {"workflow_id": ""})
    await case("run id is no UUID", {"workflow_id": env.wid, "run_id": "abc"})
    await case("unknown workflow", {"workflow_id": "nope"})
    await case("unknown run", {"workflow_id": env.wid, "run_id": UNKNOWN_RUN})
    await case("unknown namespace", env.execution(), namespace="nowhere")
    await case("no namespace", env.execution(), namespace="")


@scenario
async def history_is_validated(env: Env) -> None:
    """GetWorkflowExecutionHistory and its reverse with one thing wrong at a time."""
    await env.start()
    for method in ("GetWorkflowExecutionHistory", "GetWorkflowExecutionHistoryReverse"):

        async def case(label: str, execution: object, **fields: object) -> None:
            await env.show(f"{label} ({method[27:] or 'forward'})", method, **{"execution": execution, **fields})

        await case("no execution", None)
        await case("no workflow id", {"workflow_id": ""})
        await case("run id is no UUID", {"workflow_id": env.wid, "run_id": "abc"})
        await case("unknown workflow", {"workflow_id": "nope"})
        await case("unknown run", {"workflow_id": env.wid, "run_id": UNKNOWN_RUN})
        await case("unknown namespace", env.execution(), namespace="nowhere")
        await case("malformed page token", env.execution(), next_page_token=b"rubbish")
        await case("negative page size", env.execution(), maximum_page_size=-1)


@scenario
async def query_is_validated(env: Env) -> None:
    """QueryWorkflow with one thing wrong at a time."""
    await env.start()

    async def case(label: str, execution: object = None, query: object = None, **fields: object) -> None:
        query = {"query_type": "q"} if query is None else query
        await env.show(label, "QueryWorkflow", timeout=3, execution=execution, query=query, **fields)

    await case("no execution")
    await case("no workflow id", {"workflow_id": ""})
    await case("run id is no UUID", {"workflow_id": env.wid, "run_id": "abc"})
    await case("unknown workflow", {"workflow_id": "nope"})
    await case("unknown run", {"workflow_id": env.wid, "run_id": UNKNOWN_RUN})
    await case("unknown namespace", env.execution(), namespace="nowhere")
    await case("no query type", env.execution(), {"query_type": ""})
    await env.show("no query", "QueryWorkflow", timeout=3, execution=env.execution())
    await case("header over the limit", env.execution(), {"query_type": "q", "query_args": BIG})
    await case("before the first workflow task", env.execution())


@scenario
async def reset_sticky_is_validated(env: Env) -> None:
    """ResetStickyTaskQueue with one thing wrong at a time."""
    await env.start()
    await env.show("no execution", "ResetStickyTaskQueue")
    await env.show("unknown workflow", "ResetStickyTaskQueue", execution={"workflow_id": "nope"})
    await env.show("run id is no UUID", "ResetStickyTaskQueue", execution={"workflow_id": env.wid, "run_id": "x"})
    await env.show("not sticky", "ResetStickyTaskQueue", execution=env.execution())
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution())
    await env.show("closed run", "ResetStickyTaskQueue", execution=env.execution())


@scenario
async def describe_task_queue_is_validated(env: Env) -> None:
    """DescribeTaskQueue with one thing wrong at a time, and of a queue that nobody polls."""
    fields = {"task_queue": {"name": env.tq}}
    await env.show("workflow queue", "DescribeTaskQueue", **fields)
    await env.show(
        "activity queue", "DescribeTaskQueue", task_queue_type="TASK_QUEUE_TYPE_ACTIVITY", **fields
    )
    await env.show("no task queue", "DescribeTaskQueue")
    await env.show("no name", "DescribeTaskQueue", task_queue={"name": ""})
    await env.show("unknown namespace", "DescribeTaskQueue", namespace="nowhere", **fields)


@scenario
async def unknown_run_of_a_known_workflow_after_close(env: Env) -> None:
    """Calls that name a run that has been replaced by a newer one of the same workflow id."""
    first = await env.start()
    await env.step(complete_run())
    await env.start()
    execution = env.execution(run_id=first)
    await env.show("signal", "SignalWorkflowExecution", workflow_execution=execution, signal_name="s")
    await env.show("cancel", "RequestCancelWorkflowExecution", workflow_execution=execution)
    await env.show("terminate", "TerminateWorkflowExecution", workflow_execution=execution)
    await env.show(
        "terminate with another first run", "TerminateWorkflowExecution",
        workflow_execution=env.execution(), first_execution_run_id=first,
    )
    await env.show("describe", "DescribeWorkflowExecution", execution=execution)
