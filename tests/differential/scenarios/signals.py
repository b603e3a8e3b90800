"""Signals: before the first task, while a task is started, several at once, with everything a signal carries."""

from differential.env import Env, complete_run, link_to_another_run
from differential.registry import scenario
from harness.wire import payload, payloads


@scenario
async def signal_before_first_task(env: Env) -> None:
    """A signal before the first workflow task is polled goes into the history at once and makes no second task."""
    await env.start()
    await env.show(
        "signal",
        "SignalWorkflowExecution",
        workflow_execution=env.execution(),
        signal_name="s",
        input=payloads("in", 2),
        header={"fields": {"h": payload("v")}},
        request_id="r1",
    )
    task = await env.step(complete_run())
    env.response("first task", "PollWorkflowTaskQueue", task)
    await env.history("closed run")


@scenario
async def signals_while_task_started(env: Env) -> None:
    """Three signals while a workflow task is started are buffered in order and bring one new task."""
    await env.start()
    task = await env.poll()
    for number in range(3):
        await env.signal("s", number)
    await env.history("while started")
    await env.show("describe while started", "DescribeWorkflowExecution", execution=env.execution())
    await env.complete(task)
    await env.history("after completion")
    task = await env.poll()
    env.response("second task", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run())
    await env.history("closed run")


@scenario
async def signals_to_an_idle_run(env: Env) -> None:
    """Signals to a run without a task: the first schedules a task, the second joins it."""
    await env.start()
    await env.step()
    await env.signal("a", 1)
    await env.signal("b", 2)
    await env.history("two signals")
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def signal_request_id_deduplicates(env: Env) -> None:
    """The same request id signals once, while idle and while a task is started."""
    await env.start()
    await env.step()
    await env.signal("s", 1, request_id="same")
    await env.signal("s", 1, request_id="same")
    task = await env.poll()
    await env.signal("s", 1, request_id="same")
    await env.signal("s", 2, request_id="other")
    await env.signal("s", 2, request_id="other")
    await env.complete(task)
    await env.history("open run")


@scenario
async def unhandled_command(env: Env) -> None:
    """A completion that closes the run while a signal is buffered fails with UnhandledCommand, and the task comes again."""
    await env.start()
    task = await env.poll()
    await env.signal("s")
    await env.show(
        "refused", "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=[complete_run("early")]
    )
    await env.history("after the refusal")
    task = await env.poll()
    env.response("the task again", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run("late"))
    await env.history("closed run")


@scenario
async def signal_by_run_id_and_links(env: Env) -> None:
    """A signal that names its run and brings links."""
    run = await env.start()
    await env.signal(
        "s",
        workflow_execution=env.execution(run_id=run),
        links=[link_to_another_run(1, "WORKFLOW_EXECUTION_STARTED", "from")],
    )
    await env.history("open run")


@scenario
async def cancel_request_while_task_started(env: Env) -> None:
    """A cancel request while a task is started is buffered between two signals, in order."""
    await env.start()
    task = await env.poll()
    await env.signal("before")
    await env.rpc("RequestCancelWorkflowExecution", workflow_execution=env.execution(), request_id="c", reason="why")
    await env.signal("after")
    await env.complete(task)
    await env.history("open run")


@scenario
async def terminate_while_task_started(env: Env) -> None:
    """Termination while a task is started with a signal buffered: what of it is in the history."""
    await env.start()
    task = await env.poll()
    await env.signal("buffered")
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(), reason="now")
    await env.history("terminated run")
    await env.show("completion afterwards", "RespondWorkflowTaskCompleted", task_token=task.task_token)
