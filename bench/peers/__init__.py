"""Each crawler that sqspider is measured against, as a program: ``python FILE URL EXCLUDE``."""
