"""Starts the web shop, lets the clients visit it and keeps what the collector stored.

    python record.py OUT.otlp [--visits 6200] [--browsers 32]
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from common import PORTS

HERE = Path(__file__).resolve().parent
SERVICES = ["catalog", "payments", "cart", "orders", "notifications", "gateway"]


def start(program, *arguments, data):
    """Every process works in the data folder, so that no path of this machine is recorded there."""
    return subprocess.Popen([sys.executable, str(HERE / f"{program}.py"), *arguments], cwd=data)


def wait_until_up(service):
    """Connect and leave until that works: no request, so no span."""
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", PORTS[service]), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{service} did not start")


def keep_alive(program, data, stopping, children):
    """Restart a process each time it dies, as a supervisor does."""
    while not stopping.is_set():
        children[program] = start(program, data=data)
        children[program].wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--visits", type=int, default=6200)
    parser.add_argument("--browsers", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        collector = start("collector", os.path.abspath(options.out), data=data)
        wait_until_up("collector")
        services = []
        for service in SERVICES:
            services.append(start(service, data=data))
            wait_until_up(service)
        stopping, workers = threading.Event(), {}
        supervisor = threading.Thread(target=keep_alive, args=("worker", data, stopping, workers))
        supervisor.start()
        began = time.monotonic()
        start("clients", str(options.visits), str(options.browsers), data=data).wait()
        time.sleep(3)  # the queue runs empty
        stopping.set()
        for process in [workers["worker"], *reversed(services)]:
            process.terminate()
            process.wait()
        supervisor.join()
        collector.terminate()
        collector.wait()
    print(f"recorded {time.monotonic() - began:.0f} s, {os.path.getsize(options.out)} bytes")


main()
