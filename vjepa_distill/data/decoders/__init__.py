"""Video readers: each finds out what is in a file (scan) and gives the frames asked for (read), or why not."""
