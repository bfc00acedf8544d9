"""Four consumers race for a thousand URLs on ministack: ``python -m bench.aws_race [URLS]``.

Every message is sent twice, a tenth of the calls is throttled, and consumers are killed at random.
The exit status is 0 if each URL was finished exactly once.
"""

from __future__ import annotations

import asyncio
import sys

from tests.aws.engines import Engines
from tests.aws.race import race


async def main(urls: int) -> int:
    engines = Engines()
    try:
        report = await race(
            engines.ministack(),
            urls=urls,
            consumers=4,
            kills=8,
            kill_every_seconds=2.0,
            throttled=0.1,
            page_seconds=0.4,
            seed=1,
        )
    finally:
        engines.stop()
    print(f"{report.urls:,} URLs, 4 consumers, {report.kills} killed: {report.seconds:.0f} s")
    for times, number in sorted(report.finishes.items()):
        print(f"  finished {times} x: {number:,} URLs")
    for times, number in sorted(report.fetches.items()):
        print(f"  fetched {times} x: {number:,} URLs")
    print(f"  records: {', '.join(f'{number:,} {status}' for status, number in report.records.items())}")
    print(f"  races: {report.won:,} won, {report.lost:,} lost")
    print(f"  calls: {report.calls:,}, of which {report.throttled:,} throttled")
    for line in report.errors[:10]:
        print(f"  error: {line[:200]}")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)))
