"""Parts of networks, and what a student may see: transformer blocks, heads, standardised targets, masks.

In come tokens ``[B, L, D]`` and their grid; out go tokens, embeddings, and the indices that a view keeps or
asks for (``masks.py``). It must never know a whole encoder, a loss, a setting or where it runs.
"""
