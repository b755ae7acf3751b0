"""GET /events/{id}/sales."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from boxoffice.dependencies import SalesDep
from boxoffice.errors import ErrorBody, NotFound
from boxoffice.events.schemas import EventId
from boxoffice.reports.sales import SalesReport

router = APIRouter(prefix="/events", tags=["reports"])


@router.get(
    "/{event_id}/sales",
    response_model=SalesReport,
    responses={404: {"model": ErrorBody}, 503: {"model": ErrorBody}},
)
async def get_sales(event_id: EventId, sales: SalesDep) -> Response:
    """What an event has sold, by UTC day."""
    report = await sales.get(event_id)
    if report is None:
        raise NotFound("there is no such event")
    return Response(report, media_type="application/json")
