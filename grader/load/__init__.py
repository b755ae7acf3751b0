"""The load scenario's parts.

``plan`` the seeded traffic · ``requests`` what each request looks like · ``answers`` what it must be answered with ·
``rehearsal`` the same at leisure, before the load · ``locustfile`` sends it, in a process of its own, through
``client`` · ``generator`` starts that process and reads its result · ``arithmetic`` outcomes → figures · ``books`` what
must be left of it.

Locust and gevent patch the interpreter: only ``locustfile`` and ``client`` import them.
"""
