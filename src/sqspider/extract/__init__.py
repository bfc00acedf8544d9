"""The harvest: from captures to rows, links and answers. See docs/decisions/032-harvest.md.

what is read      document, page; xhtml, shown; selection (which captures), sources (which of them count)
facts of a page   facts; texts, main_content, grids; element_text, linked_data
fields of one's   rules, rules_said; paths, selectors, scanning; values; applying (one's own code)
rows of a page    extractor, reading, tally; fetch_columns, picking
the way to them   harvest, following, sample; tasks, pool, working; walking, cursor, ledger, alone
links of a page   page_links; linked_page
the link table    link_table; link_keeping, link_working
what it is asked  link_queries, link_records, link_faults, link_graph
a check's report  report_gathering, report_findings; report_text, report_json, report_junit, report_markdown
pages alike       duplicates, simhash; contents
"""
