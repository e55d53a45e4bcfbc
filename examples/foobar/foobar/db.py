"""The tables, the way to the database, and every query of the site."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    Connection,
    DateTime,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    func,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

NAME_LENGTH = 50
TITLE_LENGTH = 200
EXCERPT_LENGTH = 300
MAX_ID = 2**31 - 1  # what INTEGER holds

CONNECT_SECONDS = 2
ANSWER_SECONDS = 2
IDLE_SECONDS = 300

# The binary collation keeps names apart that others call equal, such as any two emoji.
MYSQL_OPTIONS = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}

metadata = MetaData()

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(NAME_LENGTH), nullable=False),
    Column("created", DateTime, nullable=False),
    UniqueConstraint("name", name="uq_users_name"),
    **MYSQL_OPTIONS,
)

articles = Table(
    "articles",
    metadata,
    Column("id", Integer, primary_key=True),
    Column(
        "author_id",
        Integer,
        ForeignKey("users.id", name="fk_articles_author_id"),
        nullable=False,
    ),
    Column("title", String(TITLE_LENGTH), nullable=False),
    Column("body", Text, nullable=False),
    Column("created", DateTime, nullable=False),
    **MYSQL_OPTIONS,
)


def is_mysql(url: URL) -> bool:
    """Tell whether the URL leads to MySQL or MariaDB."""
    return url.get_backend_name() in ("mysql", "mariadb")


def driver_arguments(url: URL, answer_seconds: int) -> dict[str, Any]:
    """Return what the driver needs beyond the URL.

    answer_seconds is how long the server may take for any one statement.
    """
    if not is_mysql(url):
        return {}
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": answer_seconds,
        "write_timeout": answer_seconds,
        # The driver would encrypt what never leaves the host.
        "ssl_disabled": "unix_socket" in url.query,
    }
    if url.password:
        # PyMySQL would encode a text as Latin-1 and refuse all characters beyond it.
        arguments["password"] = str(url.password).encode()
    return arguments


def make_engine(url: URL) -> Engine:
    """Return the engine of one process, which connects at its first query and not before."""
    return create_engine(
        url,
        connect_args=driver_arguments(url, ANSWER_SECONDS),
        hide_parameters=True,
        max_overflow=0,
        pool_pre_ping=True,
        pool_recycle=IDLE_SECONDS,
        pool_size=2,
        pool_timeout=CONNECT_SECONDS,
    )


def reason(error: SQLAlchemyError) -> str:
    """Return what the driver reported, in one line and without the SQL."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


def _with_author(*columns: Any) -> Select[Any]:
    """Select these columns of the articles and the author's name."""
    return select(*columns, users.c.name.label("author")).join_from(articles, users)


def newest(engine: Engine, count: int, before: int | None = None) -> Sequence[Row[Any]]:
    """Return the newest articles (those older than the id `before`) with an excerpt each."""
    excerpt = func.substr(articles.c.body, 1, EXCERPT_LENGTH).label("excerpt")
    query = (
        _with_author(
            articles.c.id, articles.c.author_id, articles.c.title, articles.c.created, excerpt
        )
        .order_by(articles.c.id.desc())
        .limit(count)
    )
    if before is not None:
        query = query.where(articles.c.id < before)
    with engine.connect() as connection:
        return connection.execute(query).all()


def article(engine: Engine, article_id: int) -> Row[Any] | None:
    """Return one whole article, or None when there is none with this id."""
    query = _with_author(*articles.c).where(articles.c.id == article_id)
    with engine.connect() as connection:
        return connection.execute(query).first()


def add_article(engine: Engine, author: str, title: str, body: str) -> int:
    """Store an article, with its author when the name is new; return the article's id."""
    try:
        return _insert_article(engine, author, title, body)
    except IntegrityError:
        # Another request added the same author after we had looked: now the name is there.
        return _insert_article(engine, author, title, body)


def _insert_article(engine: Engine, author: str, title: str, body: str) -> int:
    # UTC without a zone and without fractions is what DATETIME stores.
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    with engine.begin() as connection:
        author_id = connection.scalar(select(users.c.id).where(users.c.name == author))
        if author_id is None:
            author_id = _insert(connection, users, name=author, created=now)
        return _insert(
            connection, articles, author_id=author_id, title=title, body=body, created=now
        )


def _insert(connection: Connection, table: Table, **values: Any) -> int:
    return int(connection.execute(insert(table).values(values)).inserted_primary_key[0])
