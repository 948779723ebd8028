"""From a folder of videos to batches: index (which files), clips (which frames), decoders, loader, world."""
