"""Products and stock. Flask and sqlite3."""

import random
import sqlite3

from flask import Flask, abort, request
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor

from common import pause, serve_flask, telemetry

NAMES = ["Käsereibe", "teapot", "сковорода", "kettle", "鍋", "whisk", "crêpe pan", "ladle"]

tracer = telemetry("catalog")
SQLite3Instrumentor().instrument()
app = Flask(__name__)
FlaskInstrumentor().instrument_app(app)


def query(sql, *values):
    database = sqlite3.connect("catalog.db", timeout=5)
    try:
        cursor = database.cursor()
        cursor.execute(sql, values)
        rows = cursor.fetchall()
        database.commit()
        return [dict(zip(("id", "name", "cents", "stock"), row)) for row in rows]
    finally:
        database.close()


@app.get("/products")
def products():
    rows = query("SELECT id, name, cents, stock FROM product ORDER BY id LIMIT 20")
    with tracer.start_as_current_span("rank products"):
        pause(1, 10)
    return rows


@app.get("/search")
def search():
    with tracer.start_as_current_span("parse query") as span:
        text = request.args["q"]
        span.set_attribute("query.text", text)
    if random.random() < 0.06:
        with tracer.start_as_current_span("full scan"):
            pause(300, 2000)
    return query("SELECT id, name, cents, stock FROM product WHERE name LIKE ? LIMIT 20", f"%{text}%")


@app.get("/products/<int:product>")
def show(product):
    found = query("SELECT id, name, cents, stock FROM product WHERE id = ?", product)
    if not found:
        abort(404)
    with tracer.start_as_current_span("price in €"):
        pause(0, 4)
    if random.random() < 0.01:
        raise LookupError(f"no price list for product {product}")
    return found[0]


@app.post("/products/<int:product>/reserve")
def reserve(product):
    if random.random() < 0.02:
        query("UPDATE warehouse SET stock = stock - 1 WHERE product = ?", product)  # no such table
    query("UPDATE product SET stock = stock - 1 WHERE id = ?", product)
    left = query("SELECT id, name, cents, stock FROM product WHERE id = ?", product)
    return left[0]


@app.post("/products/<int:product>/release")
def release(product):
    query("UPDATE product SET stock = stock + 1 WHERE id = ?", product)
    return {}


def fill():
    query("CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT, cents INTEGER, stock INTEGER)")
    database = sqlite3.connect("catalog.db")
    rows = [(i, f"{random.choice(NAMES)} {i}", random.randrange(199, 9999), 10_000) for i in range(1, 201)]
    database.executemany("INSERT INTO product VALUES (?, ?, ?, ?)", rows)
    database.commit()
    database.close()


fill()
serve_flask(app, "catalog")
