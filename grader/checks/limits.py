"""Numbers of the contract as checks use them: the contract's number plus a fifth, so that noise costs nobody a point."""

from __future__ import annotations

MARGIN = 1.2
"""Right and wrong designs differ by 5× or more at every probe; 20 % above the promise is still far from wrong."""

LIVE_P95_S = 0.3 * MARGIN
LIVE_WORST_S = 1.0 * MARGIN
READ_P95_BESIDE_CPU_S = 0.3 * MARGIN
READ_BESIDE_PARKED_ORDERS_S = 1.5 * MARGIN
READ_DEADLINE_S = 3.0 * MARGIN
ORDER_DEADLINE_S = 10.0 * MARGIN
REPORT_DEADLINE_S = 10.0 * MARGIN

LIVE_SOURCE = "contract: p95 ≤ 300 ms, never > 1 s, + 20 %"

TICKET_ITERATIONS = 800_000
"""Contract: the key stretching of a ticket's signature."""
