"""Starting and closing runs: completion, failure, cancellation, continue-as-new, and what a start may carry."""

from differential.env import Env, command, complete_run, schedule
from differential.registry import scenario
from harness.wire import failure, payload, payloads


@scenario
async def plain_completion(env: Env) -> None:
    """One workflow task completes the run with a result; the poll response, the history and the description of it."""
    await env.show("start", "StartWorkflowExecution", **env.start_fields(input=payloads("hello", 1)))
    task = await env.poll()
    env.response("first workflow task", "PollWorkflowTaskQueue", task)
    await env.show(
        "completed", "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=[complete_run("bye")]
    )
    await env.history("closed run")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def completion_without_result(env: Env) -> None:
    """A run completed without a result and with worker metadata of the task."""
    await env.start()
    task = await env.poll()
    await env.complete(
        task,
        complete_run(),
        sdk_metadata={"core_used_flags": [1, 2], "lang_used_flags": [3], "sdk_name": "test", "sdk_version": "1.2"},
        metering_metadata={"nonfirst_local_activity_execution_attempts": 2},
    )
    await env.history("closed run")


@scenario
async def fail_run(env: Env) -> None:
    """A run failed by its workflow, with a cause and details, and no retry policy."""
    await env.start()
    fail = failure("boom", "MyError", details=payloads("d1"))
    fail["cause"] = failure("inner", "Inner", non_retryable=True)
    fail["stack_trace"] = "line 1\nline 2"
    await env.step(command("FAIL_WORKFLOW_EXECUTION", failure=fail))
    await env.history("failed run")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def cancel_run(env: Env) -> None:
    """A cancel request, a second one, and the workflow answering with CancelWorkflowExecution and details."""
    await env.start()
    await env.step()
    await env.show(
        "cancel request",
        "RequestCancelWorkflowExecution",
        workflow_execution=env.execution(),
        request_id="r1",
        reason="enough",
    )
    await env.show(
        "same request again", "RequestCancelWorkflowExecution", workflow_execution=env.execution(), request_id="r1"
    )
    await env.show(
        "another request", "RequestCancelWorkflowExecution", workflow_execution=env.execution(), request_id="r2"
    )
    task = await env.poll()
    env.response("task after the request", "PollWorkflowTaskQueue", task)
    await env.complete(task, command("CANCEL_WORKFLOW_EXECUTION", details=payloads("ok")))
    await env.history("cancelled run")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())
    await env.show(
        "request on the closed run",
        "RequestCancelWorkflowExecution",
        workflow_execution=env.execution(),
        request_id="r3",
    )


@scenario
async def cancel_before_first_task(env: Env) -> None:
    """A cancel request that arrives before the first workflow task is polled rides on that task."""
    await env.start()
    await env.rpc("RequestCancelWorkflowExecution", workflow_execution=env.execution(), reason="early")
    task = await env.step(command("CANCEL_WORKFLOW_EXECUTION"))
    env.response("first workflow task", "PollWorkflowTaskQueue", task)
    await env.history("cancelled run")


@scenario
async def start_carries_everything(env: Env) -> None:
    """A start with memo, header, search attributes, time-outs, retry policy, user metadata, priority, and a description."""
    await env.start(
        input=payloads({"a": 1}),
        memo={"fields": {"note": payload("m")}},
        header={"fields": {"trace": payload("h")}},
        search_attributes={"indexed_fields": {"CustomKeyword": payload("k"), "CustomInt": payload(7)}},
        workflow_execution_timeout="3600s",
        workflow_run_timeout="1800s",
        workflow_task_timeout="20s",
        retry_policy={
            "initial_interval": "2s",
            "backoff_coefficient": 1.5,
            "maximum_interval": "60s",
            "maximum_attempts": 3,
            "non_retryable_error_types": ["Fatal"],
        },
        user_metadata={"summary": payload("sum"), "details": payload("det")},
        priority={"priority_key": 2},
    )
    await env.show("describe when scheduled", "DescribeWorkflowExecution", execution=env.execution())
    task = await env.poll()
    env.response("first workflow task", "PollWorkflowTaskQueue", task)
    await env.show("describe when started", "DescribeWorkflowExecution", execution=env.execution())
    await env.complete(task, schedule(env))
    await env.show("describe with an activity", "DescribeWorkflowExecution", execution=env.execution())
    await env.history("open run")


@scenario
async def timeouts_are_capped(env: Env) -> None:
    """How the server cuts time-outs: run longer than execution, task longer than run, nothing given at all."""
    await env.start(workflow_id=env.name("a"), workflow_execution_timeout="10s", workflow_run_timeout="20s")
    await env.start(workflow_id=env.name("b"), workflow_run_timeout="5s", workflow_task_timeout="60s")
    await env.start(workflow_id=env.name("c"), workflow_task_timeout="600s")
    await env.start(workflow_id=env.name("d"), workflow_execution_timeout="10s")
    for each in "abcd":
        await env.history(each, env.name(each))


@scenario
async def start_delay(env: Env) -> None:
    """A delayed start: the first workflow task comes after the delay; a signal meanwhile does not wake it."""
    await env.start(workflow_start_delay="2s")
    await env.show("describe while delayed", "DescribeWorkflowExecution", execution=env.execution())
    await env.signal("s1")
    await env.history("before the delay is over")
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def continue_as_new(env: Env) -> None:
    """Continue-as-new with new input, type, memo and header: the closing event, the new run's start, and the chain's ids."""
    run = await env.start(
        input=payloads("one"),
        memo={"fields": {"m": payload(1)}},
        search_attributes={"indexed_fields": {"CustomKeyword": payload("k")}},
        workflow_run_timeout="100s",
        workflow_execution_timeout="1000s",
    )
    await env.step(
        command(
            "CONTINUE_AS_NEW_WORKFLOW_EXECUTION",
            workflow_type={"name": "Second"},
            task_queue={"name": env.tq},
            input=payloads("two"),
            workflow_run_timeout="50s",
            workflow_task_timeout="5s",
            header={"fields": {"h": payload("v")}},
            memo={"fields": {"m2": payload(2)}},
        )
    )
    await env.history("first run", run_id=run)
    await env.step(complete_run("done"))
    await env.history("second run")
    await env.show("describe first", "DescribeWorkflowExecution", execution=env.execution(run_id=run))
    await env.show("describe second", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def continue_as_new_bare(env: Env) -> None:
    """Continue-as-new with nothing but a type: what the new run takes over from the old one."""
    run = await env.start(
        input=payloads("one"),
        memo={"fields": {"m": payload(1)}},
        header={"fields": {"trace": payload("h")}},
        search_attributes={"indexed_fields": {"CustomKeyword": payload("k")}},
        workflow_run_timeout="100s",
        workflow_task_timeout="7s",
        retry_policy={"initial_interval": "1s", "maximum_attempts": 4},
    )
    await env.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"}))
    await env.history("first run", run_id=run)
    await env.step(complete_run())
    await env.history("second run")


@scenario
async def continue_as_new_with_backoff(env: Env) -> None:
    """Continue-as-new that asks for a back-off before the next run's first task."""
    await env.start()
    await env.step(
        command(
            "CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"}, backoff_start_interval="2s"
        )
    )
    await env.history("second run, waiting")
    await env.step(complete_run())
    await env.history("second run, closed")


@scenario
async def workflow_retry_policy(env: Env) -> None:
    """A run that fails under a retry policy: each attempt a new run with back-off, the last one stays failed."""
    first = await env.start(
        retry_policy={"initial_interval": "1s", "backoff_coefficient": 2, "maximum_attempts": 3}, input=payloads("x")
    )
    runs = [first]
    for attempt in range(3):
        task = await env.poll()
        env.note("attempt", attempt + 1)
        if task.workflow_execution.run_id not in runs:
            runs.append(task.workflow_execution.run_id)
        await env.complete(task, command("FAIL_WORKFLOW_EXECUTION", failure=failure(f"fails {attempt + 1}")))
    for number, run in enumerate(runs):
        await env.history(f"run {number + 1}", run_id=run)
    await env.show("describe last", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def workflow_retry_non_retryable(env: Env) -> None:
    """A workflow retry policy does not retry a failure type on its list, nor a failure that says so itself."""
    for name, fail in (("a", failure("listed", "Fatal")), ("b", failure("itself", "Other", non_retryable=True))):
        await env.start(
            workflow_id=env.name(name),
            retry_policy={"initial_interval": "1s", "non_retryable_error_types": ["Fatal"], "maximum_attempts": 3},
        )
        await env.step(command("FAIL_WORKFLOW_EXECUTION", failure=fail))
        await env.history(name, env.name(name))


@scenario
async def workflow_retry_then_success(env: Env) -> None:
    """A workflow retry policy, a failure with a next retry delay of its own, then success in the second run."""
    first = await env.start(retry_policy={"initial_interval": "100s", "maximum_attempts": 5})
    await env.step(
        command("FAIL_WORKFLOW_EXECUTION", failure=failure("later", "Later", next_retry_delay="1s"))
    )
    await env.step(complete_run("at last"))
    await env.history("first run", run_id=first)
    await env.history("second run")


@scenario
async def execution_timeout(env: Env) -> None:
    """The workflow execution time-out closes the run, whether or not a retry policy is there."""
    await env.start(workflow_execution_timeout="2s", retry_policy={"initial_interval": "1s"})
    await env.step(schedule(env))
    await env.until_closed()
    await env.history("timed out")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def run_timeout(env: Env) -> None:
    """The workflow run time-out closes a run that nobody worked on."""
    await env.start(workflow_run_timeout="1s")
    await env.until_closed()
    await env.history("timed out")


@scenario
async def run_timeout_with_retry(env: Env) -> None:
    """The workflow run time-out under a retry policy starts the next attempt."""
    first = await env.start(workflow_run_timeout="1s", retry_policy={"initial_interval": "1s", "maximum_attempts": 2})
    await env.until_closed(run_id=first)
    await env.history("first run", run_id=first)
    await env.step(complete_run("second"))
    await env.history("second run")


@scenario
async def request_id_deduplicates_start(env: Env) -> None:
    """A start with the same request id answers with the same run, open or closed; another id is refused."""
    fields = env.start_fields(request_id="same")
    await env.show("first", "StartWorkflowExecution", **fields)
    await env.show("again", "StartWorkflowExecution", **fields)
    await env.show("other id", "StartWorkflowExecution", **env.start_fields(request_id="other"))
    await env.step(complete_run())
    await env.show("again after it closed", "StartWorkflowExecution", **fields)
    await env.history("one run")


@scenario
async def eager_workflow_start(env: Env) -> None:
    """A start that asks for eager execution gets its first workflow task in the answer."""
    response = await env.show(
        "start", "StartWorkflowExecution", **env.start_fields(request_eager_execution=True, input=payloads("e"))
    )
    token = response.eager_workflow_task.task_token
    await env.rpc("RespondWorkflowTaskCompleted", task_token=token, commands=[complete_run("eager")])
    await env.history("closed run")
