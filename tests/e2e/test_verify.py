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
