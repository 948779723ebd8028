"""Whether this processor's bf16 kernels compute what they should, and fp32 for those that do not.

In comes a call of a convolution or of attention, as autocast hands it to a kernel (``watch.py``); out go
the right result and, in words, which kernels are wrong (``guard.py``). It must never know an encoder, a
stage or a run.
"""
