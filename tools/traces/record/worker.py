"""Dispatches paid orders from the queue, and writes long reports. sqlite3 and requests.

Now and then the process dies without a flush, as one that ran out of memory does: its
spans of the last moments are lost and their traces stay partial. record.py restarts it.
"""

import json
import os
import random
import sqlite3
import threading
import time

import requests
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.propagate import extract
from opentelemetry.trace import SpanKind

from common import pause, stop_event, telemetry, url

CRASH = 0.01
REPORT_EVERY_S = 20
REPORT_TAKES_S = (20, 60)

tracer = telemetry("worker")
RequestsInstrumentor().instrument()


def take():
    """The next message, or None. Not traced: an idle queue must not make spans."""
    database = sqlite3.connect("orders.db", timeout=5)
    try:
        row = database.execute("DELETE FROM queue WHERE id = (SELECT min(id) FROM queue) RETURNING body").fetchone()
        database.commit()
        return json.loads(row[0]) if row else None
    except sqlite3.OperationalError:  # locked, or the tables are not there yet
        return None
    finally:
        database.close()


def traced(sql, *values):
    database = SQLite3Instrumentor().instrument_connection(sqlite3.connect("orders.db", timeout=5))
    try:
        cursor = database.cursor()
        cursor.execute(sql, values)
        rows = cursor.fetchall()
        database.commit()
        return rows
    finally:
        database.close()


def dispatch(message):
    context = extract(message["headers"])
    with tracer.start_as_current_span("dispatch process", context=context, kind=SpanKind.CONSUMER):
        with tracer.start_as_current_span("print label"):
            pause(5, 120)
        traced("UPDATE orders SET state = 'sent' WHERE id = ?", message["order"])
        if random.random() < CRASH:
            time.sleep(0.3)  # the finished children are exported, this span never is
            os._exit(137)
        for attempt in range(3):
            if requests.post(url("notifications", "/mails"), json={"order": message["order"]}, timeout=3).ok:
                return
            time.sleep(0.1 * 2**attempt)


def report():
    """One long trace: its root ends up to a minute after its first child."""
    until = time.monotonic() + random.uniform(*REPORT_TAKES_S)
    with tracer.start_as_current_span("sales report"):
        while time.monotonic() < until:
            traced("SELECT state, count(*), sum(cents) FROM orders GROUP BY state")
            time.sleep(random.uniform(1, 6))


def main():
    stopped = stop_event()
    next_report = time.monotonic() + random.uniform(1, REPORT_EVERY_S)
    while not stopped.is_set():
        if time.monotonic() > next_report:
            next_report += REPORT_EVERY_S
            threading.Thread(target=report, daemon=True).start()
        message = take()
        if message is None:
            stopped.wait(0.05)
        else:
            threading.Thread(target=dispatch, args=(message,), daemon=True).start()


main()
