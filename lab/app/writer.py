#!/usr/bin/python3
"""Takes an order several times a second and never stops.

Each order has the next number. After the database has committed it, the number is appended to
a file and synced: whatever number stands in that file must be in the database afterwards, wherever
the server runs by then.
"""

import configparser
import hashlib
import os
import signal
import sys
import time

import pymysql

CONFIG = configparser.ConfigParser()
CONFIG.read("/etc/webapp/webapp.ini")
PAUSE = 1 / float(CONFIG["writer"]["per_second"])


def connect():
    return pymysql.connect(
        unix_socket=CONFIG["database"]["socket"],
        user=CONFIG["database"]["user"],
        database=CONFIG["database"]["name"],
        connect_timeout=5,
        autocommit=False,
    )


def write(connection, ledger):
    """Orders until the database goes away."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT COALESCE(MAX(seq), 0) FROM orders")
        number = int(cursor.fetchone()[0])
        while True:
            number += 1
            note = hashlib.sha256(b"order %d" % number).hexdigest()
            cursor.execute(
                "INSERT INTO orders (seq, customer, note) VALUES (%s, %s, %s)",
                (number, number % 20 + 1, note),
            )
            connection.commit()
            os.write(ledger, b"%d\n" % number)
            os.fsync(ledger)
            time.sleep(PAUSE)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path = CONFIG["writer"]["ledger"]
    ledger = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    while True:
        try:
            connection = connect()
            try:
                write(connection, ledger)
            finally:
                connection.close()
        except pymysql.MySQLError as fault:
            sys.stderr.write(f"waiting for the database: {fault}\n")
            time.sleep(1)


if __name__ == "__main__":
    main()
