"""The version of the crawler. By itself, as everything may ask for it."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
