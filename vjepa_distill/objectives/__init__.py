"""The losses, by name: ``match`` for distillation; ``now``, ``soon`` and ``eventually`` for the future.

In come ``Latents``: what was seen, what is to be matched, and a way to predict; out goes one unweighted
scalar each. An objective must never reach into a stage, and never know its own weight in the sum.
"""
