"""Events that a scenario brings along, beside those of the run."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal

from devstack.seed import CITIES, ROOMS, LiveData, LiveEvent, Venue

_FAR_OFF_S = (26 * 3_600, 50 * 86_400)
"""When an event begins unless said otherwise: it neither passes nor changes its place during a run."""

_SEATS = 250
"""No class of the run's own events has so many: whoever picks one of those by its seats gets none of these."""


class Additions:
    """Makes venues and events which the run does not have; all but their times follow from the run's seed."""

    def __init__(self, live: LiveData, purpose: str, now: dt.datetime) -> None:
        self.chance = random.Random(f"{purpose} {live.seed}")
        self.now = now.replace(microsecond=0)
        self.venues: list[Venue] = []
        self.events: list[LiveEvent] = []
        taken = {event.id for event in live.events}
        self._ids = iter(self.chance.sample([n for n in range(10_000, 100_000) if n not in taken], 500))
        used = {venue.id for venue in live.venues}
        self._venue_ids = iter(self.chance.sample([n for n in range(1_000, 10_000) if n not in used], 20))
        shown = {venue.city for venue in live.venues}
        self._cities = iter(self.chance.sample([city for city in CITIES if city not in shown], 5))

    def venue(self, city: str | None = None) -> Venue:
        """A venue, in a city where the run has none unless said."""
        number = next(self._venue_ids)
        place = city or next(self._cities)
        venue = Venue(number, f"{self.chance.choice(ROOMS)} {number}", place)
        self.venues.append(venue)
        return venue

    def event(
        self,
        venue: Venue,
        *,
        starts_at: dt.datetime | None = None,
        sales_open_at: dt.datetime | None = None,
        sales_close_at: dt.datetime | None = None,
        price: Decimal | None = None,
    ) -> LiveEvent:
        """An event at ``venue``. Unless said, it is on sale, and begins days from now at no other's instant."""
        number = next(self._ids)
        # The run's events begin at whole seconds.
        some_day = self.now + dt.timedelta(seconds=self.chance.randrange(*_FAR_OFF_S) + number / 1e6)
        begins = starts_at or some_day
        event = LiveEvent(
            id=number,
            title=f"Matinée {number}",
            venue_id=venue.id,
            city=venue.city,
            starts_at=begins,
            sales_open_at=sales_open_at or self.now - dt.timedelta(days=9),
            sales_close_at=sales_close_at or begins,
            price=price or Decimal(self.chance.randint(500, 9_000)).scaleb(-2),
            seats_total=_SEATS,
        )
        self.events.append(event)
        return event
