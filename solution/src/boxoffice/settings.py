"""Configuration, read from the environment once at start."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

CONNECTIONS_IN_RESERVE = 2
"""Sessions of the budget that no pool uses: one that was given up may still be ending on the server."""

LogLevel = Annotated[
    Literal["CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]


class Settings(BaseSettings):
    """Environment variables of the service. Raises pydantic.ValidationError when one is missing or wrong."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    web_concurrency: int = Field(default=1, ge=1)
    database_url: SecretStr
    database_max_connections: int = Field(default=20, ge=1)
    payments_url: str
    risk_url: str
    rates_url: str
    mailer_url: str
    ticket_secret: SecretStr
    log_level: LogLevel = "INFO"

    @property
    def pool_size(self) -> int:
        """Database connections of one serving process: an equal share of the budget less the reserve."""
        available = max(self.database_max_connections - CONNECTIONS_IN_RESERVE, self.web_concurrency)
        return max(1, available // self.web_concurrency)
