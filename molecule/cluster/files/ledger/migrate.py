"""What the ledger is written in. Says where it ran, so that a test can count that."""

import ledger

ledger.rows("CREATE TABLE IF NOT EXISTS entries (number BIGINT PRIMARY KEY) ENGINE = InnoDB")
ledger.rows("CREATE TABLE IF NOT EXISTS migrations (host VARCHAR(255), release_id VARCHAR(255)) ENGINE = InnoDB")
ledger.rows("INSERT INTO migrations VALUES (%s, %s)", ledger.socket.gethostname(), ledger.os.environ["APP_RELEASE"])
ledger.rows(
    "CREATE TABLE IF NOT EXISTS beats (number BIGINT AUTO_INCREMENT PRIMARY KEY, job VARCHAR(255), host VARCHAR(255), "
    "moment TIMESTAMP(3) DEFAULT CURRENT_TIMESTAMP(3)) ENGINE = InnoDB"
)
