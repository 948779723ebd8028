"""What happens around any stage: the training step (``step.py``) and the loop that repeats it (``loop.py``).

In come a stage, batches and an optimizer; out go updated weights, the lines of a log, and checkpoints
(``checkpoint.py``) that an exact continuation needs. It knows "a stage" and must never know which, nor an
encoder or a loss by name.
"""
