"""Every setting of a run, typed, with its constraints beside it.

In come YAML, the command line or plain dictionaries (``plain.py``); out go dataclasses that have checked
themselves (``run.py``). It must never import torch, nor anything of ours above ``errors``.
"""
