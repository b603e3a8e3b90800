"""Child workflows: started, finished in every way, refused; what parent and child know of each other."""

import asyncio

from differential.env import Env, command, complete_run, timer
from differential.registry import scenario
from harness.wire import failure, payload, payloads


def child(env: Env, name: str = "child", **attributes: object) -> dict[str, object]:
    """Starts a child on a queue of the children's own; None takes a field out."""
    base = {
        "workflow_id": env.name(name),
        "workflow_type": {"name": "Child"},
        "task_queue": {"name": children_queue(env)},
        "input": payloads("to child"),
    }
    return command(
        "START_CHILD_WORKFLOW_EXECUTION",
        **{key: value for key, value in {**base, **attributes}.items() if value is not None},
    )


def children_queue(env: Env) -> str:
    return env.name("child-tq")


async def child_step(env: Env, *commands: dict[str, object]) -> object:
    """The next workflow task of any child, completed with these commands."""
    task = await env.poll(children_queue(env))
    await env.complete(task, *commands)
    return task


async def with_child(env: Env, **attributes: object) -> str:
    """Starts a parent with one child, and returns the parent's run id once the parent knows that the child runs."""
    run = await env.start()
    await env.step(child(env, **attributes))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED")
    return run


@scenario
async def child_completes(env: Env) -> None:
    """A child that completes with a result: all events of both, and descriptions of both while the child runs."""
    await with_child(env)
    await env.history("parent, child running")
    await env.show("describe parent", "DescribeWorkflowExecution", execution=env.execution())
    await env.show("describe child", "DescribeWorkflowExecution", execution=env.execution(env.name("child")))
    await env.step()
    task = await env.poll(children_queue(env))
    env.response("child's first task", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run("from child"))
    task = await env.poll()
    env.response("parent's task", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run())
    await env.history("parent, closed")
    await env.history("child", env.name("child"))
    await env.show("describe closed child", "DescribeWorkflowExecution", execution=env.execution(env.name("child")))


@scenario
async def child_fails(env: Env) -> None:
    """A child that fails with a cause and details."""
    await with_child(env)
    await env.step()
    fail = failure("boom", "MyError", details=payloads("d"))
    fail["cause"] = failure("inner", "Inner", non_retryable=True)
    await child_step(env, command("FAIL_WORKFLOW_EXECUTION", failure=fail))
    await env.step(complete_run())
    await env.history("parent")


@scenario
async def child_cancelled(env: Env) -> None:
    """A parent that asks its child to cancel; the child does, with details."""
    await with_child(env)
    await env.step(
        command(
            "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION",
            workflow_id=env.name("child"),
            child_workflow_only=True,
            reason="enough",
        )
    )
    await env.until_event("EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED")
    await env.step()
    await child_step(env, command("CANCEL_WORKFLOW_EXECUTION", details=payloads("ok")))
    await env.step(complete_run())
    await env.history("parent")
    await env.history("child", env.name("child"))


@scenario
async def child_terminated(env: Env) -> None:
    """A child that is terminated from outside."""
    await with_child(env)
    await env.step()
    await env.rpc(
        "TerminateWorkflowExecution",
        workflow_execution=env.execution(env.name("child")),
        reason="outside",
        details=payloads("d"),
    )
    await env.step(complete_run())
    await env.history("parent")
    await env.history("child", env.name("child"))


@scenario
async def child_times_out(env: Env) -> None:
    """A child that runs into its run time-out, and one that runs into its execution time-out."""
    for name in ("run", "execution"):
        wid = env.name(name)
        await env.start(workflow_id=wid)
        await env.step(child(env, f"child by {name}", **{f"workflow_{name}_timeout": "1s"}))
        await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED", workflow_id=wid)
        await env.step()
        await env.step(complete_run())
        await env.history(f"parent, {name} time-out", wid)
        await env.history(f"child, {name} time-out", env.name(f"child by {name}"))


@scenario
async def child_retries(env: Env) -> None:
    """A child under a retry policy: the parent hears of the last attempt only."""
    await with_child(env, retry_policy={"initial_interval": "1s", "maximum_attempts": 3})
    await env.step()
    first = await child_step(env, command("FAIL_WORKFLOW_EXECUTION", failure=failure("once")))
    await env.show("describe parent between attempts", "DescribeWorkflowExecution", execution=env.execution())
    await child_step(env, complete_run("second attempt"))
    await env.step(complete_run())
    await env.history("parent")
    await env.history("first attempt", env.name("child"), first.workflow_execution.run_id)
    await env.history("second attempt", env.name("child"))


@scenario
async def child_fails_after_retries(env: Env) -> None:
    """A child whose retries are used up fails the parent's call with the retry state."""
    await with_child(env, retry_policy={"initial_interval": "1s", "maximum_attempts": 2})
    await env.step()
    for attempt in range(2):
        await child_step(env, command("FAIL_WORKFLOW_EXECUTION", failure=failure(f"attempt {attempt + 1}")))
    await env.step(complete_run())
    await env.history("parent")


@scenario
async def child_continues_as_new(env: Env) -> None:
    """A child that continues as new twice: the parent gets the last run's result; the child's runs keep parent and root."""
    await with_child(env)
    await env.step()
    for number in range(2):
        await child_step(
            env,
            command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Child"}, input=payloads(number)),
        )
    await env.show("describe parent", "DescribeWorkflowExecution", execution=env.execution())
    await env.show("describe child", "DescribeWorkflowExecution", execution=env.execution(env.name("child")))
    await child_step(env, complete_run("third run"))
    await env.step(complete_run())
    await env.history("parent")
    await env.history("child's third run", env.name("child"))


@scenario
async def child_id_is_taken(env: Env) -> None:
    """A child whose id belongs to an open run, under each reuse policy."""
    for policy in ("ALLOW_DUPLICATE", "ALLOW_DUPLICATE_FAILED_ONLY", "REJECT_DUPLICATE", "TERMINATE_IF_RUNNING"):
        wid = env.name(policy.lower())
        holder = env.name("taken")
        await env.rpc(
            "StartWorkflowExecution",
            **env.start_fields(
                workflow_id=holder,
                task_queue={"name": env.name("nobody")},
                workflow_id_reuse_policy="WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING",
            ),
        )
        await env.start(workflow_id=wid)
        await env.step(child(env, "taken", workflow_id_reuse_policy=f"WORKFLOW_ID_REUSE_POLICY_{policy}"))
        await env.step(complete_run())
        await env.history(policy, wid)


@scenario
async def child_id_was_used(env: Env) -> None:
    """A child whose id belongs to a completed and to a failed run, under the policies that look at it."""
    ends = {"completed": complete_run(), "failed": command("FAIL_WORKFLOW_EXECUTION", failure=failure("f"))}
    for end, closing in ends.items():
        used = env.name(f"used and {end}")
        await env.start(workflow_id=used)
        await env.step(closing)
        for policy in ("REJECT_DUPLICATE", "ALLOW_DUPLICATE_FAILED_ONLY"):
            wid = env.name(f"{policy.lower()} over {end}")
            await env.start(workflow_id=wid)
            await env.step(
                child(env, f"used and {end}", workflow_id_reuse_policy=f"WORKFLOW_ID_REUSE_POLICY_{policy}")
            )
            await env.step(complete_run())
            await env.history(f"{policy} over a run that {end}", wid)


@scenario
async def child_id_is_the_parents(env: Env) -> None:
    """A child with its parent's own workflow id."""
    await env.start()
    await env.step(child(env, "wf"))
    await env.step(complete_run())
    await env.history("parent")


@scenario
async def child_of_another_parent_in_the_same_task(env: Env) -> None:
    """Two children with one id in one completion: the second is refused."""
    await env.start()
    await env.step(child(env, "twin", parent_close_policy="PARENT_CLOSE_POLICY_ABANDON"), child(env, "twin"))
    await env.until_event("START_CHILD_WORKFLOW_EXECUTION_FAILED")
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED")
    events = await env.events()
    refused = [each for each in events if each.HasField("start_child_workflow_execution_failed_event_attributes")]
    env.note("refused", [each.start_child_workflow_execution_failed_event_attributes.cause for each in refused])
    description = await env.rpc("DescribeWorkflowExecution", execution=env.execution())
    env.note("pending children", len(description.pending_children))


@scenario
async def child_carries_everything(env: Env) -> None:
    """A child with memo, header, search attributes, time-outs, retry policy, priority and user metadata."""
    await env.start()
    begin = child(
        env,
        memo={"fields": {"m": payload(1)}},
        header={"fields": {"h": payload("v")}},
        search_attributes={"indexed_fields": {"CustomKeyword": payload("k"), "CustomInt": payload(3)}},
        workflow_execution_timeout="3600s",
        workflow_run_timeout="1800s",
        workflow_task_timeout="20s",
        retry_policy={"initial_interval": "2s", "maximum_attempts": 3, "non_retryable_error_types": ["Fatal"]},
        priority={"priority_key": 2},
        control="control",
        workflow_id_reuse_policy="WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY",
        parent_close_policy="PARENT_CLOSE_POLICY_REQUEST_CANCEL",
    )
    begin["user_metadata"] = {"summary": payload("sum"), "details": payload("det")}
    await env.step(begin)
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED")
    await env.history("parent")
    await env.history("child", env.name("child"))
    await env.show("describe parent", "DescribeWorkflowExecution", execution=env.execution())
    await env.show("describe child", "DescribeWorkflowExecution", execution=env.execution(env.name("child")))


@scenario
async def child_inherits(env: Env) -> None:
    """A child with nothing but an id and a type: what it takes over from its parent."""
    await env.start(
        workflow_run_timeout="100s",
        workflow_execution_timeout="1000s",
        workflow_task_timeout="7s",
        memo={"fields": {"m": payload(1)}},
        search_attributes={"indexed_fields": {"CustomKeyword": payload("k")}},
        retry_policy={"initial_interval": "1s", "maximum_attempts": 4},
        priority={"priority_key": 4},
        header={"fields": {"h": payload("v")}},
    )
    await env.step(child(env, task_queue=None, input=None))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED")
    await env.history("parent")
    await env.history("child", env.name("child"))


@scenario
async def child_attributes_are_validated(env: Env) -> None:
    """Starting a child with one thing wrong at a time: the task fails, with its cause and message."""

    async def case(label: str, **attributes: object) -> None:
        wid = env.name(label)
        await env.start(workflow_id=wid)
        task = await env.poll()
        begin = child(env, f"child of {label}", **attributes)
        await env.show(label, "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=[begin])
        events = await env.events(wid)
        for each in events:
            if each.HasField("workflow_task_failed_event_attributes"):
                recorded = each.workflow_task_failed_event_attributes
                env.note(f"{label}: task failed", [recorded.cause, recorded.failure.message])
        await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid))

    await case("no workflow id", workflow_id="")
    await case("workflow id of 1001", workflow_id="x" * 1001)
    await case("no type", workflow_type=None)
    await case("type of 1001", workflow_type={"name": "x" * 1001})
    await case("queue of 1001", task_queue={"name": "x" * 1001})
    await case("queue with a reserved prefix", task_queue={"name": "/_sys/q"})
    await case("negative run timeout", workflow_run_timeout="-1s")
    await case("negative execution timeout", workflow_execution_timeout="-1s")
    await case("negative task timeout", workflow_task_timeout="-1s")
    await case("bad retry policy", retry_policy={"initial_interval": "1s", "backoff_coefficient": 0.5})
    await case("bad cron", cron_schedule="nonsense")
    await case("unknown search attribute", search_attributes={"indexed_fields": {"Nope": payload(1)}})
    await case("search attribute of the wrong type", search_attributes={"indexed_fields": {"CustomInt": payload("a")}})
    await case("unknown namespace", namespace="nowhere")
    await case("no policy", parent_close_policy="PARENT_CLOSE_POLICY_UNSPECIFIED")
    await case("priority below zero", priority={"priority_key": -1})


@scenario
async def child_input_over_the_limit(env: Env) -> None:
    """A child whose input or memo is over the payload limit: what becomes of the parent."""
    big = payloads("y" * (2 * 1024 * 1024 + 10))
    for label, attributes in {"input": {"input": big}, "memo": {"memo": {"fields": {"m": big["payloads"][0]}}}}.items():
        wid = env.name(label)
        await env.start(workflow_id=wid)
        task = await env.poll()
        await env.show(
            label, "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=[child(env, label, **attributes)]
        )
        await env.history(label, wid)


@scenario
async def child_and_grandchild(env: Env) -> None:
    """Three generations: parent and root of each, as started and as described."""
    await with_child(env)
    await child_step(env, child(env, "grandchild"))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED", workflow_id=env.name("child"))
    for name in ("child", "grandchild"):
        await env.history(name, env.name(name))
        await env.show(f"describe {name}", "DescribeWorkflowExecution", execution=env.execution(env.name(name)))


@scenario
async def child_closes_while_the_parents_task_is_started(env: Env) -> None:
    """A child's end while the parent's workflow task is started is buffered until that task ends."""
    await with_child(env)
    task = await env.poll()
    await child_step(env, complete_run("r"))
    # What is buffered cannot be seen; the child's end reaches the parent in far less than this.
    await asyncio.sleep(0.5)
    await env.signal("s")
    await env.history("parent while its task is started")
    await env.complete(task)
    await env.step(complete_run())
    await env.history("parent")


@scenario
async def child_started_while_the_parents_task_is_started(env: Env) -> None:
    """The parent has a new workflow task running when its child starts: the event is buffered."""
    await env.start()
    task = await env.poll()
    response = await env.complete(task, child(env), force_create_new_workflow_task=True, return_new_workflow_task=True)
    # The child exists; the parent hears of it at the end of its task.
    await asyncio.sleep(1)
    await env.history("parent while its task is started")
    await env.rpc("RespondWorkflowTaskCompleted", task_token=response.workflow_task.task_token)
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED")
    await env.history("parent")


@scenario
async def child_started_by_the_closing_task(env: Env) -> None:
    """A child that is started by the very completion that closes the parent, under each close policy."""
    for policy in ("TERMINATE", "REQUEST_CANCEL", "ABANDON"):
        wid = env.name(policy.lower())
        await env.start(workflow_id=wid)
        name = f"child under {policy.lower()}"
        await env.step(child(env, name, parent_close_policy=f"PARENT_CLOSE_POLICY_{policy}"), complete_run())
        await asyncio.sleep(1)
        await env.show(policy, "DescribeWorkflowExecution", execution=env.execution(env.name(name)))
        await env.history(f"parent under {policy}", wid)


@scenario
async def child_outlives_its_parent(env: Env) -> None:
    """A child under ABANDON that completes after its parent: the parent's history stays as it was."""
    await with_child(env, parent_close_policy="PARENT_CLOSE_POLICY_ABANDON")
    await env.step(complete_run())
    await child_step(env, complete_run("late"))
    await env.history("child", env.name("child"))
    await env.history("parent")
    await env.show("describe child", "DescribeWorkflowExecution", execution=env.execution(env.name("child")))


@scenario
async def child_started_again_with_the_same_id(env: Env) -> None:
    """The same parent starts a child with the same id once the first one has completed."""
    await with_child(env)
    await env.step()
    await child_step(env, complete_run("first"))
    await env.step(child(env))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED", 2)
    await env.step()
    await child_step(env, complete_run("second"))
    await env.step(complete_run())
    await env.history("parent")


@scenario
async def children_of_one_task(env: Env) -> None:
    """Ten children started by one task, all completed: every result arrives once."""
    await env.start()
    await env.step(*(child(env, f"c{number}", input=payloads(number)) for number in range(10)))
    for _ in range(10):
        task = await env.poll(children_queue(env))
        begun = task.history.events[0].workflow_execution_started_event_attributes
        await env.complete(task, complete_run(int(begun.input.payloads[0].data)))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_COMPLETED", 1)
    seen: list[str] = []
    while len(seen) < 10:
        task = await env.step()
        events = [each for each in await env.events() if each.HasField("child_workflow_execution_completed_event_attributes")]
        seen = [
            each.child_workflow_execution_completed_event_attributes.result.payloads[0].data.decode() for each in events
        ]
    env.note("results", sorted(int(each) for each in seen))
    started = [each for each in await env.events() if each.HasField("child_workflow_execution_started_event_attributes")]
    env.note("started", len(started))
    description = await env.rpc("DescribeWorkflowExecution", execution=env.execution())
    env.note("pending children", len(description.pending_children))


@scenario
async def child_in_another_namespace(env: Env) -> None:
    """A child in a namespace of its own: events name it, and its result comes back."""
    other = env.name("ns")
    await env.rpc("RegisterNamespace", namespace=other, workflow_execution_retention_period="86400s")
    await env.start()
    task = await env.poll()
    await env.show(
        "start", "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=[child(env, namespace=other)]
    )
    events = await env.events()
    failed = [each for each in events if each.HasField("workflow_task_failed_event_attributes")]
    if failed:
        await env.history("parent")
        return
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED")
    task = await env.rpc("PollWorkflowTaskQueue", timeout=40.0, namespace=other, task_queue={"name": children_queue(env)})
    await env.rpc("RespondWorkflowTaskCompleted", namespace=other, task_token=task.task_token, commands=[complete_run("r")])
    await env.until_event("CHILD_WORKFLOW_EXECUTION_COMPLETED")
    await env.history("parent")


@scenario
async def child_and_continue_as_new_of_the_parent(env: Env) -> None:
    """A parent that continues as new over a running child: the child goes on, and its end is no event of the next run."""
    first = await with_child(env)
    await env.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"}))
    await asyncio.sleep(1)
    await env.show("describe child", "DescribeWorkflowExecution", execution=env.execution(env.name("child")))
    await env.history("parent's first run", run_id=first)
    await env.history("child", env.name("child"))
    await env.history("parent's second run")


@scenario
async def child_start_and_timer_in_order(env: Env) -> None:
    """Children, timers and markers in one completion: initiated events in the commands' order."""
    await env.start()
    await env.step(
        timer("before", "100s"),
        child(env, "first"),
        command("RECORD_MARKER", marker_name="m"),
        child(env, "second", parent_close_policy="PARENT_CLOSE_POLICY_ABANDON"),
        timer("behind", "100s"),
    )
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED", 2)
    events = await env.events()
    env.note("before the children start", [each.event_type for each in events[:9]])
