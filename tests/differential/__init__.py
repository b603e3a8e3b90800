"""The differential suite: one scenario, two servers, the same normalised answers. Entry point: `python -m differential.run`."""
