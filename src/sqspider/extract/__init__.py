"""The harvest: from captures to rows, links and answers. See docs/decisions/032-harvest.md."""
