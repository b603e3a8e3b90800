"""Activities: completion, retries, the four time-outs, heartbeats, cancellation, completion by token and by id."""

from differential.env import Env, command, complete_run, schedule
from differential.registry import scenario
from harness.wire import failure, payload, payloads


def cancel_activity(scheduled_event_id: int) -> dict[str, object]:
    return command("REQUEST_CANCEL_ACTIVITY_TASK", scheduled_event_id=scheduled_event_id)


@scenario
async def one_activity(env: Env) -> None:
    """One activity completed by token: its task, its events, the next workflow task, the description between."""
    await env.start()
    await env.step(schedule(env, header={"fields": {"h": payload("v")}}, user_metadata=None))
    await env.show("describe when scheduled", "DescribeWorkflowExecution", execution=env.execution())
    task = await env.poll_activity()
    env.response("activity task", "PollActivityTaskQueue", task)
    await env.history("while it runs")
    await env.show("describe when started", "DescribeWorkflowExecution", execution=env.execution())
    await env.show(
        "completed", "RespondActivityTaskCompleted", task_token=task.task_token, result=payloads("out")
    )
    task = await env.poll()
    env.response("second workflow task", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run("done"))
    await env.history("closed run")


@scenario
async def activity_timeouts_are_filled_in(env: Env) -> None:
    """How the server fills in and cuts an activity's time-outs and retry policy, under a run time-out of 100 s."""
    await env.start(workflow_run_timeout="100s")
    policy = {"initial_interval": "3s", "backoff_coefficient": 1.0, "maximum_interval": "9s", "maximum_attempts": 2}
    await env.step(
        schedule(env, "start-to-close"),
        schedule(env, "schedule-to-close", start_to_close_timeout=None, schedule_to_close_timeout="20s"),
        schedule(env, "start longer than schedule", start_to_close_timeout="50s", schedule_to_close_timeout="20s"),
        schedule(env, "all longer than the run", start_to_close_timeout="500s", schedule_to_close_timeout="900s"),
        schedule(env, "schedule-to-start", schedule_to_start_timeout="5s", heartbeat_timeout="60s"),
        schedule(env, "heartbeat longer than start", heartbeat_timeout="600s"),
        schedule(env, "policy", retry_policy=policy),
        schedule(env, "empty policy", retry_policy={}),
        schedule(env, "own queue", task_queue={"name": env.name("other")}),
    )
    await env.history("scheduled")


@scenario
async def activity_retries_then_succeeds(env: Env) -> None:
    """Two failed attempts leave no events; the started event carries the attempt and the last failure."""
    await env.start()
    await env.step(schedule(env, retry_policy={"initial_interval": "0.5s", "backoff_coefficient": 1}))
    for attempt in (1, 2):
        task = await env.poll_activity()
        env.note("attempt", task.attempt)
        await env.show(
            f"failed {attempt}", "RespondActivityTaskFailed", task_token=task.task_token, failure=failure(f"no {attempt}")
        )
        await env.show(f"describe after {attempt}", "DescribeWorkflowExecution", execution=env.execution())
    task = await env.poll_activity()
    env.response("third attempt", "PollActivityTaskQueue", task)
    await env.rpc("RespondActivityTaskCompleted", task_token=task.task_token, result=payloads("ok"))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def activity_maximum_attempts(env: Env) -> None:
    """After the last attempt the activity fails in the history, with the retry state."""
    await env.start()
    await env.step(schedule(env, retry_policy={"initial_interval": "0.2s", "maximum_attempts": 2}))
    for attempt in (1, 2):
        task = await env.poll_activity()
        await env.rpc(
            "RespondActivityTaskFailed", task_token=task.task_token, failure=failure(f"no {attempt}", details=payloads(attempt))
        )
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def activity_non_retryable(env: Env) -> None:
    """A failure type on the policy's list, and a failure that says so itself, end the activity at once."""
    await env.start()
    policy = {"initial_interval": "0.2s", "non_retryable_error_types": ["Fatal"]}
    await env.step(schedule(env, "a1", retry_policy=policy))
    task = await env.poll_activity()
    await env.rpc("RespondActivityTaskFailed", task_token=task.task_token, failure=failure("listed", "Fatal"))
    await env.step(schedule(env, "a2", retry_policy=policy))
    task = await env.poll_activity()
    await env.rpc(
        "RespondActivityTaskFailed", task_token=task.task_token, failure=failure("itself", "Other", non_retryable=True)
    )
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def activity_next_retry_delay(env: Env) -> None:
    """A failure may name its own delay before the next attempt, shorter or longer than the policy's."""
    await env.start()
    await env.step(schedule(env, retry_policy={"initial_interval": "100s", "maximum_attempts": 3}))
    task = await env.poll_activity()
    await env.rpc(
        "RespondActivityTaskFailed", task_token=task.task_token, failure=failure("soon", next_retry_delay="0.5s")
    )
    task = await env.poll_activity()
    env.response("second attempt", "PollActivityTaskQueue", task)
    await env.rpc(
        "RespondActivityTaskFailed", task_token=task.task_token, failure=failure("late", next_retry_delay="300s")
    )
    await env.show("describe while it waits", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def activity_retry_exceeds_schedule_to_close(env: Env) -> None:
    """A retry that could only start after schedule-to-close is not tried: the failure is final with that retry state."""
    await env.start()
    await env.step(
        schedule(env, schedule_to_close_timeout="3s", start_to_close_timeout="2s", retry_policy={"initial_interval": "60s"})
    )
    task = await env.poll_activity()
    await env.rpc("RespondActivityTaskFailed", task_token=task.task_token, failure=failure("no time"))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def timeout_schedule_to_start(env: Env) -> None:
    """Schedule-to-start: nobody polls; the time-out is never retried."""
    await env.start()
    await env.step(schedule(env, schedule_to_start_timeout="1s", task_queue={"name": env.name("nobody")}))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def timeout_start_to_close(env: Env) -> None:
    """Start-to-close: the attempt times out, is retried, and the last one is recorded with its cause."""
    await env.start()
    await env.step(
        schedule(env, start_to_close_timeout="1s", retry_policy={"initial_interval": "0.2s", "maximum_attempts": 2})
    )
    await env.poll_activity()
    task = await env.poll_activity()
    env.response("second attempt", "PollActivityTaskQueue", task)
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def timeout_start_to_close_once(env: Env) -> None:
    """Start-to-close with a single attempt."""
    await env.start()
    await env.step(schedule(env, start_to_close_timeout="1s", retry_policy={"maximum_attempts": 1}))
    await env.poll_activity()
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def timeout_schedule_to_close(env: Env) -> None:
    """Schedule-to-close while an attempt runs, after an earlier failure."""
    await env.start()
    await env.step(
        schedule(
            env,
            start_to_close_timeout=None,
            schedule_to_close_timeout="2s",
            retry_policy={"initial_interval": "0.2s", "backoff_coefficient": 1},
        )
    )
    task = await env.poll_activity()
    await env.rpc("RespondActivityTaskFailed", task_token=task.task_token, failure=failure("first"))
    await env.poll_activity()
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def timeout_schedule_to_close_not_started(env: Env) -> None:
    """Schedule-to-close of an activity that nobody ever polls."""
    await env.start()
    await env.step(
        schedule(
            env, start_to_close_timeout=None, schedule_to_close_timeout="1s", task_queue={"name": env.name("nobody")}
        )
    )
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def timeout_heartbeat_with_details(env: Env) -> None:
    """Heartbeat time-out: the last details are in the failure and are handed to the next attempt."""
    await env.start()
    await env.step(
        schedule(env, heartbeat_timeout="1s", retry_policy={"initial_interval": "0.2s", "maximum_attempts": 2})
    )
    task = await env.poll_activity()
    await env.show(
        "heartbeat", "RecordActivityTaskHeartbeat", task_token=task.task_token, details=payloads("progress", 1)
    )
    await env.show("describe after the heartbeat", "DescribeWorkflowExecution", execution=env.execution())
    task = await env.poll_activity()
    env.response("second attempt", "PollActivityTaskQueue", task)
    await env.rpc("RecordActivityTaskHeartbeat", task_token=task.task_token, details=payloads("progress", 2))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def heartbeat_details_at_retry(env: Env) -> None:
    """Details of a heartbeat, and details sent with the failure itself, reach the next attempt."""
    await env.start()
    await env.step(schedule(env, heartbeat_timeout="30s", retry_policy={"initial_interval": "0.2s"}))
    task = await env.poll_activity()
    await env.rpc("RecordActivityTaskHeartbeat", task_token=task.task_token, details=payloads("hb"))
    await env.rpc("RespondActivityTaskFailed", task_token=task.task_token, failure=failure("one"))
    task = await env.poll_activity()
    env.response("second attempt", "PollActivityTaskQueue", task)
    await env.rpc(
        "RespondActivityTaskFailed",
        task_token=task.task_token,
        failure=failure("two"),
        last_heartbeat_details=payloads("with the failure"),
    )
    task = await env.poll_activity()
    env.response("third attempt", "PollActivityTaskQueue", task)


@scenario
async def cancel_activity_before_start(env: Env) -> None:
    """A cancel request for an activity that nobody has started cancels it at once."""
    await env.start()
    await env.step(schedule(env, task_queue={"name": env.name("nobody")}))
    await env.signal("go")
    await env.step(cancel_activity(5))
    await env.history("after the request")
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def cancel_activity_in_the_same_task(env: Env) -> None:
    """Scheduled and cancelled in one completion: both events, and the activity is never handed out."""
    await env.start()
    await env.step(schedule(env), cancel_activity(5))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def cancel_activity_heard_by_heartbeat(env: Env) -> None:
    """A started activity hears of its cancellation with its next heartbeat, and reports itself cancelled."""
    await env.start()
    await env.step(schedule(env, heartbeat_timeout="30s"))
    task = await env.poll_activity()
    await env.show("heartbeat before", "RecordActivityTaskHeartbeat", task_token=task.task_token)
    await env.signal("go")
    await env.step(cancel_activity(5))
    await env.show("heartbeat after", "RecordActivityTaskHeartbeat", task_token=task.task_token)
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())
    await env.show(
        "cancelled", "RespondActivityTaskCanceled", task_token=task.task_token, details=payloads("cleaned up")
    )
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def activity_ignores_cancellation(env: Env) -> None:
    """An activity that completes although its cancellation was requested: the completion counts."""
    await env.start()
    await env.step(schedule(env))
    task = await env.poll_activity()
    await env.signal("go")
    await env.step(cancel_activity(5))
    await env.rpc("RespondActivityTaskCompleted", task_token=task.task_token, result=payloads("anyway"))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def activity_fails_after_cancel_request(env: Env) -> None:
    """A failure after a cancel request is not retried."""
    await env.start()
    await env.step(schedule(env, retry_policy={"initial_interval": "0.2s", "maximum_attempts": 5}))
    task = await env.poll_activity()
    await env.signal("go")
    await env.step(cancel_activity(5))
    await env.rpc("RespondActivityTaskFailed", task_token=task.task_token, failure=failure("while cancelling"))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def activity_times_out_after_cancel_request(env: Env) -> None:
    """A start-to-close time-out after a cancel request: not retried either."""
    await env.start()
    await env.step(
        schedule(env, start_to_close_timeout="2s", retry_policy={"initial_interval": "0.2s", "maximum_attempts": 5})
    )
    await env.poll_activity()
    await env.signal("go")
    await env.step(cancel_activity(5))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def cancel_activity_while_it_backs_off(env: Env) -> None:
    """A cancel request between two attempts cancels the activity at once."""
    await env.start()
    await env.step(schedule(env, retry_policy={"initial_interval": "60s"}))
    task = await env.poll_activity()
    await env.rpc("RespondActivityTaskFailed", task_token=task.task_token, failure=failure("first"))
    await env.signal("go")
    await env.step(cancel_activity(5))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def cancelled_without_request(env: Env) -> None:
    """RespondActivityTaskCanceled for an activity whose cancellation nobody requested."""
    await env.start()
    await env.step(schedule(env, retry_policy={"maximum_attempts": 1}))
    task = await env.poll_activity()
    await env.show("cancelled", "RespondActivityTaskCanceled", task_token=task.task_token)
    await env.history("the run")


@scenario
async def completion_by_id(env: Env) -> None:
    """An activity completed by workflow, run and activity id, with and without the run id."""
    run = await env.start()
    await env.step(schedule(env, "a1"), schedule(env, "a2"))
    await env.poll_activity()
    await env.poll_activity()
    common = {"workflow_id": env.wid}
    await env.show(
        "first", "RespondActivityTaskCompletedById", **common, run_id=run, activity_id="a1", result=payloads("r1")
    )
    await env.show(
        "second, no run id", "RespondActivityTaskCompletedById", **common, activity_id="a2", result=payloads("r2")
    )
    await env.show("again", "RespondActivityTaskCompletedById", **common, activity_id="a2", result=payloads("r3"))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def failure_by_id(env: Env) -> None:
    """An activity failed by id is retried like any other, then fails for good."""
    await env.start()
    await env.step(schedule(env, retry_policy={"initial_interval": "0.2s", "maximum_attempts": 2}))
    fields = {"workflow_id": env.wid, "activity_id": "a1"}
    await env.poll_activity()
    await env.show("first", "RespondActivityTaskFailedById", **fields, failure=failure("by id 1"))
    task = await env.poll_activity()
    env.note("attempt", task.attempt)
    await env.show("second", "RespondActivityTaskFailedById", **fields, failure=failure("by id 2"))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def heartbeat_and_cancel_by_id(env: Env) -> None:
    """Heartbeats by id hear of the cancellation, and the activity is reported cancelled by id."""
    await env.start()
    await env.step(schedule(env, heartbeat_timeout="30s"))
    await env.poll_activity()
    fields = {"workflow_id": env.wid, "activity_id": "a1"}
    await env.show("heartbeat", "RecordActivityTaskHeartbeatById", **fields, details=payloads("p"))
    await env.signal("go")
    await env.step(cancel_activity(5))
    await env.show("heartbeat after the request", "RecordActivityTaskHeartbeatById", **fields)
    await env.show("cancelled", "RespondActivityTaskCanceledById", **fields, details=payloads("d"))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def activity_results_are_buffered(env: Env) -> None:
    """Two activities that end while a workflow task is started: their events wait for its end, then come together."""
    await env.start()
    await env.step(schedule(env, "a1"), schedule(env, "a2"))
    first, second = await env.poll_activities(2)
    await env.signal("s")
    task = await env.poll()
    await env.rpc("RespondActivityTaskCompleted", task_token=first.task_token, result=payloads(1))
    await env.rpc("RespondActivityTaskFailed", task_token=second.task_token,
                  failure=failure("f", non_retryable=True))
    await env.history("while the task is started")
    await env.complete(task)
    task = await env.poll()
    env.response("task with both", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run())
    await env.history("closed run")


@scenario
async def many_activities_one_completion(env: Env) -> None:
    """Five activities scheduled in one completion, on two queues, ended in another order."""
    await env.start()
    await env.step(*(schedule(env, f"a{each}", input=payloads(each)) for each in range(5)))
    tasks = await env.poll_activities(5)
    env.note("handed out", [each.activity_id for each in tasks])
    for each in reversed(tasks):
        await env.rpc("RespondActivityTaskCompleted", task_token=each.task_token, result=payloads(each.activity_id))
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def eager_activity_execution(env: Env) -> None:
    """A completion that asks for eager execution gets the activity task in its answer."""
    await env.start()
    task = await env.poll()
    response = await env.show(
        "completed",
        "RespondWorkflowTaskCompleted",
        task_token=task.task_token,
        commands=[schedule(env, request_eager_execution=True)],
    )
    for each in response.activity_tasks:
        await env.rpc("RespondActivityTaskCompleted", task_token=each.task_token, result=payloads("eager"))
    if response.activity_tasks:
        await env.step(complete_run())
    await env.history("the run")
