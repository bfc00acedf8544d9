"""The archive: WARC files of all that was fetched, in a folder or a bucket. See docs/decisions/031-archive.md.

what lies there   names, files, addresses; folder, locks, repair; bucket, bucket_ahead, s3 and s3_…; errors
writing           store; selection, payloads; warc, packing, suites, coding; sink, folder_sink, bucket_sink
reading           members, records, dates, http_messages, digests; gathering, reading, originals, strides; listing
its index         cdxj, surt, sorting
proving it        verify, verify_fields, verify_relations
changing it       rewriting, moves, scratch; pack and pack_orphans; forget and forget_…; removal
handing it over   export_files and export_…; wacz
"""
