"""GET /events/{id}/sales."""

from fastapi import APIRouter

from boxoffice.errors import NotFound
from boxoffice.reports import sales
from boxoffice.reports.connections import connections

router = APIRouter(prefix="/events", tags=["reports"])


@router.get("/{event_id}/sales")
async def get_sales(event_id: int) -> sales.SalesReport:
    """What an event sold, by day."""
    connection = connections.take()
    if not sales.event_exists(connection, event_id):
        raise NotFound("no such event")
    report = sales.by_day(sales.sold_lines(connection, event_id))
    connections.give_back(connection)
    return report
