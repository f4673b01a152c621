"""What every service of the web shop shares: telemetry set-up, addresses, serving."""

import random
import signal
import sys
import threading
import time

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

PORTS = {
    "collector": 8431,
    "gateway": 8432,
    "catalog": 8433,
    "cart": 8434,
    "orders": 8435,
    "payments": 8436,
    "notifications": 8437,
}


def url(service, path=""):
    return f"http://127.0.0.1:{PORTS[service]}{path}"


def telemetry(service, delay_ms=200, batch=64):
    """Export the spans of this process to the collector; returns a tracer.

    The delay and batch are small so that a short recording has many requests.
    """
    resource = Resource.create({"service.name": service, "deployment.environment.name": "recording"})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=url("collector", "/v1/traces"), timeout=10)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, schedule_delay_millis=delay_ms, max_export_batch_size=batch)
    )
    trace.set_tracer_provider(provider)
    return trace.get_tracer("webshop." + service)


def pause(low_ms, high_ms):
    """Work that takes a while: skewed towards the low end."""
    time.sleep((low_ms + (high_ms - low_ms) * random.random() ** 3) / 1000)


def stop_event():
    """An event that SIGTERM sets, for processes that do not serve HTTP."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    return stopped


def serve_flask(app, service):
    """Serve until SIGTERM, then flush the spans (the provider does so at exit)."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_):
            pass

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app.logger.disabled = True
    make_server("127.0.0.1", PORTS[service], app, threaded=True, request_handler=Quiet).serve_forever()


def serve_asgi(app, service):
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=PORTS[service], log_level="critical")
    trace.get_tracer_provider().shutdown()
