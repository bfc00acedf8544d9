"""The web: a request and its answer, what a page says, robots.txt, sitemaps. Who is asked when is in ``politeness``."""
