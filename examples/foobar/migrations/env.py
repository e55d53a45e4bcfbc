"""Runs the migrations on the database that DATABASE_URL names."""

import logging

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from foobar import db, settings

# A change that waits for a table makes every later query wait behind it: give up soon.
TABLE_WAIT_SECONDS = 5
OTHER_RUN_WAIT_SECONDS = 10
STATEMENT_SECONDS = 3600


def prepare(connection: Connection) -> None:
    """Make this the only run on the database, until the connection ends.

    Raises CommandError when another run does not finish in time.
    """
    connection.execute(text("SET SESSION lock_wait_timeout = :s"), {"s": TABLE_WAIT_SECONDS})
    # Such a lock belongs to the whole server, hence the database in its name.
    lock = {"name": f"migrate {connection.engine.url.database}"[:64], "s": OTHER_RUN_WAIT_SECONDS}
    if connection.scalar(text("SELECT GET_LOCK(:name, :s)"), lock) != 1:
        raise CommandError(
            f"Another migration is still running after {OTHER_RUN_WAIT_SECONDS} seconds; "
            "nothing was changed."
        )
    # Alembic would leave the commit to us if it found a transaction.
    connection.commit()


def migrate() -> None:
    """Connect and run what Alembic was asked for.

    Raises CommandError, in one sentence, when the environment or the database is not usable.
    """
    if context.is_offline_mode():
        raise CommandError("These migrations need a database: --sql is not supported.")
    try:
        url = settings.database_url()
        arguments = db.driver_arguments(url, STATEMENT_SECONDS)
        engine = create_engine(
            url, poolclass=NullPool, connect_args=arguments, hide_parameters=True
        )
        with engine.connect() as connection:
            if db.is_mysql(url):
                prepare(connection)
            context.configure(connection=connection, target_metadata=db.metadata)
            with context.begin_transaction():
                context.run_migrations()
    except settings.SettingsError as error:
        raise CommandError(str(error)) from None
    except OperationalError as error:
        raise CommandError(f"The database failed: {db.reason(error)}") from None


logging.basicConfig(format="%(message)s")
logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)
migrate()
