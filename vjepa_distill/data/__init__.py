"""From a folder of videos to batches: index (what files), clips (which frames), decoders, loader, world (a toy one)."""
