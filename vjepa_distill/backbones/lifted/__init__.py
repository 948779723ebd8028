"""How a model of single images becomes a video encoder: frame by frame, by its maps, or all tokens jointly.

In come an image model of timm and clips; out go tokens on a grid of time, height and width. It must never mix
what is kept with what is hidden, nor choose a model: ``backbones/timm.py`` does.
"""
