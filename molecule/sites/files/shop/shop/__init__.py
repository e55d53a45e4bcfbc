"""A shop that shows what its customers have brought. Only for tests."""

import pymysql

pymysql.install_as_MySQLdb()
