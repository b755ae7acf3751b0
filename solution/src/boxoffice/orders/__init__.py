"""Orders: placing, paying, settling and showing them."""
