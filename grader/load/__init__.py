"""The load scenario's parts.

``plan`` the seeded traffic · ``answers`` what each request must be answered with · ``locustfile`` sends it, in a
process of its own · ``generator`` starts that process and reads its result · ``arithmetic`` outcomes → figures.

Locust and gevent patch the interpreter: only ``locustfile`` imports them.
"""
