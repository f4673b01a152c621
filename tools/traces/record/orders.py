"""Orders: reserves stock, takes the payment with retries, queues the dispatch. Flask, SQLAlchemy, requests."""

import json
import time

import requests
from flask import Flask, abort, request
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.propagate import inject
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import create_engine, text

from common import serve_flask, telemetry, url

tracer = telemetry("orders")
RequestsInstrumentor().instrument()
engine = create_engine("sqlite:///orders.db", connect_args={"timeout": 5})
with engine.begin() as connection:
    connection.execute(text("PRAGMA journal_mode=WAL"))
    connection.execute(text("CREATE TABLE orders (id INTEGER PRIMARY KEY, user TEXT, cents INTEGER, state TEXT)"))
    connection.execute(text("CREATE TABLE queue (id INTEGER PRIMARY KEY, body TEXT)"))
SQLAlchemyInstrumentor().instrument(engine=engine)
app = Flask(__name__)
FlaskInstrumentor().instrument_app(app)


def take_payment(order, cents, attempts=3):
    """Try a few times, each with its own deadline; True when the money is there."""
    for attempt in range(1, attempts + 1):
        with tracer.start_as_current_span("payment attempt") as span:
            span.set_attribute("attempt", attempt)
            try:
                answer = requests.post(url("payments", "/charges"), json={"order": order, "cents": cents}, timeout=0.6)
                if answer.ok:
                    return True
                span.set_status(StatusCode.ERROR, f"payments answered {answer.status_code}")
                if answer.status_code == 402:
                    return False
            except requests.Timeout as late:
                span.record_exception(late)
                span.set_status(StatusCode.ERROR, "payments took too long")
        time.sleep(0.05 * 2**attempt)
    return False


def publish(order, user):
    """Queue the dispatch with the trace context, as a message broker would carry it."""
    with tracer.start_as_current_span("dispatch publish", kind=SpanKind.PRODUCER) as span:
        headers = {}
        inject(headers)
        span.set_attribute("messaging.destination.name", "dispatch")
        body = json.dumps({"order": order, "user": user, "headers": headers})
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO queue (body) VALUES (:body)"), {"body": body})


@app.post("/orders")
def create():
    user, items = request.json["user"], request.json["items"]
    cents = sum(item["cents"] for item in items)
    for item in items:
        if not requests.post(url("catalog", f"/products/{item['product']}/reserve"), timeout=2).ok:
            abort(503)
    with engine.begin() as connection:
        order = connection.execute(
            text("INSERT INTO orders (user, cents, state) VALUES (:user, :cents, 'new') RETURNING id"),
            {"user": user, "cents": cents},
        ).scalar()
    paid = take_payment(order, cents)
    state = "paid" if paid else "refused"
    with engine.begin() as connection:
        connection.execute(text("UPDATE orders SET state = :state WHERE id = :id"), {"state": state, "id": order})
    if not paid:
        for item in items:
            requests.post(url("catalog", f"/products/{item['product']}/release"), timeout=2)
        abort(402)
    publish(order, user)
    trace.get_current_span().set_attribute("order.cents", cents)
    return {"id": order, "state": state}


@app.get("/orders/<int:order>")
def show(order):
    with engine.begin() as connection:
        row = connection.execute(text("SELECT id, state FROM orders WHERE id = :id"), {"id": order}).first()
    if row is None:
        abort(404)
    return {"id": row.id, "state": row.state}


serve_flask(app, "orders")
