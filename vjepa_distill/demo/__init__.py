"""The whole road on a toy world: mp4 files, a teacher, distill, jepa-train, and one table of probe scores.

    vjepa-distill demo --out runs/demo

In comes a folder's name; out go a toy world, runs and a table of scores (``road.py``). Every step is the
function that its own subcommand calls, announced by the command that does the same: it must never do what a
user could not type.
"""
