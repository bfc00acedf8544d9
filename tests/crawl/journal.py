"""A small store for tests: a line of a file for each capture, on the disk before its place is told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqspider.capture import Capture, StoreError
from sqspider.record import CapturePlace


class Journal:
    """Keeps captures in a file. Its ``error`` is raised as long as it has one, and nothing is written while
    ``may_write`` is not set."""

    def __init__(self, file: Path, *, gather_seconds: float = 0.0, most_bytes: int = 1 << 30) -> None:
        self.gather_seconds = gather_seconds
        self.most_bytes = most_bytes
        self.file = file
        self.error: StoreError | None = None
        self.calls = 0  # also those that failed
        self.writes: list[list[str]] = []  # URLs of what was written together, notes among them
        self.unkept_type = "image/png"  # of what is not kept
        self.may_write = asyncio.Event()
        self.may_write.set()
        self._notes: list[Capture] = []
        self._is_busy = False
        file.touch()

    def note(self, capture: Capture) -> None:
        self._notes.append(capture)

    async def keep(self, captures: Sequence[Capture]) -> list[CapturePlace | None]:
        assert not self._is_busy, "one call at a time"
        self._is_busy = True
        try:
            self.calls += 1
            await self.may_write.wait()
            if self.error is not None:
                raise self.error
            kept = [capture for capture in captures if capture.fetched.header("content-type") != self.unkept_type]
            places = dict(zip(map(id, kept), self._write([*self._notes, *kept])[len(self._notes) :], strict=True))
            self._notes.clear()
            return [places.get(id(capture)) for capture in captures]
        finally:
            self._is_busy = False

    def has(self, place: CapturePlace) -> bool:
        return place.file == self.file.name

    async def close(self) -> None:
        assert not self._is_busy

    def _write(self, captures: Sequence[Capture]) -> list[CapturePlace]:
        offset, lines, places = self.file.stat().st_size, [], []
        for capture in captures:
            payload = capture.fetched.payload
            digest = base64.b32encode(hashlib.sha1(payload).digest()).decode()
            told = {"url": capture.url, "digest": digest, "status": capture.fetched.http_status, "hop": capture.hop}
            line = json.dumps(told).encode() + b"\n"
            places.append(
                CapturePlace(self.file.name, offset, len(line), digest, round(capture.at, 6), payload=capture.before)
            )
            lines.append(line)
            offset += len(line)
        with self.file.open("ab", buffering=0) as file:
            file.write(b"".join(lines))
            os.fsync(file.fileno())
        self.writes.append([capture.url for capture in captures])
        return places

    def lines(self) -> list[dict[str, Any]]:
        """All that was kept."""
        return [json.loads(line) for line in self.file.read_bytes().splitlines()]

    def read(self, place: CapturePlace) -> dict[str, Any]:
        """What lies at a place."""
        assert place.file == self.file.name
        line: dict[str, Any] = json.loads(self.file.read_bytes()[place.offset : place.offset + place.length])
        assert line["digest"] == place.digest
        return line
