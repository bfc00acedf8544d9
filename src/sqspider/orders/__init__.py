"""What is wanted of a crawl, by whoever says so: its row is made, changed, or left as it is."""
