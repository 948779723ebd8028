"""The video encoders that come with us: each file with ``OFFERS`` is one family on offer.

In come clips ``[B, 3, T, H, W]`` in [0, 1] and, if not all is to be seen, the tokens to keep; out go tokens
``[B, K or L, D]``. An encoder must never know a loss, a mask, a head, a setting or other processes.
"""
