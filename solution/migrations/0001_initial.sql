-- Box office, first schema. Frozen: the history is loaded into these tables,
-- later changes go into 0002 and up. Each file runs in one transaction.

CREATE TABLE venues (
    id   integer PRIMARY KEY,
    name text NOT NULL,
    city text NOT NULL
);

CREATE TABLE events (
    id             integer PRIMARY KEY,
    venue_id       integer NOT NULL REFERENCES venues (id),
    title          text NOT NULL,
    starts_at      timestamptz NOT NULL,
    sales_open_at  timestamptz NOT NULL,
    sales_close_at timestamptz NOT NULL,
    price          numeric(10, 2) NOT NULL CHECK (price >= 0),  -- EUR
    seats_total    integer NOT NULL CHECK (seats_total >= 0)
);

CREATE TABLE orders (
    id              uuid PRIMARY KEY,
    buyer_email     text NOT NULL,
    status          text NOT NULL DEFAULT 'pending'
                    CHECK (status IN ('pending', 'confirmed', 'declined', 'failed')),
    currency        char(3) NOT NULL DEFAULT 'EUR',
    total           numeric(12, 2) NOT NULL,      -- in currency
    total_eur       numeric(12, 2) NOT NULL,
    card_token      text,                         -- until the order settles
    charge_id       text,
    idempotency_key text,
    created_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE order_lines (
    order_id       uuid NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    line_no        smallint NOT NULL,
    event_id       integer NOT NULL REFERENCES events (id),
    quantity       integer NOT NULL CHECK (quantity > 0),
    unit_price     numeric(10, 2) NOT NULL,       -- in the order's currency
    unit_price_eur numeric(10, 2) NOT NULL,
    PRIMARY KEY (order_id, line_no)
);

CREATE TABLE idempotency_keys (
    key          text PRIMARY KEY,
    request_hash text NOT NULL,
    order_id     uuid,
    status_code  integer,
    response     jsonb,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text NOT NULL,
    order_id     uuid NOT NULL,
    payload      jsonb NOT NULL,
    attempts     integer NOT NULL DEFAULT 0,
    available_at timestamptz NOT NULL DEFAULT now(),
    sent_at      timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE waitlist_entries (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id   integer NOT NULL REFERENCES events (id),
    email      text NOT NULL,
    quantity   integer NOT NULL CHECK (quantity > 0),
    position   integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
