"""Tables: typed columns, and the files that rows are written to. Nothing here knows what the rows are about."""
