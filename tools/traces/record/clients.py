"""Concurrent clients: browsers and phones (not instrumented) and a partner's batch job (instrumented).

    python clients.py VISITS BROWSERS

A phone sends a traceparent of its own although its spans go to another vendor's
collector: those traces never get a root here.
"""

import json
import random
import sys
import threading
import time
import urllib.error
import urllib.request

import requests
from opentelemetry.instrumentation.requests import RequestsInstrumentor

from common import telemetry, url

PHONE_SHARE = 0.03
WORDS = ["Käse", "pan", "kettle", "whisk", "鍋", "el"]


def fetch(method, path, body=None, headers=()):
    """One request of a browser; failures are the shop's problem."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url("gateway", path), data=data, method=method)
    request.add_header("Content-Type", "application/json")
    request.add_header("User-Agent", "webshop-browser/1.0")
    for name, value in headers:
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
    except (urllib.error.URLError, TimeoutError):
        pass


def step(user):
    """What a visitor does next: mostly looking, sometimes buying."""
    luck = random.random()
    product = random.randint(1, 203)  # a few do not exist
    if luck < 0.14:
        return "GET", "/"
    if luck < 0.30:
        return "GET", "/search?q=" + urllib.request.quote(random.choice(WORDS))
    if luck < 0.50:
        return "GET", f"/products/{product}"
    if luck < 0.72:
        return "POST", f"/cart/{user}/items", {"product": product}
    if luck < 0.78:
        return "GET", f"/cart/{user}"
    if luck < 0.95:
        return "POST", f"/checkout/{user}", {}
    return "GET", f"/orders/{random.randint(1, 900)}"


def browser(number, visits, think_s):
    for _ in range(visits):
        headers = []
        if random.random() < PHONE_SHARE:
            headers.append(("traceparent", f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-01"))
        fetch(*step(f"user{number}"), headers=headers)
        time.sleep(random.expovariate(1 / think_s))


def partner(stopped):
    """Looks up products in batches, with a span around each batch."""
    tracer = telemetry("partner", delay_ms=2500, batch=256)
    RequestsInstrumentor().instrument()
    while not stopped.wait(random.uniform(0.5, 2)):
        with tracer.start_as_current_span("sync prices"):
            for _ in range(random.randint(2, 6)):
                requests.get(url("gateway", f"/products/{random.randint(1, 203)}"), timeout=10)


def main():
    visits, browsers = int(sys.argv[1]), int(sys.argv[2])
    stopped = threading.Event()
    threads = [
        threading.Thread(target=browser, args=(number, visits // browsers, 0.9)) for number in range(browsers)
    ]
    batch = threading.Thread(target=partner, args=(stopped,))
    batch.start()
    for thread in threads:
        thread.start()
        time.sleep(0.3)  # a slow start: the first requests of the recording are a readable sample
    for thread in threads:
        thread.join()
    stopped.set()
    batch.join()


main()
