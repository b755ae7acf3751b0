-- Counters, keys and indexes for a busy minute. Runs once, with the service stopped.

-- A seat is taken from its reservation on, until the order is declined or has failed. The counter makes
-- availability a column to read and a reservation one conditional update.
ALTER TABLE events
    ADD COLUMN seats_taken integer NOT NULL DEFAULT 0,
    ADD COLUMN waitlist_length integer NOT NULL DEFAULT 0 CHECK (waitlist_length >= 0);

UPDATE events
SET seats_taken = sold.seats
FROM (
    SELECT order_lines.event_id, sum(order_lines.quantity) AS seats
    FROM order_lines
    JOIN orders ON orders.id = order_lines.order_id
    WHERE orders.status IN ('pending', 'confirmed')
    GROUP BY order_lines.event_id
) AS sold
WHERE events.id = sold.event_id;

UPDATE events
SET waitlist_length = waiting.length
FROM (SELECT event_id, max(position) AS length FROM waitlist_entries GROUP BY event_id) AS waiting
WHERE events.id = waiting.event_id;

-- The last line of defence: no code path can oversell.
ALTER TABLE events ADD CONSTRAINT events_seats_taken_check CHECK (seats_taken BETWEEN 0 AND seats_total);

-- Room on each page for new row versions, so that counting a seat touches no index.
ALTER TABLE events SET (fillfactor = 70);

CREATE INDEX events_upcoming ON events (starts_at, id);
CREATE INDEX events_upcoming_by_venue ON events (venue_id, starts_at, id);
CREATE INDEX venues_city ON venues (city);

-- Sales of one event without touching the lines' table.
CREATE INDEX order_lines_by_event ON order_lines (event_id) INCLUDE (order_id, quantity, unit_price_eur);

-- When the reconciler has to look at an order: a pending one whose request is over, a failed one whose
-- payment has to be looked up once more. NULL for all others, so the index stays small.
ALTER TABLE orders
    ADD COLUMN reconcile_at timestamptz,
    ADD COLUMN reconcile_attempts integer NOT NULL DEFAULT 0;
UPDATE orders SET reconcile_at = now() WHERE status = 'pending';
CREATE INDEX orders_to_reconcile ON orders (reconcile_at) WHERE reconcile_at IS NOT NULL;

CREATE INDEX outbox_unsent ON outbox (available_at) WHERE sent_at IS NULL;
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

CREATE UNIQUE INDEX waitlist_one_entry_per_email ON waitlist_entries (event_id, lower(email));
CREATE UNIQUE INDEX waitlist_position ON waitlist_entries (event_id, position);
