"""sqspider: crawls every URL once and loses none."""

from __future__ import annotations

__version__ = "0.1.0"
