"""The README's Python quick start, pasted as it stands, against `stanchion dev` on its default ports."""

import re
import socket
import subprocess
import sys
from pathlib import Path

from harness import servers

README = Path(__file__).parents[2] / "README.md"


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def test_the_readme_program_runs_as_it_stands(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert len(blocks) == 1, "the README has one Python quick start"
    program = blocks[0]
    grpc_port, http_port = 7233, 8233
    if not (is_free(grpc_port) and is_free(http_port)):
        # Somebody else's server is on the default ports: the same program, another address.
        grpc_port, http_port = servers.free_ports(2)
        assert "localhost:7233" in program
        program = program.replace("localhost:7233", f"localhost:{grpc_port}")
    script = tmp_path / "quick_start.py"
    script.write_text(program)
    argv = [servers.stanchion_bin(), "dev", "--ephemeral"]
    argv += ["--grpc", f"127.0.0.1:{grpc_port}", "--http", f"127.0.0.1:{http_port}"]
    server = servers.spawn("stanchion", argv, f"127.0.0.1:{grpc_port}", f"127.0.0.1:{http_port}")
    try:
        server.await_ready()
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == "Hello, world!\n", done.stderr
    finally:
        server.kill()
