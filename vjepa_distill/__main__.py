"""``python -m vjepa_distill`` is ``vjepa-distill``."""

from vjepa_distill.cli import main

if __name__ == "__main__":
    main()
