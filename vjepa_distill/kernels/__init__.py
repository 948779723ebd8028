"""Whether this processor's bf16 kernels compute what they should, and fp32 for those that do not.

What comes in is a call of a convolution or of attention, as autocast hands it to a kernel; what goes out is
the right result and, in words, which kernels are wrong. It knows no encoder, no stage and no run.
"""
