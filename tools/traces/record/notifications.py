"""Sends mails about orders. FastAPI and httpx."""

import asyncio
import random

import httpx
from fastapi import FastAPI, HTTPException
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

from common import serve_asgi, telemetry, url

tracer = telemetry("notifications")
HTTPXClientInstrumentor().instrument()
app = FastAPI()


@app.post("/mails")
async def send(mail: dict):
    async with httpx.AsyncClient(timeout=2) as client:
        answer = await client.get(url("orders", f"/orders/{mail['order']}"))
    if answer.status_code != 200:
        raise HTTPException(502, "order not found")
    with tracer.start_as_current_span("render mail"):
        await asyncio.sleep(random.uniform(0.001, 0.02))
    with tracer.start_as_current_span("smtp send"):
        await asyncio.sleep(random.uniform(0.005, 0.08))
        if random.random() < 0.03:
            raise ConnectionError("mail server closed the connection")
    return {}


FastAPIInstrumentor.instrument_app(app)
serve_asgi(app, "notifications")
