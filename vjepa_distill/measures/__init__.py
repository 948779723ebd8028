"""What an encoder knows: frozen features of videos (``encode.py``), and probes of them (``probe.py``).

In come an encoder and clips, or features and a table of labels; out go rows on disk, and scores beside their
floors. It must never train, and never know how an encoder was built or which it is.
"""
