"""The two stages, each one ``nn.Module``: ``distill.py`` (match a teacher), ``jepa.py`` (foretell oneself).

In comes a batch; out go named, unweighted losses: target, context, losses, in this order. A stage must never
move itself to a device, call backward or a logger, or know a concrete encoder, loss or setting.
"""
