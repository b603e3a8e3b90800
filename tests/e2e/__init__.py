"""End-to-end tests of a running `stanchion`: the README's programs, the real SDK and CLI, bad input, restarts."""
