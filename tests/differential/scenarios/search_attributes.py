"""Custom search attributes: made, listed and removed by the operator service; what a start and a workflow may give them."""

from differential.env import Env, Refusal, command
from differential.registry import scenario
from differential.shelf import TYPES, Shelf, attributes
from harness.wire import payload

VALUES = {
    "K": ["word", "", "x" * 200, 5, True, None, ["one"], ["one", "two"], [], {"a": 1}],
    "T": ["some words", "", 5, ["one"], None],
    "I": [5, -5, 0, 5.0, 5.5, "5", "x", True, [5], [5, 6], 9223372036854775807, 9223372036854775808, None],
    "D": [0.5, 5, "0.5", "x", True, [0.5], 1e308, None],
    "B": [True, False, "true", 1, [True], None],
    "W": ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.5+02:00", "2020-01-01", "then", 5, ["2020-01-01T00:00:00Z"], None],
    "L": [["a", "b"], "a", [], [""], ["a", "a"], [1], [True], "", None, {"a": 1}],
}


async def custom(env: Env, label: str, namespace: str) -> None:
    listed = await env.rpc("ListSearchAttributes", namespace=namespace)
    env.note(label, sorted([name, kind] for name, kind in listed.custom_attributes.items()))


@scenario
async def attributes_are_made_and_removed(env: Env) -> None:
    """One attribute of each type made, listed, one removed and made again with the same type."""
    shelf = await Shelf.made(env, custom=False)
    await custom(env, "at first", shelf.namespace)
    types = {key: f"INDEXED_VALUE_TYPE_{kind}" for key, kind in TYPES.items()}
    await env.show("add", "AddSearchAttributes", namespace=shelf.namespace, search_attributes=types)
    await custom(env, "after adding", shelf.namespace)
    await env.show("remove", "RemoveSearchAttributes", namespace=shelf.namespace, search_attributes=["K"])
    await custom(env, "after removing", shelf.namespace)
    await env.show("add again", "AddSearchAttributes", namespace=shelf.namespace, search_attributes={"K": types["K"]})
    await custom(env, "after adding again", shelf.namespace)


@scenario
async def attributes_of_the_system(env: Env) -> None:
    """The system's own attributes and their types."""
    listed = await env.rpc("ListSearchAttributes", namespace="default")
    env.note("system", sorted([name, kind] for name, kind in listed.system_attributes.items()))
    asked = await env.rpc("GetSearchAttributes")
    env.note("of the older call", sorted(name for name in asked.keys if name in listed.system_attributes))


@scenario
async def attribute_calls_are_validated(env: Env) -> None:
    """The operator's calls with one thing wrong at a time."""
    shelf = await Shelf.made(env)

    async def add(label: str, name: str, kind: str = "KEYWORD", **fields: object) -> None:
        types = {name: f"INDEXED_VALUE_TYPE_{kind}"}
        await env.show(f"add: {label}", "AddSearchAttributes", **{"namespace": shelf.namespace, "search_attributes": types, **fields})

    async def remove(label: str, *names: str, **fields: object) -> None:
        await env.show(
            f"remove: {label}", "RemoveSearchAttributes", **{"namespace": shelf.namespace, "search_attributes": list(names), **fields}
        )

    await add("the same again", "K")
    await add("the same with another type", "K", "INT")
    await add("of the system", "WorkflowId")
    await add("of the system, other", "ExecutionStatus")
    await add("reserved prefix", "TemporalMine")
    await add("no type", "New", "UNSPECIFIED")
    await add("none", "x", search_attributes={})
    await add("unknown namespace", "New", namespace="nowhere")
    await add("no namespace", "New", namespace="")
    await remove("unknown", "Nope")
    await remove("of the system", "WorkflowId")
    await remove("none")
    await remove("unknown namespace", "K", namespace="nowhere")
    await env.show("list: unknown namespace", "ListSearchAttributes", namespace="nowhere")
    await custom(env, "in the end", shelf.namespace)


@scenario
async def attribute_values_at_start(env: Env) -> None:
    """Values of each type that a start takes or refuses, and as the description shows them."""
    shelf = await Shelf.made(env)
    await shelf.start("first")
    for key, values in VALUES.items():
        for number, value in enumerate(values):
            wid = f"{key}{number}"
            label = f"{TYPES[key].lower()}: {value!r}" if len(repr(value)) < 100 else f"{TYPES[key].lower()}: long"
            try:
                await env.rpc(
                    "StartWorkflowExecution",
                    **env.start_fields(namespace=shelf.namespace, workflow_id=wid, search_attributes=attributes(**{key: value})),
                )
            except Refusal as error:
                env.refused(label, error)
                continue
            described = await env.rpc("DescribeWorkflowExecution", namespace=shelf.namespace, execution={"workflow_id": wid})
            found = described.workflow_execution_info.search_attributes.indexed_fields
            env.note(label, [[found[name].data.decode(), found[name].metadata["type"].decode()] for name in found])


@scenario
async def attribute_values_with_a_type(env: Env) -> None:
    """Payloads that name their type, rightly and wrongly, and payloads of other encodings."""
    shelf = await Shelf.made(env)
    await shelf.start("first")
    cases = {
        "right type": {"metadata": {"encoding": b"json/plain", "type": b"Keyword"}, "data": b'"x"'},
        "wrong type": {"metadata": {"encoding": b"json/plain", "type": b"Int"}, "data": b'"x"'},
        "unknown type": {"metadata": {"encoding": b"json/plain", "type": b"Nonsense"}, "data": b'"x"'},
        "no encoding": {"data": b'"x"'},
        "binary": {"metadata": {"encoding": b"binary/plain"}, "data": b"x"},
        "null": {"metadata": {"encoding": b"binary/null"}},
        "not json": {"metadata": {"encoding": b"json/plain"}, "data": b"x"},
        "empty": {},
    }
    for label, value in cases.items():
        wid = label
        started = await env.show(
            label,
            "StartWorkflowExecution",
            **env.start_fields(
                namespace=shelf.namespace, workflow_id=wid, search_attributes={"indexed_fields": {"K": value}}
            ),
        )
        if started:
            page = await env.rpc("GetWorkflowExecutionHistory", namespace=shelf.namespace, execution={"workflow_id": wid})
            recorded = page.history.events[0].workflow_execution_started_event_attributes.search_attributes.indexed_fields
            named = {name: dict(recorded[name].metadata) for name in recorded}
            if label in ("wrong type", "unknown type"):
                # The real server keeps what the payload says, Stanchion says what it is.
                named = {name: sorted(metadata) for name, metadata in named.items()}
            env.note(f"{label}: recorded", {name: str(sorted(metadata.items()) if isinstance(metadata, dict) else metadata) for name, metadata in named.items()})


@scenario
async def attributes_at_start_are_limited(env: Env) -> None:
    """Unknown names, the system's names, too many, too long."""
    shelf = await Shelf.made(env)
    await shelf.start("first")

    async def case(label: str, **values: object) -> None:
        await env.show(
            label,
            "StartWorkflowExecution",
            **env.start_fields(namespace=shelf.namespace, workflow_id=label, search_attributes=attributes(**values)),
        )

    await case("unknown", Nope="x")
    await case("one known, one unknown", K="x", Nope="x")
    await case("status", ExecutionStatus="Running")
    await case("workflow id", WorkflowId="x")
    await case("change version", TemporalChangeVersion=["x"])
    await case("build ids", BuildIds=["x"])
    await case("scheduled by", TemporalScheduledById="x")
    await case("scheduled start", TemporalScheduledStartTime="2020-01-01T00:00:00Z")
    await case("namespace division", TemporalNamespaceDivision="x")
    await case("value of 2049", K="x" * 2049)
    await case("text of 2049", T="x" * 2049)
    await case("list of 2049", L=["x" * 2049])
    await case("a hundred elements", L=[f"e{number}" for number in range(100)])
    await case("all together over 40 kB", T="x " * 1000, L=[("y" * 1000) + str(number) for number in range(50)])
    await case("name of another case", k="x")


@scenario
async def attributes_upserted_are_validated(env: Env) -> None:
    """UPSERT_WORKFLOW_SEARCH_ATTRIBUTES with one thing wrong at a time: the task fails with its cause and message."""
    shelf = await Shelf.made(env)
    await shelf.start("first", queue=env.name("nobody"))
    cases = {
        "none": {},
        "unknown": attributes(Nope="x"),
        "status": attributes(ExecutionStatus="Running"),
        "wrong type": attributes(I="x"),
        "two for one": attributes(K=["a", "b"]),
        "too long": attributes(K="x" * 2049),
        "all together over 40 kB": attributes(L=[("y" * 1000) + str(number) for number in range(50)]),
        "change version": attributes(TemporalChangeVersion=["x"]),
        "right": attributes(K="x", L=["a"]),
    }
    for label, fields in cases.items():
        await shelf.start(label)
        task = await shelf.task()
        await env.show(
            label,
            "RespondWorkflowTaskCompleted",
            namespace=shelf.namespace,
            task_token=task.task_token,
            commands=[command("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES", search_attributes=fields)],
        )
        page = await env.rpc("GetWorkflowExecutionHistory", namespace=shelf.namespace, execution={"workflow_id": label})
        for each in page.history.events:
            if each.HasField("workflow_task_failed_event_attributes"):
                recorded = each.workflow_task_failed_event_attributes
                env.note(f"{label}: task failed", [recorded.cause, recorded.failure.message])
        described = await env.rpc("DescribeWorkflowExecution", namespace=shelf.namespace, execution={"workflow_id": label})
        env.note(f"{label}: status", described.workflow_execution_info.status)
        if described.workflow_execution_info.status == 1:
            await env.rpc("TerminateWorkflowExecution", namespace=shelf.namespace, workflow_execution={"workflow_id": label})


@scenario
async def attributes_removed_while_used(env: Env) -> None:
    """A run keeps the value of an attribute that is removed; filters and starts no longer know it."""
    shelf = await Shelf.made(env)
    await shelf.start("run", search_attributes=attributes(K="x", I=1))
    await shelf.settle(1, open=1)
    await env.rpc("RemoveSearchAttributes", namespace=shelf.namespace, search_attributes=["K"])
    await shelf.ask("I = 1", "K = 'x'")
    await env.show("describe", "DescribeWorkflowExecution", namespace=shelf.namespace, execution={"workflow_id": "run"})
    await env.show(
        "start with it",
        "StartWorkflowExecution",
        **env.start_fields(namespace=shelf.namespace, workflow_id="other", search_attributes={"indexed_fields": {"K": payload("x")}}),
    )


ABSENT = {
    "null": payload(None),
    "list": payload([]),
    "nothing": {"metadata": {"encoding": b"json/plain"}},
    "of another encoding": {"metadata": {"encoding": b"binary/null"}},
}


@scenario
async def absent_values_are_left_out(env: Env) -> None:
    """Nulls and empty lists in the memo and the search attributes of all that starts a run; an upsert records them."""
    shelf = await Shelf.made(env)
    await shelf.start("first", queue=env.name("nobody"))
    values = attributes(K=None, L=[])
    memo = {"fields": {**ABSENT, "kept": payload("")}}
    empty = {"fields": ABSENT}

    async def look(label: str, workflow_id: str, run_id: str = "") -> None:
        execution = {"workflow_id": workflow_id, "run_id": run_id}
        page = await env.rpc("GetWorkflowExecutionHistory", namespace=shelf.namespace, execution=execution)
        for each in page.history.events:
            for kind, body in each.ListFields():
                for name in ("memo", "upserted_memo", "search_attributes"):
                    if kind.name.endswith("_event_attributes") and name in body.DESCRIPTOR.fields_by_name:
                        field = getattr(body, name)
                        fields = field.indexed_fields if name == "search_attributes" else field.fields
                        env.note(f"{label}: {each.event_id} {name}", [sorted(fields), body.HasField(name)])
        described = await env.rpc("DescribeWorkflowExecution", namespace=shelf.namespace, execution=execution)
        info = described.workflow_execution_info
        # What the worker's build adds is another matter.
        env.note(f"{label}: described", [sorted(info.memo.fields), sorted(set(info.search_attributes.indexed_fields) - {"BuildIds"})])

    await shelf.start("begun", search_attributes={"indexed_fields": {**values["indexed_fields"], "I": payload(5)}}, memo=memo)
    await look("start", "begun")
    again = command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Next"}, task_queue={"name": env.tq})
    again["continue_as_new_workflow_execution_command_attributes"].update(search_attributes=values, memo=memo)
    child = {"workflow_id": "child", "workflow_type": {"name": "Child"}, "task_queue": {"name": env.name("nobody")}}
    await shelf.step(
        command("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES", search_attributes=attributes(K=None, I=[])),
        command("MODIFY_WORKFLOW_PROPERTIES", upserted_memo={"fields": {**ABSENT, "kept": payload(None)}}),
        command("START_CHILD_WORKFLOW_EXECUTION", **child, search_attributes=values, memo=memo, parent_close_policy="PARENT_CLOSE_POLICY_ABANDON"),
        again,
    )
    await look("upserts", "begun", shelf.runs["begun"])
    await look("successor", "begun")
    await shelf.step(command("START_CHILD_WORKFLOW_EXECUTION", **{**child, "workflow_id": "other"}, search_attributes=values, memo=empty))
    # The started event of the child is in its parent's history.
    await shelf.step()
    await look("child", "other")
    fields = env.start_fields(namespace=shelf.namespace, workflow_id="signalled", search_attributes=values, memo=empty)
    await env.rpc("SignalWithStartWorkflowExecution", **fields, signal_name="s")
    await look("signal with start", "signalled")
    action = {"workflow_id": "scheduled", "workflow_type": {"name": "Demo"}, "task_queue": {"name": env.name("scheduled")}}
    await env.rpc(
        "CreateSchedule",
        namespace=shelf.namespace,
        schedule_id="schedule",
        request_id="request",
        schedule={"action": {"start_workflow": {**action, "search_attributes": values, "memo": memo}}},
        search_attributes=values,
        memo=memo,
        initial_patch={"trigger_immediately": {}},
    )
    task = await shelf.task(env.name("scheduled"))
    await look("scheduled", task.workflow_execution.workflow_id)
    found = await env.rpc("DescribeSchedule", namespace=shelf.namespace, schedule_id="schedule")
    kept = found.schedule.action.start_workflow
    env.note("schedule", [sorted(found.memo.fields), sorted(found.search_attributes.indexed_fields)])
    env.note("schedule's action", [sorted(kept.memo.fields), sorted(kept.search_attributes.indexed_fields)])


@scenario
async def oversized_attributes_end_the_run(env: Env) -> None:
    """Search attributes over their size limits on each command that has some: the task fails and the run is terminated."""
    shelf = await Shelf.made(env)
    await shelf.start("first", queue=env.name("nobody"))
    large = attributes(T="x" * 2049)
    child = {"workflow_id": "child", "workflow_type": {"name": "Child"}}
    commands = {
        "upsert": command("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES", search_attributes=large),
        "child": command("START_CHILD_WORKFLOW_EXECUTION", **child, search_attributes=large),
        "continue": command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Next"}, search_attributes=large),
    }
    for label, each in commands.items():
        await shelf.start(label)
        task = await shelf.task()
        fields = {"namespace": shelf.namespace, "task_token": task.task_token, "commands": [each]}
        await env.show(label, "RespondWorkflowTaskCompleted", **fields)
        await env.show(f"{label}: history", "GetWorkflowExecutionHistory", namespace=shelf.namespace, execution={"workflow_id": label})
