"""Workflow tasks: failure and attempts without events, time-outs, forced tasks, stickiness, what a completion may ask for."""

from differential.env import WORKER_BUG, Env, command, complete_run, schedule, timer
from differential.registry import scenario
from harness.wire import failure, payload, payloads


@scenario
async def task_failed_then_completed(env: Env) -> None:
    """The first failure is an event; the second attempt and its failure leave none; success writes the attempt's events."""
    await env.start()
    task = await env.poll()
    await env.show(
        "first failure",
        "RespondWorkflowTaskFailed",
        task_token=task.task_token,
        cause=WORKER_BUG,
        failure=failure("bug"),
    )
    await env.history("after the first failure")
    task = await env.poll()
    env.response("second attempt", "PollWorkflowTaskQueue", task)
    await env.show("describe during the second attempt", "DescribeWorkflowExecution", execution=env.execution())
    await env.show(
        "second failure", "RespondWorkflowTaskFailed", task_token=task.task_token, cause=WORKER_BUG, failure=failure("bug 2")
    )
    await env.history("after the second failure")
    task = await env.poll()
    env.response("third attempt", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run())
    await env.history("closed run")


@scenario
async def signal_during_a_transient_attempt(env: Env) -> None:
    """A signal while a second attempt is scheduled but not started turns it into a real task of attempt 1."""
    await env.start()
    task = await env.poll()
    await env.fail_task(task)
    await env.signal("s")
    await env.history("after the signal")
    task = await env.poll()
    env.response("next task", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run())
    await env.history("closed run")


@scenario
async def signal_during_a_started_transient_attempt(env: Env) -> None:
    """A signal while a second attempt is started is buffered until that attempt ends."""
    await env.start()
    task = await env.poll()
    await env.fail_task(task)
    task = await env.poll()
    await env.signal("s")
    await env.history("while the attempt is started")
    await env.complete(task)
    await env.history("after it completed")
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def task_fails_with_buffered_signal(env: Env) -> None:
    """A failed task with a signal buffered: the signal's event follows the failure, and the next task is attempt 1."""
    await env.start()
    task = await env.poll()
    await env.signal("s")
    await env.fail_task(task)
    await env.history("after the failure")
    task = await env.poll()
    env.response("next task", "PollWorkflowTaskQueue", task)


@scenario
async def task_times_out(env: Env) -> None:
    """A started workflow task that times out: the event, the next attempt, and the late answer refused."""
    await env.start(workflow_task_timeout="1s")
    late = await env.poll()
    task = await env.poll()
    env.response("second attempt", "PollWorkflowTaskQueue", task)
    await env.show("late completion", "RespondWorkflowTaskCompleted", task_token=late.task_token)
    await env.history("during the second attempt")
    await env.complete(task, complete_run())
    await env.history("closed run")


@scenario
async def failure_causes(env: Env) -> None:
    """Causes that a worker can give for a failed task, as recorded."""
    causes = (
        "UNSPECIFIED",
        "NON_DETERMINISTIC_ERROR",
        "RESET_STICKY_TASK_QUEUE",
        "FORCE_CLOSE_COMMAND",
    )
    for cause in causes:
        wid = env.name(cause.lower())
        await env.start(workflow_id=wid)
        task = await env.poll()
        await env.show(
            cause,
            "RespondWorkflowTaskFailed",
            task_token=task.task_token,
            cause=f"WORKFLOW_TASK_FAILED_CAUSE_{cause}",
            failure=failure("because"),
        )
        await env.history(cause, wid)
        await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid))


@scenario
async def forced_new_task(env: Env) -> None:
    """A completion that forces a new workflow task, returned with the answer or left for the poller."""
    await env.start()
    task = await env.poll()
    await env.complete(task, force_create_new_workflow_task=True)
    task = await env.poll()
    env.response("forced task", "PollWorkflowTaskQueue", task)
    response = await env.show(
        "returned with the answer",
        "RespondWorkflowTaskCompleted",
        task_token=task.task_token,
        return_new_workflow_task=True,
        force_create_new_workflow_task=True,
    )
    await env.rpc(
        "RespondWorkflowTaskCompleted", task_token=response.workflow_task.task_token, commands=[complete_run()]
    )
    await env.history("closed run")


@scenario
async def workflow_task_heartbeat(env: Env) -> None:
    """Forced tasks in a row, as a worker sends while a local activity runs: markers between, each with a new started event."""
    await env.start()
    task = await env.poll()
    token = task.task_token
    for number in range(2):
        response = await env.rpc(
            "RespondWorkflowTaskCompleted",
            task_token=token,
            commands=[command("RECORD_MARKER", marker_name=f"m{number}")],
            return_new_workflow_task=True,
            force_create_new_workflow_task=True,
        )
        env.response(f"task {number}", "RespondWorkflowTaskCompleted", response)
        token = response.workflow_task.task_token
    await env.rpc("RespondWorkflowTaskCompleted", task_token=token, commands=[complete_run()])
    await env.history("closed run")


@scenario
async def new_task_returned_when_events_came(env: Env) -> None:
    """return_new_workflow_task without force: a buffered signal's task comes back with the answer."""
    await env.start()
    task = await env.poll()
    await env.signal("s")
    response = await env.show(
        "answer", "RespondWorkflowTaskCompleted", task_token=task.task_token, return_new_workflow_task=True
    )
    if response.workflow_task.task_token:
        await env.rpc(
            "RespondWorkflowTaskCompleted", task_token=response.workflow_task.task_token, commands=[complete_run()]
        )
    await env.history("the run")


@scenario
async def sticky_task(env: Env) -> None:
    """A completion with sticky attributes: the next task is on the sticky queue and carries only the new events."""
    await env.start()
    task = await env.poll()
    await env.complete(task, **env.sticky("5s"))
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())
    waiting = await env.start_polling(env.sticky_queue())
    await env.signal("s")
    task = await waiting
    env.response("sticky task", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run())
    await env.history("closed run")


@scenario
async def sticky_times_out(env: Env) -> None:
    """Nobody polls the sticky queue: the time-out is an event, and the task falls back to the normal queue in full."""
    await env.start()
    task = await env.poll()
    await env.complete(task, **env.sticky("1s"))
    # A poll that ends empty makes the sticky queue known and its worker gone.
    await env.no_task("sticky poll", queue=env.sticky_queue())
    await env.signal("s")
    task = await env.poll()
    env.response("task on the normal queue", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run())
    await env.history("closed run")


@scenario
async def sticky_queue_never_polled(env: Env) -> None:
    """A sticky queue that nobody has ever polled: where the next task goes at once."""
    await env.start()
    task = await env.poll()
    await env.complete(task, **env.sticky("5s"))
    await env.signal("s")
    task = await env.poll()
    await env.complete(task, complete_run())
    await env.history("closed run")


@scenario
async def sticky_reset(env: Env) -> None:
    """ResetStickyTaskQueue: the next task is on the normal queue."""
    await env.start()
    task = await env.poll()
    await env.complete(task, **env.sticky("5s"))
    await env.show("reset", "ResetStickyTaskQueue", execution=env.execution())
    await env.signal("s")
    task = await env.poll()
    env.response("next task", "PollWorkflowTaskQueue", task)


@scenario
async def sticky_task_fails(env: Env) -> None:
    """A failed task on a sticky queue clears the stickiness: the next attempt is on the normal queue."""
    await env.start()
    task = await env.poll()
    await env.complete(task, **env.sticky("5s"))
    waiting = await env.start_polling(env.sticky_queue())
    await env.signal("s")
    task = await waiting
    await env.fail_task(task)
    task = await env.poll()
    env.response("next attempt", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run())
    await env.history("closed run")


@scenario
async def sticky_shutdown(env: Env) -> None:
    """ShutdownWorker with a sticky queue: tasks that come afterwards go to the normal queue."""
    await env.start()
    task = await env.poll()
    await env.complete(task, **env.sticky("5s"))
    await env.rpc("ShutdownWorker", sticky_task_queue=env.name("sticky"), reason="bye")
    await env.signal("s")
    task = await env.poll()
    await env.complete(task, complete_run())
    await env.history("closed run")


@scenario
async def one_task_outstanding(env: Env) -> None:
    """While a workflow task is started no other is handed out, whatever comes in."""
    await env.start()
    task = await env.poll()
    await env.signal("a")
    await env.rpc("RequestCancelWorkflowExecution", workflow_execution=env.execution())
    await env.no_task("a second task")
    await env.complete(task)
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def commands_after_close_are_dropped(env: Env) -> None:
    """Commands behind one that closes the run: what the server makes of them."""
    await env.start()
    task = await env.poll()
    await env.show(
        "completion",
        "RespondWorkflowTaskCompleted",
        task_token=task.task_token,
        commands=[complete_run("first"), timer("t1"), complete_run("second")],
    )
    await env.history("the run")


@scenario
async def everything_in_one_completion(env: Env) -> None:
    """Commands of many kinds in one completion: the events' order is the commands'."""
    await env.start()
    await env.step(
        timer("t1", "100s"),
        schedule(env, "a1"),
        command("RECORD_MARKER", marker_name="m", details={"d": payloads(1)}),
        command("MODIFY_WORKFLOW_PROPERTIES", upserted_memo={"fields": {"m": payload(1)}}),
        schedule(env, "a2"),
        command("CANCEL_TIMER", timer_id="t1"),
        command("REQUEST_CANCEL_ACTIVITY_TASK", scheduled_event_id=6),
    )
    await env.history("open run")


@scenario
async def task_completion_identity(env: Env) -> None:
    """The binary checksum and SDK metadata of a completion, as recorded and described."""
    await env.start()
    task = await env.poll()
    await env.complete(task, binary_checksum="abc", sdk_metadata={"lang_used_flags": [1]})
    await env.history("open run")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def task_completion_worker_version(env: Env) -> None:
    """The worker version stamp of a completion and of a failure, as recorded."""
    stamp = {"build_id": "b1", "use_versioning": False}
    await env.start()
    task = await env.poll()
    await env.complete(task, worker_version_stamp=stamp)
    await env.signal("s")
    task = await env.poll()
    await env.rpc(
        "RespondWorkflowTaskFailed", task_token=task.task_token, failure=failure("bug"), worker_version=stamp
    )
    await env.history("open run")
