"""Box office: events, orders, tickets and sales."""
