"""Timers, markers, search attributes and memo: commands that leave events and need no worker but the workflow's."""

from differential.env import Env, command, complete_run, timer
from differential.registry import scenario
from harness.wire import failure, payload, payloads


@scenario
async def timer_fires(env: Env) -> None:
    """A timer of a second fires and brings a workflow task."""
    await env.start()
    await env.step(timer("t1", "1s"))
    await env.show("describe while it runs", "DescribeWorkflowExecution", execution=env.execution())
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def timer_cancelled(env: Env) -> None:
    """A timer cancelled by a later workflow task."""
    await env.start()
    await env.step(timer("t1", "100s"))
    await env.signal("go")
    await env.step(command("CANCEL_TIMER", timer_id="t1"), timer("t1", "1s"))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def timer_started_and_cancelled_at_once(env: Env) -> None:
    """A timer started and cancelled by the same completion leaves both events and no workflow task."""
    await env.start()
    await env.step(timer("t1", "1s"), command("CANCEL_TIMER", timer_id="t1"))
    await env.no_task("task afterwards")
    await env.history("open run")


@scenario
async def timers_in_order(env: Env) -> None:
    """Three timers: the events of firing come in order of time, not of start."""
    await env.start()
    await env.step(timer("late", "2.5s"), timer("first", "0.5s"), timer("middle", "1.5s"))
    for _ in range(2):
        await env.step()
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def timer_fires_while_task_started(env: Env) -> None:
    """A timer that fires while a workflow task is started is buffered; one cancelled then never fires."""
    await env.start()
    await env.step(timer("t1", "1s"))
    await env.signal("s")
    task = await env.poll()
    async_wait = env.name("waiter")
    # Another run's timer of the same length, started later, tells that the first one is due.
    await env.start(workflow_id=async_wait, workflow_run_timeout="2s")
    await env.until_closed(workflow_id=async_wait)
    await env.history("while the task is started")
    await env.complete(task)
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def cancel_of_a_fired_buffered_timer(env: Env) -> None:
    """Cancelling a timer whose firing is buffered takes the firing back."""
    await env.start()
    await env.step(timer("t1", "1s"))
    await env.signal("s")
    task = await env.poll()
    waiter = env.name("waiter")
    await env.start(workflow_id=waiter, workflow_run_timeout="2s")
    await env.until_closed(workflow_id=waiter)
    await env.complete(task, command("CANCEL_TIMER", timer_id="t1"), complete_run())
    await env.history("the run")


@scenario
async def markers(env: Env) -> None:
    """Markers as SDKs write them for local activities and patches, with details, header and failure."""
    await env.start()
    await env.step(
        command(
            "RECORD_MARKER",
            marker_name="core_local_activity",
            details={"data": payloads({"seq": 1}), "result": payloads("r")},
        ),
        command("RECORD_MARKER", marker_name="core_patch", details={"patch-data": payloads({"id": "p"})}),
        command(
            "RECORD_MARKER",
            marker_name="own",
            header={"fields": {"h": payload("v")}},
            failure=failure("kept"),
        ),
        {**command("RECORD_MARKER", marker_name="noted"), "user_metadata": {"summary": payload("s")}},
        complete_run(),
    )
    await env.history("closed run")


@scenario
async def upsert_search_attributes(env: Env) -> None:
    """Search attributes added, changed and removed by the workflow; the description shows the sum."""
    await env.start(search_attributes={"indexed_fields": {"CustomKeyword": payload("a")}})
    await env.step(
        command(
            "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES",
            search_attributes={"indexed_fields": {"CustomKeyword": payload("b"), "CustomInt": payload(5)}},
        )
    )
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())
    await env.signal("go")
    null = {"metadata": {"encoding": b"binary/null"}}
    await env.step(
        command("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES", search_attributes={"indexed_fields": {"CustomInt": null}})
    )
    await env.show("describe after removal", "DescribeWorkflowExecution", execution=env.execution())
    await env.history("open run")


@scenario
async def upsert_memo(env: Env) -> None:
    """Memo fields added, changed and removed by the workflow; the description shows the sum."""
    await env.start(memo={"fields": {"a": payload(1), "b": payload(2)}})
    null = {"metadata": {"encoding": b"binary/null"}}
    await env.step(
        command("MODIFY_WORKFLOW_PROPERTIES", upserted_memo={"fields": {"a": payload(9), "b": null, "c": payload(3)}})
    )
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())
    await env.history("open run")


@scenario
async def command_user_metadata(env: Env) -> None:
    """Summary and details given with commands end on the events that the commands cause."""
    await env.start()
    meta = {"summary": payload("sum"), "details": payload("det")}
    from differential.env import schedule

    await env.step(
        {**timer("t1", "100s"), "user_metadata": meta},
        {**schedule(env), "user_metadata": meta},
        {**complete_run("r"), "user_metadata": meta},
    )
    await env.history("closed run")
