"""From a folder of videos to batches: index and scan, decoders, clips, an endless loader.

In come paths and a recipe for cutting clips; out go uint8 clips ``[B, 3, T, H, W]`` whose order is one
integer of state, files that cannot be read set aside by name. It must never know an encoder, a loss or a
setting.
"""
