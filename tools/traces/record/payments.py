"""Takes payments: sometimes refuses, fails or is too slow for its caller. Flask and sqlite3."""

import random
import sqlite3

from flask import Flask, request
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor

from common import pause, serve_flask, telemetry

tracer = telemetry("payments")
SQLite3Instrumentor().instrument()
app = Flask(__name__)
FlaskInstrumentor().instrument_app(app)


class BankUnavailable(Exception):
    """The bank did not answer."""


def execute(sql, *values):
    database = sqlite3.connect("payments.db", timeout=5)
    try:
        database.cursor().execute(sql, values)
        database.commit()
    finally:
        database.close()


def ask_bank(cents):
    with tracer.start_as_current_span("ask bank") as span:
        span.set_attribute("cents", cents)
        luck = random.random()
        if luck < 0.06:
            pause(700, 1800)  # the caller gives up first and this span arrives late
        elif luck < 0.12:
            raise BankUnavailable(f"no answer for {cents} cents")
        else:
            pause(10, 250)
        return luck < 0.97


@app.post("/charges")
def charge():
    order, cents = request.json["order"], request.json["cents"]
    if not ask_bank(cents):
        return {"error": "card refused"}, 402
    execute("INSERT INTO charge (order_id, cents) VALUES (?, ?)", order, cents)
    return {"order": order}


execute("CREATE TABLE charge (id INTEGER PRIMARY KEY, order_id INTEGER, cents INTEGER)")
serve_flask(app, "payments")
