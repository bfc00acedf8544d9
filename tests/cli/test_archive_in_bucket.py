"""An archive in a bucket, as a user with ``SQSPIDER_ARCHIVE`` in the environment meets it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

from sqspider.archive.s3 import S3Client
from tests import forked
from tests.aws.buckets import bucket
from tests.aws.engines import Engines

HERE = ("--delay", "0", "--allow-private", "--exclude", "slow|huge|flaky|missing|trap")


async def test_a_crawl_keeps_its_pages_in_a_bucket_and_cleanup_removes_them(
    engines: Engines, served_site: str, tmp_path: Path
) -> None:
    environment = engines.ministack()
    async with bucket(environment, "pages/of mine") as place:
        address = f"s3://{place.bucket}/pages/of mine"

        async def sqspider(*arguments: str) -> subprocess.CompletedProcess[str]:
            env = {**environment, "SQSPIDER_ARCHIVE": address}
            return await asyncio.to_thread(forked.run, "--frontier", "sqlite:x.db", *arguments, cwd=tmp_path, env=env)

        done = await sqspider("crawl", served_site, *HERE, "--json")
        assert done.returncode == 0, done.stderr
        assert f"keeping pages in {address}\n" in done.stderr
        assert json.loads(done.stdout)["archive"] == {
            "address": address,
            "files": None,
            "bytes": None,
            "added_bytes": None,
        }
        rows = [json.loads(line) for line in (await sqspider("export")).stdout.splitlines()]
        assert all(row["capture_file"] for row in rows if row["http_status"])
        assert f"archive: {address}" in (await sqspider("status")).stdout
        body = await sqspider("show", f"{served_site}page/1", "--body")
        assert "<title>Page 1</title>" in body.stdout, body.stderr
        stays = await sqspider("cleanup", "--all", "--yes")
        assert f"stay in {address}: --archive removes them" in stays.stderr
        removed = await sqspider("cleanup", "--archive", "--yes")
        assert removed.returncode == 0, removed.stderr
        assert f"of pages in {address}" in removed.stdout
        client = S3Client.open(place, environment)
        assert [found.key async for found in client.listed()] == []
        await client.close()
