"""Signals and cancel requests from one run to another: delivered, refused, to itself, to its child, to another namespace."""

import asyncio

from differential.env import UNKNOWN_RUN, Env, command, complete_run
from differential.registry import scenario
from differential.scenarios.children import child, children_queue, with_child
from harness.wire import payload, payloads


def signal_to(env: Env, workflow_id: str, run_id: str | None = None, **attributes: object) -> dict[str, object]:
    base = {"execution": env.execution(workflow_id, run_id), "signal_name": "s", "input": payloads("in")}
    return command("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION", **{**base, **attributes})


def cancel_of(env: Env, workflow_id: str, **attributes: object) -> dict[str, object]:
    return command("REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION", **{"workflow_id": workflow_id, **attributes})


async def target(env: Env, name: str = "target") -> tuple[str, str]:
    """An open run on a queue of its own: its workflow id and run id."""
    wid = env.name(name)
    run = await env.start(workflow_id=wid, task_queue={"name": env.name("target-tq")})
    return wid, run


async def sent(env: Env, label: str, *commands: dict[str, object], kind: str = "SIGNAL") -> None:
    """A run sends these, hears of each, and closes; its history."""
    wid = env.name(label)
    await env.start(workflow_id=wid)
    await env.step(*commands)
    await env.step(complete_run())
    await env.history(label, wid)


@scenario
async def external_signal(env: Env) -> None:
    """A signal to an open run with input, header and control: the events of both, and the target's task."""
    wid, run = await target(env)
    await env.start()
    await env.step(signal_to(env, wid, header={"fields": {"h": payload("v")}}, control="c"))
    await env.until_event("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED")
    await env.step(complete_run())
    await env.history("sender")
    await env.history("target", wid)


@scenario
async def external_signal_by_run_id(env: Env) -> None:
    """A signal that names the target's run, and one that names a run that is not there."""
    wid, run = await target(env)
    await sent(env, "right run", signal_to(env, wid, run))
    await sent(env, "unknown run", signal_to(env, wid, UNKNOWN_RUN))
    await env.history("target", wid)


@scenario
async def external_signal_to_nobody(env: Env) -> None:
    """A signal to a workflow id that nobody has, and to a run that closed."""
    await sent(env, "nobody", signal_to(env, env.name("nobody-has-it")))
    closed = env.name("closed")
    await env.start(workflow_id=closed)
    await env.step(complete_run())
    await sent(env, "closed run", signal_to(env, closed))


@scenario
async def external_signal_to_itself(env: Env) -> None:
    """A run that signals itself, by workflow id and by run id."""
    run = await env.start()
    task = await env.poll()
    await env.show("by id", "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=[signal_to(env, env.wid)])
    task = await env.poll()
    await env.complete(task, complete_run())
    await env.until_closed(run_id=run)
    await env.history("run", run_id=run)


@scenario
async def external_signal_to_child_only(env: Env) -> None:
    """child_workflow_only towards a child, towards a run that is no child, towards a child that closed."""
    await with_child(env)
    await env.step(signal_to(env, env.name("child"), child_workflow_only=True))
    await env.until_event("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED")
    await env.step()
    await env.complete(await env.poll(children_queue(env)), complete_run())
    await env.step(signal_to(env, env.name("child"), child_workflow_only=True))
    await env.until_event("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED")
    await env.step(complete_run())
    await env.history("parent")
    await env.history("child", env.name("child"))
    wid, _ = await target(env)
    await sent(env, "no child", signal_to(env, wid, child_workflow_only=True))
    await env.history("target", wid)


@scenario
async def external_signals_in_order(env: Env) -> None:
    """Six signals of one completion reach the target in their order."""
    wid, _ = await target(env)
    await env.start()
    await env.step(*(signal_to(env, wid, signal_name=f"s{number}") for number in range(6)))
    await env.until_event("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED", 6)
    events = await env.events(wid)
    names = [each.workflow_execution_signaled_event_attributes.signal_name for each in events if each.event_type == 26]
    env.note("arrived", sorted(names))
    await env.step()
    description = await env.rpc("DescribeWorkflowExecution", execution=env.execution())
    env.note("sender is open", description.workflow_execution_info.status)


@scenario
async def external_signal_while_the_targets_task_is_started(env: Env) -> None:
    """A signal from another run while the target's task is started is buffered."""
    wid, _ = await target(env)
    task = await env.poll(env.name("target-tq"))
    await env.start()
    await env.step(signal_to(env, wid))
    await env.until_event("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED")
    await env.history("target while its task is started", wid)
    await env.complete(task)
    await env.history("target", wid)


@scenario
async def external_signal_follows_continue_as_new(env: Env) -> None:
    """A signal by workflow id goes to the chain's current run."""
    wid, _ = await target(env)
    task = await env.poll(env.name("target-tq"))
    await env.complete(task, command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"}))
    await sent(env, "sender", signal_to(env, wid))
    await env.history("target's second run", wid)


@scenario
async def external_signal_to_another_namespace(env: Env) -> None:
    """A signal to a run of another namespace, and to a namespace that does not exist."""
    other = env.name("ns")
    await env.rpc("RegisterNamespace", namespace=other, workflow_execution_retention_period="86400s")
    wid = env.name("target")
    await env.rpc("StartWorkflowExecution", **env.start_fields(namespace=other, workflow_id=wid))
    for label, namespace in (("known", other), ("unknown", "nowhere")):
        sender = env.name(label)
        await env.start(workflow_id=sender)
        task = await env.poll()
        await env.show(
            label,
            "RespondWorkflowTaskCompleted",
            task_token=task.task_token,
            commands=[signal_to(env, wid, namespace=namespace)],
        )
        await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(sender))
        await env.history(label, sender)


@scenario
async def external_signal_and_close(env: Env) -> None:
    """A signal and a cancel request sent by the completion that closes the sender: the target gets neither."""
    wid, _ = await target(env)
    await env.start()
    await env.step(signal_to(env, wid), cancel_of(env, wid), complete_run())
    await asyncio.sleep(1)
    await env.history("target", wid)
    await env.history("sender")


@scenario
async def external_commands_are_validated(env: Env) -> None:
    """Signals and cancel requests to other runs with one thing wrong at a time: the task fails."""

    async def case(label: str, *commands: dict[str, object]) -> None:
        wid = env.name(label)
        await env.start(workflow_id=wid)
        task = await env.poll()
        await env.show(label, "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=list(commands))
        for each in await env.events(wid):
            if each.HasField("workflow_task_failed_event_attributes"):
                recorded = each.workflow_task_failed_event_attributes
                env.note(f"{label}: task failed", [recorded.cause, recorded.failure.message])
        await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid))

    wid, _ = await target(env)
    await case("signal without an execution", command("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION", signal_name="s"))
    await case("signal without a workflow id", signal_to(env, wid, execution={"run_id": UNKNOWN_RUN}))
    await case("signal without a name", signal_to(env, wid, signal_name=""))
    await case("signal to a run id that is no UUID", signal_to(env, wid, "nope"))
    await case("signal name of 1001", signal_to(env, wid, signal_name="x" * 1001))
    await case("signal to an id of 1001", signal_to(env, "x" * 1001))
    await case("cancel without a workflow id", cancel_of(env, ""))
    await case("cancel of a run id that is no UUID", cancel_of(env, wid, run_id="nope"))
    await case("cancel of an id of 1001", cancel_of(env, "x" * 1001))
    await case("cancel in an unknown namespace", cancel_of(env, wid, namespace="nowhere"))
    await case("cancel without attributes", {"command_type": "COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION"})
    await case("signal without attributes", {"command_type": "COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION"})


@scenario
async def external_cancel(env: Env) -> None:
    """A cancel request to an open run, with a reason: the events of both."""
    wid, _ = await target(env)
    await env.start()
    await env.step(cancel_of(env, wid, reason="enough", control="c"))
    await env.until_event("EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED")
    await env.step(complete_run())
    await env.history("sender")
    await env.history("target", wid)


@scenario
async def external_cancel_to_nobody(env: Env) -> None:
    """A cancel request to a workflow id that nobody has, to an unknown run, to a run that closed."""
    await sent(env, "nobody", cancel_of(env, env.name("nobody-has-it")))
    wid, _ = await target(env)
    await sent(env, "unknown run", cancel_of(env, wid, run_id=UNKNOWN_RUN))
    closed = env.name("closed")
    await env.start(workflow_id=closed)
    await env.step(complete_run())
    await sent(env, "closed run", cancel_of(env, closed))


@scenario
async def external_cancel_twice(env: Env) -> None:
    """A second cancel request from another run: the sender hears of success, the target records one."""
    wid, _ = await target(env)
    await sent(env, "first", cancel_of(env, wid, reason="one"))
    await sent(env, "second", cancel_of(env, wid, reason="two"))
    await env.history("target", wid)


@scenario
async def external_cancel_of_itself(env: Env) -> None:
    """A run that asks for its own cancellation."""
    await env.start()
    task = await env.poll()
    await env.show("itself", "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=[cancel_of(env, env.wid)])
    await env.poll()
    await env.history("run")


@scenario
async def external_cancel_child_only(env: Env) -> None:
    """child_workflow_only towards a run that is no child, and a cancel request to a child without it."""
    wid, _ = await target(env)
    await sent(env, "no child", cancel_of(env, wid, child_workflow_only=True))
    await env.history("target", wid)
    await with_child(env)
    await env.step(cancel_of(env, env.name("child")))
    await env.until_event("EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED")
    await env.history("parent")
    await env.history("child", env.name("child"))


@scenario
async def external_commands_to_a_child_in_the_same_task(env: Env) -> None:
    """A child started and asked to cancel by one completion, which is refused; and one started and signalled by one."""
    for label, act in (("cancel", cancel_of), ("signal", signal_to)):
        wid = env.name(label)
        await env.start(workflow_id=wid)
        task = await env.poll()
        name = f"child to {label}"
        await env.show(
            label,
            "RespondWorkflowTaskCompleted",
            task_token=task.task_token,
            commands=[child(env, name), act(env, env.name(name), child_workflow_only=True)],
        )
        for each in await env.events(wid):
            if each.HasField("workflow_task_failed_event_attributes"):
                recorded = each.workflow_task_failed_event_attributes
                env.note(f"{label}: task failed", [recorded.cause, recorded.failure.message])


@scenario
async def external_messages_in_one_completion(env: Env) -> None:
    """A signal and a cancel request to the same run in one completion, and a signal behind them to nobody."""
    wid, _ = await target(env)
    await env.start()
    await env.step(
        signal_to(env, wid), cancel_of(env, wid), signal_to(env, env.name("nobody-has-it"), signal_name="lost")
    )
    await env.until_event("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED")
    await env.until_event("EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED")
    await env.until_event("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED")
    events = await env.events()
    env.note("initiated in order", [each.event_type for each in events[4:7]])
    env.note("target", sorted(each.event_type for each in await env.events(wid)))
    description = await env.rpc("DescribeWorkflowExecution", execution=env.execution())
    env.note("sender is open", description.workflow_execution_info.status)


@scenario
async def external_signal_described(env: Env) -> None:
    """A signal whose payload and header are empty, as the target records it."""
    wid, _ = await target(env)
    await sent(env, "sender", command("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION", execution=env.execution(wid), signal_name="bare"))
    await env.history("target", wid)
    await env.show("describe target", "DescribeWorkflowExecution", execution=env.execution(wid))
