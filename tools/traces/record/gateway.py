"""The edge: renders pages and calls the services behind it. Flask and requests."""

import requests
from flask import Flask, abort, request
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor

from common import serve_flask, telemetry, url

# A longer delay than the services behind it: most roots then arrive after their children.
tracer = telemetry("gateway", delay_ms=1500, batch=512)
app = Flask(__name__)
FlaskInstrumentor().instrument_app(app)
RequestsInstrumentor().instrument()


def call(method, service, path, timeout=3.0, **more):
    """One call to a service; its failures become ours."""
    try:
        answer = requests.request(method, url(service, path), timeout=timeout, **more)
    except requests.RequestException:
        abort(504)
    if answer.status_code >= 500:
        abort(502)
    if answer.status_code >= 400:
        abort(answer.status_code)
    return answer.json()


def listing(products):
    return "".join(f"<li>{product['name']}</li>" for product in products)


@app.get("/")
def home():
    return listing(call("GET", "catalog", "/products"))


@app.get("/search")
def search():
    found = call("GET", "catalog", "/search", params={"q": request.args.get("q", "")}, timeout=1.5)
    return listing(found)


@app.get("/products/<int:product>")
def product(product):
    found = call("GET", "catalog", f"/products/{product}")
    return f"<h1>{found['name']}</h1> {found['cents'] / 100} EUR"


@app.post("/cart/<user>/items")
def add_item(user):
    product = call("GET", "catalog", f"/products/{request.json['product']}")
    return call("POST", "cart", f"/carts/{user}/items", json={"product": product["id"], "cents": product["cents"]})


@app.get("/cart/<user>")
def show_cart(user):
    return call("GET", "cart", f"/carts/{user}")


@app.post("/checkout/<user>")
def checkout(user):
    with tracer.start_as_current_span("prüfe Warenkorb") as span:
        cart = call("GET", "cart", f"/carts/{user}")
        span.set_attribute("cart.items", len(cart["items"]))
    if not cart["items"]:
        abort(409)
    order = call("POST", "orders", "/orders", json={"user": user, "items": cart["items"]}, timeout=6)
    call("DELETE", "cart", f"/carts/{user}")
    return f"<h1>Order {order['id']}</h1> {order['state']}"


@app.get("/orders/<int:order>")
def show_order(order):
    found = call("GET", "orders", f"/orders/{order}")
    return f"<h1>Order {found['id']}</h1> {found['state']}"


serve_flask(app, "gateway")
