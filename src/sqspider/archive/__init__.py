"""The archive: WARC files of all that was fetched, in a folder or a bucket. See docs/decisions/031-archive.md."""
