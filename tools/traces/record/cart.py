"""Shopping carts. FastAPI and SQLAlchemy."""

import random

from fastapi import FastAPI, HTTPException
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from sqlalchemy import create_engine, text

from common import pause, serve_asgi, telemetry

telemetry("cart")
engine = create_engine("sqlite:///cart.db", connect_args={"timeout": 5})
with engine.begin() as connection:
    connection.execute(text("CREATE TABLE item (user TEXT, product INTEGER, cents INTEGER)"))
SQLAlchemyInstrumentor().instrument(engine=engine)
app = FastAPI()


@app.get("/carts/{user}")
def show(user: str):
    pause(1, 15)
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT product, cents FROM item WHERE user = :user"), {"user": user})
        return {"items": [{"product": row.product, "cents": row.cents} for row in rows]}


@app.post("/carts/{user}/items")
def add(user: str, item: dict):
    if random.random() < 0.015:
        raise HTTPException(503, "cart is being moved")
    with engine.begin() as connection:
        count = connection.execute(text("SELECT count(*) FROM item WHERE user = :user"), {"user": user}).scalar()
        if count >= 5:
            raise HTTPException(409, "cart is full")
        connection.execute(
            text("INSERT INTO item VALUES (:user, :product, :cents)"),
            {"user": user, "product": item["product"], "cents": item["cents"]},
        )
    return {"items": count + 1}


@app.delete("/carts/{user}")
def clear(user: str):
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM item WHERE user = :user"), {"user": user})
    return {}


FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
serve_asgi(app, "cart")
