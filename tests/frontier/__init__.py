"""The conformance suite of the frontier port: every case runs against every engine.

The cases are written against the port alone (``sqspider.frontier``). Where time must pass they say
``store.elapse``; where a second worker is needed they open the same store again.
"""
