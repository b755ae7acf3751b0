"""What the endpoints work with, built once by the lifespan (see boxoffice.app)."""

from __future__ import annotations

from typing import Annotated, TypedDict

from fastapi import Depends, Request

from boxoffice.db import Database
from boxoffice.orders.service import OrderService
from boxoffice.reports.sales import SalesReports
from boxoffice.tickets.printer import TicketPrinter
from boxoffice.upstreams.rates import Rates


class State(TypedDict):
    """The lifespan's state, as requests see it."""

    database: Database
    rates: Rates
    orders: OrderService
    sales: SalesReports
    tickets: TicketPrinter


async def get_database(request: Request) -> Database:
    """The database."""
    database: Database = request.state.database
    return database


async def get_rates(request: Request) -> Rates:
    """Exchange rates."""
    rates: Rates = request.state.rates
    return rates


async def get_orders(request: Request) -> OrderService:
    """Places orders."""
    orders: OrderService = request.state.orders
    return orders


async def get_sales(request: Request) -> SalesReports:
    """Sales reports."""
    sales: SalesReports = request.state.sales
    return sales


async def get_tickets(request: Request) -> TicketPrinter:
    """Prints tickets."""
    tickets: TicketPrinter = request.state.tickets
    return tickets


DatabaseDep = Annotated[Database, Depends(get_database)]
RatesDep = Annotated[Rates, Depends(get_rates)]
OrdersDep = Annotated[OrderService, Depends(get_orders)]
SalesDep = Annotated[SalesReports, Depends(get_sales)]
TicketsDep = Annotated[TicketPrinter, Depends(get_tickets)]
