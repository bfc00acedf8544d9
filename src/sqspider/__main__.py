"""``python -m sqspider``, and the ``sqspider`` command."""

from __future__ import annotations

import gc
import sys
from typing import Final

YOUNGEST: Final = 20_000  # objects made and kept, before the collector looks at them: 700 in CPython


def main() -> None:
    """Run the command line and exit with its status."""
    # Imports make tens of thousands of objects that stay, and little of what a crawl makes is in cycles.
    gc.set_threshold(YOUNGEST)
    from sqspider.cli.main import run

    sys.exit(run())


if __name__ == "__main__":
    main()
