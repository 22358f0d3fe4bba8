#!/usr/bin/python3
"""The shop on the old server: pages from MariaDB, sessions as files, as applications of its age.

/ is the same, byte for byte, as long as the database is the same server's and holds the same
customers, whatever the writer has added since: it can be compared before and after a move. What
moves is on /rows (and in the header X-Rows).
"""

import configparser
import html
import http.server
import json
import re
import secrets
import socket
import threading
from pathlib import Path

import pymysql

CONFIG = configparser.ConfigParser()
CONFIG.read("/etc/webapp/webapp.ini")
SESSIONS = Path(CONFIG["webapp"]["sessions"])
SESSION_ID = re.compile(r"\bSID=([0-9a-f]{32})\b")
PAGE = """<!DOCTYPE html>
<html><head><title>Orders on {host}</title></head><body>
<h1>Orders</h1>
<p>Served by {host}, database {database}.</p>
<p>Your session is kept in a file; payments go to {payments}.</p>
<table>
{customers}
</table>
<p>The count of orders is on <a href="/rows">/rows</a>.</p>
</body></html>
"""


def query(sql):
    """All rows of one statement, on a connection of its own."""
    connection = pymysql.connect(
        unix_socket=CONFIG["database"]["socket"],
        user=CONFIG["database"]["user"],
        database=CONFIG["database"]["name"],
        connect_timeout=5,
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()
    finally:
        connection.close()


def rows():
    """How many orders, the last number, and a sum over the texts of all."""
    ((count, last, total),) = query(
        "SELECT COUNT(*), COALESCE(MAX(seq), 0), COALESCE(SUM(CRC32(note)), 0) FROM orders"
    )
    return {"rows": int(count), "last": int(last), "sum": int(total)}


def front_page():
    """The page that stays the same."""
    ((database,),) = query("SELECT VERSION()")
    lines = (
        f"<tr><td>{number}</td><td>{html.escape(name)}</td></tr>"
        for number, name in query("SELECT id, name FROM customers ORDER BY id")
    )
    return PAGE.format(
        host=html.escape(socket.gethostname()),
        database=html.escape(database),
        payments=html.escape(CONFIG["payments"]["address"]),
        customers="\n".join(lines),
    )


def visit(cookie):
    """Count a visit in the session's file; returns the session's id, new if ``cookie`` has none.

    A disk that can't be written to costs the count, not the page.
    """
    match = SESSION_ID.search(cookie or "")
    session = match.group(1) if match else secrets.token_hex(16)
    file = SESSIONS / f"sess_{session}"
    try:
        visits = int(file.read_text().partition("=")[2] or 0) if file.exists() else 0
        beside = file.with_suffix(f".{threading.get_ident()}")
        beside.write_text(f"visits={visits + 1}\n")
        beside.replace(file)
    except (OSError, ValueError):
        pass
    return session


class Handler(http.server.BaseHTTPRequestHandler):
    """Two pages."""

    server_version = "webapp/1"
    timeout = 30

    def do_GET(self):
        try:
            if self.path == "/":
                counted = rows()
                headers = {
                    "Set-Cookie": f"SID={visit(self.headers.get('Cookie'))}; Path=/",
                    "X-Rows": str(counted["rows"]),
                }
                self.answer(200, "text/html; charset=utf-8", front_page(), headers)
            elif self.path == "/rows":
                self.answer(200, "application/json", json.dumps(rows()) + "\n", {})
            else:
                self.answer(404, "text/plain", "not found\n", {})
        except pymysql.MySQLError:
            self.answer(503, "text/plain", "the database does not answer\n", {})

    do_HEAD = do_GET

    def answer(self, status, kind, text, headers):
        """One complete answer."""
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format, *args):
        """Nothing: a log line for every visit would only fill the journal."""


class Server(http.server.ThreadingHTTPServer):
    """Port 80 again at once after a restart."""

    daemon_threads = True
    allow_reuse_address = True


if __name__ == "__main__":
    Server(("0.0.0.0", 80), Handler).serve_forever()
