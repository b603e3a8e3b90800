"""What all Python tests share: servers to start, and Temporal's wire without an SDK. Never holds a test."""
