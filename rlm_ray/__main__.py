"""`python -m rlm_ray` is the command `rlm-ray`."""

from __future__ import annotations

from rlm_ray.cli import program

if __name__ == "__main__":  # a spawned child imports this file under another name
    program()
