"""The application: what lives as long as the process, middleware, routes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from boxoffice import health
from boxoffice.db import Database
from boxoffice.dependencies import State
from boxoffice.errors import install_error_handlers
from boxoffice.events import repository as events
from boxoffice.events.endpoints import router as events_router
from boxoffice.middleware import BodyLimit, RequestTelemetry
from boxoffice.orders import repository as orders
from boxoffice.orders.endpoints import router as orders_router
from boxoffice.orders.outbox import REHEARSAL as OUTBOX_REHEARSAL
from boxoffice.orders.outbox import Outbox
from boxoffice.orders.reconciler import Reconciler
from boxoffice.orders.service import OrderService
from boxoffice.reports.endpoints import router as reports_router
from boxoffice.reports.sales import SalesReports
from boxoffice.settings import Settings
from boxoffice.telemetry import configure_logging, get_logger
from boxoffice.tickets.endpoints import router as tickets_router
from boxoffice.tickets.printer import TicketPrinter
from boxoffice.upstreams.client import UpstreamClient
from boxoffice.upstreams.mailer import Mailer
from boxoffice.upstreams.payments import Payments
from boxoffice.upstreams.rates import Rates
from boxoffice.upstreams.risk import Risk
from boxoffice.waitlist.endpoints import router as waitlist_router

# More than may be in flight at once (orders, reconciler, outbox), so that nothing waits for a connection.
PAYMENTS_CONNECTIONS = 200
OTHER_CONNECTIONS = 120

REHEARSAL = (*events.REHEARSAL, *orders.REHEARSAL, *OUTBOX_REHEARSAL)

log = get_logger("boxoffice.app")


@asynccontextmanager
async def run_services(settings: Settings) -> AsyncIterator[State]:
    """Everything that endpoints and background loops share; stopped in reverse order."""
    async with AsyncExitStack() as stack:
        database = Database(settings.database_url.get_secret_value(), pool_size=settings.pool_size)
        stack.push_async_callback(database.close)
        await database.open(REHEARSAL)

        def client(name: str, url: str, max_connections: int = OTHER_CONNECTIONS) -> UpstreamClient:
            upstream = UpstreamClient(name, url, max_connections=max_connections)
            stack.push_async_callback(upstream.close)
            return upstream

        payments = Payments(client("payments", settings.payments_url, PAYMENTS_CONNECTIONS))
        risk = Risk(client("risk", settings.risk_url))
        rates = Rates(client("rates", settings.rates_url))
        stack.push_async_callback(rates.close)
        outbox = Outbox(database, Mailer(client("mailer", settings.mailer_url)))
        stack.push_async_callback(outbox.close)
        reconciler = Reconciler(database, payments, outbox)
        stack.push_async_callback(reconciler.close)
        sales = SalesReports(database)
        stack.push_async_callback(sales.close)
        tickets = TicketPrinter(settings.ticket_secret.get_secret_value())
        stack.push_async_callback(tickets.close)

        for loop in (outbox.run, reconciler.run):
            stack.push_async_callback(_cancel, asyncio.create_task(loop()))
        yield {
            "database": database,
            "rates": rates,
            "orders": OrderService(database, payments, risk, rates, outbox),
            "sales": sales,
            "tickets": tickets,
        }


def _end_with_supervisor() -> None:
    """Drain and end when the process that started the workers was killed: nobody else would stop them."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        asyncio.get_running_loop().add_reader(supervisor.sentinel, _terminate, supervisor.sentinel)


def _terminate(sentinel: int) -> None:
    asyncio.get_running_loop().remove_reader(sentinel)
    os.kill(os.getpid(), signal.SIGTERM)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Assemble the application; without settings they come from the environment."""
    settings = settings or Settings()
    configure_logging(settings.log_level)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[State]:
        _end_with_supervisor()
        async with run_services(settings) as state:
            log.info("ready", pool_size=settings.pool_size)
            yield state
        log.info("stopped")

    app = FastAPI(title="Box office", version="1.0.0", lifespan=lifespan)
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestTelemetry)  # outermost: it sees every request and every answer
    install_error_handlers(app)
    for router in (
        health.router,
        events_router,
        reports_router,
        waitlist_router,
        orders_router,
        tickets_router,
    ):
        app.include_router(router)
    return app
