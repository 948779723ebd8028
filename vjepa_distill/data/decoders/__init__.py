"""Video readers: each says what is in a file (scan) and gives the frames asked for (read), or why not."""
