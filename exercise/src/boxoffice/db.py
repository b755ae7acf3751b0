"""Database engine and the session dependency."""

from collections.abc import Iterator

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from boxoffice.settings import settings

# NullPool: the workers used to share sockets after the fork and answers got mixed up. Opening a
# connection takes a few milliseconds on our network, so we stopped pooling.
engine = create_engine(settings.sqlalchemy_url, poolclass=NullPool)
SessionLocal = sessionmaker(engine, expire_on_commit=False)


def get_session() -> Iterator[Session]:
    """One session, one transaction per request: committed when the endpoint is done, else rolled back."""
    session = SessionLocal()
    try:
        yield session
        session.commit()
    except Exception:
        session.rollback()
        raise
    finally:
        session.close()
