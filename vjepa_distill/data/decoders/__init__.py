"""Video readers: each finds out what is in a file (scan) and returns the frames asked for (read), or says why not."""
