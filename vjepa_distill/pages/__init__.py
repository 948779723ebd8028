"""The page that a person looks at: curves, tables and pictures of runs as one HTML file.

In come numbers, arrays and words (``contents.py``); out goes one HTML text that needs nothing else: plots are
SVG (``plots.py``), pictures lie in it as data (``pictures.py``). It must never read a run folder, build an
encoder or touch the network, and the page that it makes must not either.
"""

from vjepa_distill.pages.page import page

__all__ = ["page"]
