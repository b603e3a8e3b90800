"""`stanchion verify`: a live cluster's histories are held to the rules, and whoever breaks one is named."""

import asyncio
import json
import re

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from e2e import programs
from harness import servers


async def verify(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        servers.stanchion_bin(), "verify", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def work(client, unique: str) -> None:
    async with Worker(
        client,
        task_queue=unique,
        workflows=programs.WORKFLOWS,
        activities=programs.ACTIVITIES,
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        for number in range(5):
            await client.execute_workflow(programs.Steps.run, 3, id=f"{unique}-{number}", task_queue=unique)
        await client.start_workflow(programs.Greeting.run, "you", id=f"{unique}-open", task_queue=f"{unique}-nobody")


async def test_a_sound_cluster_passes(stanchion, client, unique):
    await work(client, unique)
    code, out, err = await verify("--address", stanchion.grpc, "--namespace", client.namespace, "--json")
    assert code == 0, out + err
    [report] = json.loads(out)
    assert report["violations"] == []
    assert report["runs"] >= 6
    assert report["events"] >= 5 * 23


async def test_an_export_is_verified_without_the_cluster(stanchion, client, unique, tmp_path):
    await work(client, unique)
    folder = tmp_path / "export"
    code, out, err = await verify(
        "--address", stanchion.grpc, "--namespace", client.namespace, "--export", str(folder), "--json"
    )
    assert code == 0, out + err
    [live] = json.loads(out)
    code, out, err = await verify("--histories", str(folder), "--json")
    assert code == 0, out + err
    assert json.loads(out) == [live]

    manifest = json.loads((folder / "manifest.json").read_text())
    closed = next(run for run in manifest["runs"] if run["workflow_id"] == f"{unique}-0")
    history = json.loads((folder / closed["file"]).read_text())
    assert history["events"][0]["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED"
    # As somebody would forge it who leaves the manifest out: a result that the activity had twice.
    twice = next(e for e in history["events"] if e["eventType"] == "EVENT_TYPE_ACTIVITY_TASK_COMPLETED")
    last = history["events"].pop()
    history["events"] += [twice | {"eventId": last["eventId"]}, last | {"eventId": str(int(last["eventId"]) + 1)}]
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(history))
    code, out, _ = await verify("--histories", str(forged))
    assert code == 1
    assert "B4: workflow" in out
    (folder / closed["file"]).write_text(forged.read_text())
    code, _, err = await verify("--histories", str(folder))
    assert code == 2
    assert "is not what was exported" in err


async def test_what_the_cli_shows_can_be_verified(stanchion, client, unique, tmp_path):
    await work(client, unique)
    shown = await asyncio.create_subprocess_exec(
        *(servers.temporal_bin(), "workflow", "show", "--address", stanchion.grpc, "--namespace", client.namespace),
        *("--workflow-id", f"{unique}-0", "--output", "json"),
        stdout=asyncio.subprocess.PIPE,
    )
    text, _ = await shown.communicate()
    (tmp_path / "shown.json").write_bytes(text)
    code, out, err = await verify("--histories", str(tmp_path))
    assert code == 0, out + err
    assert re.fullmatch(r"namespace : 1 runs, 2\d events, 0 violations\n", out)


async def test_the_real_server_is_held_to_the_same_rules(unique):
    server = servers.start_temporal().await_ready()
    try:
        await work(await Client.connect(server.grpc), unique)
        code, out, err = await verify("--address", server.grpc, "--namespace", "default")
    finally:
        server.stop()
    assert code == 0, out + err
    assert re.fullmatch(r"namespace default: 6 runs, \d+ events, 0 violations\n", out)


async def test_nobody_there_is_an_error():
    code, out, err = await verify("--address", "127.0.0.1:1", "--namespace", "default", "--within", "1")
    assert (code, out) == (2, "")
    assert "CountWorkflowExecutions" in err
