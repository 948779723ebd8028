"""The training runs, each composed in one paragraph: claim the folder, open the data, build the parts, go."""
