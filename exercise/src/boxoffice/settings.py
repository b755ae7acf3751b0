"""Configuration, read from the environment once at start."""

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Environment variables of the service, see the README for their meaning."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    host: str = "127.0.0.1"
    port: int = 8000
    web_concurrency: int = 1
    database_url: str = "postgresql://boxoffice:boxoffice@127.0.0.1:5432/boxoffice"
    database_max_connections: int = 20
    payments_url: str = "http://127.0.0.1:9001"
    risk_url: str = "http://127.0.0.1:9002"
    rates_url: str = "http://127.0.0.1:9003"
    mailer_url: str = "http://127.0.0.1:9004"
    ticket_secret: str = "development-only"
    log_level: str = "INFO"

    @property
    def sqlalchemy_url(self) -> str:
        """DATABASE_URL with the driver that SQLAlchemy should use."""
        return self.database_url.replace("postgresql://", "postgresql+psycopg://", 1)


settings = Settings()
