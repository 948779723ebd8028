"""What an encoder knows about time, and what a stage kept: the parts of `evaluate`, one measure a file.

In come encoders by name ("this", "random", "start"), clips of each video, and a table of labels; out go
plain records of scores with intervals, and what was said of every video, so that runs can be compared. It
must never build an encoder, train one, or know where a record is written.
"""
