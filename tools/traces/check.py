#!/usr/bin/env python3
"""Independent reference for `corelane run trace-assembly`.

Reads recorded OTLP trace requests, assembles the spans into traces, applies tail
sampling and prints the NDJSON lines the job must print, sorted. Standard library
only. The exact rules are in README.md beside this file.

    python check.py FILE [--slow-ms 250] [--sample 0.1] [--ttl-s 30] [--lag-s 5]
                         [--compare OUT] [--summary]

Exit codes: 0 done (with --compare: equal), 1 different, 2 bad input or usage.
"""

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction

STATUS_ERROR = 2


class BadInput(Exception):
    """The file is not what the format says."""


# ---------------------------------------------------------------- file formats


def unzstd(data):
    """Decompress zstd with whatever this Python or machine offers."""
    try:
        from compression import zstd  # Python 3.14

        return zstd.decompress(data)
    except ImportError:
        pass
    try:
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(data)
    except ImportError:
        pass
    if shutil.which("zstd") is None:
        raise BadInput("zstd input needs Python 3.14, the zstandard module or the zstd command")
    done = subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise BadInput("zstd could not decompress the file")
    return done.stdout


def read_requests(path):
    """Yield every request of the file as a list of spans, in file order."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:4] == b"\x28\xb5\x2f\xfd":
        data = unzstd(data)
    elif data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if data.lstrip()[:1] == b"{":
        for line in data.splitlines():
            if line.strip():
                yield spans_of_json(json.loads(line))
        return
    position = 0
    while position < len(data):
        if position + 4 > len(data):
            raise BadInput(f"truncated length at byte {position}")
        size = int.from_bytes(data[position : position + 4], "big")
        position += 4
        if position + size > len(data):
            raise BadInput(f"truncated request at byte {position}: {size} bytes announced")
        yield spans_of_protobuf(data[position : position + size])
        position += size


class Span:
    """The fields of one span that the job uses. Ids are lower-case hex."""

    __slots__ = ("trace_id", "span_id", "parent", "name", "kind", "start", "end", "status", "service")

    def __init__(self, service):
        self.service = service
        self.trace_id = self.span_id = self.parent = self.name = ""
        self.kind = self.start = self.end = self.status = 0


def checked(span):
    """Refuse ids of a wrong length: the reference has no rule for them."""
    if len(span.trace_id) != 32 or len(span.span_id) != 16 or len(span.parent) not in (0, 16):
        raise BadInput(f"span with an id of a wrong length: {span.trace_id!r} {span.span_id!r} {span.parent!r}")
    return span


# ------------------------------------------------------------- OTLP as protobuf


def varint(data, position):
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise BadInput("bad varint")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def fields(data):
    """Yield (field number, value) of a message: int for numbers, bytes for the rest."""
    position = 0
    while position < len(data):
        key, position = varint(data, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, position = varint(data, position)
            yield number, value
            continue
        if wire_type == 2:
            size, position = varint(data, position)
        elif wire_type == 1:
            size = 8
        elif wire_type == 5:
            size = 4
        else:
            raise BadInput(f"wire type {wire_type}")
        if position + size > len(data):
            raise BadInput("field longer than its message")
        value = data[position : position + size]
        position += size
        yield number, value if wire_type == 2 else int.from_bytes(value, "little")


def service_of_protobuf(resource):
    for number, attribute in fields(resource):
        if number != 1:
            continue
        pair = dict(fields(attribute))
        if pair.get(1) == b"service.name":
            return dict(fields(pair.get(2, b""))).get(1, b"").decode()
    return ""


def span_of_protobuf(data, service):
    span = Span(service)
    for number, value in fields(data):
        if number == 1:
            span.trace_id = value.hex()
        elif number == 2:
            span.span_id = value.hex()
        elif number == 4:
            span.parent = value.hex()
        elif number == 5:
            span.name = value.decode()
        elif number == 6:
            span.kind = value
        elif number == 7:
            span.start = value
        elif number == 8:
            span.end = value
        elif number == 15:
            span.status = dict(fields(value)).get(3, 0)
    return checked(span)


def spans_of_protobuf(request):
    spans = []
    for number, resource_spans in fields(request):
        if number != 1:
            continue
        parts = list(fields(resource_spans))
        service = service_of_protobuf(b"".join(value for number, value in parts if number == 1))
        for number, scope_spans in parts:
            if number == 2:
                spans += [span_of_protobuf(value, service) for number, value in fields(scope_spans) if number == 2]
    return spans


# ----------------------------------------------------------------- OTLP as JSON


def service_of_json(resource):
    for attribute in resource.get("attributes", []):
        if attribute.get("key") == "service.name":
            return attribute.get("value", {}).get("stringValue", "")
    return ""


def span_of_json(data, service):
    span = Span(service)
    span.trace_id = data.get("traceId", "").lower()
    span.span_id = data.get("spanId", "").lower()
    span.parent = data.get("parentSpanId", "").lower()
    span.name = data.get("name", "")
    span.kind = int(data.get("kind", 0))
    span.start = int(data.get("startTimeUnixNano", 0))
    span.end = int(data.get("endTimeUnixNano", 0))
    span.status = int(data.get("status", {}).get("code", 0))
    return checked(span)


def spans_of_json(request):
    spans = []
    for resource_spans in request.get("resourceSpans", []):
        service = service_of_json(resource_spans.get("resource", {}))
        for scope_spans in resource_spans.get("scopeSpans", []):
            spans += [span_of_json(data, service) for data in scope_spans.get("spans", [])]
    return spans


# --------------------------------------------------------------------- assembly


class Rules:
    """The options of the job, as exact numbers (nanoseconds, integers)."""

    def __init__(self, slow_ms="250", sample="0.1", ttl_s="30", lag_s="5"):
        self.slow_ns = Fraction(slow_ms) * 10**6
        self.ttl_ns = int(Fraction(ttl_s) * 10**9)
        self.lag_ns = int(Fraction(lag_s) * 10**9)
        # The OpenTelemetry consistent probability threshold; round() rounds half to even.
        self.threshold = 2**56 - round(float(sample) * 2**56)


class Assembly:
    """Open traces by id, and everything emitted so far."""

    def __init__(self, rules):
        self.rules = rules
        self.open = {}  # trace id -> {span id -> Span}
        self.emitted = set()
        self.seen = set()
        self.max_end = 0
        self.watermark = 0
        self.lines = []
        names = ("requests spans traces complete partial_by_ttl partial_at_end reopened duplicates "
                 "kept_error kept_slow kept_sampled sampled_out output_lines")
        self.counts = dict.fromkeys(names.split(), 0)

    def run(self, requests):
        for spans in requests:
            self.counts["requests"] += 1
            for span in spans:
                self.add(span)
            self.expire()
        for trace_id in list(self.open):
            self.emit(trace_id, False, "partial_at_end")
        self.counts["traces"] = len(self.seen)
        self.counts["output_lines"] = len(self.lines)
        self.lines.sort()

    def add(self, span):
        self.counts["spans"] += 1
        self.seen.add(span.trace_id)
        self.max_end = max(self.max_end, span.end)
        if span.trace_id not in self.open:
            self.open[span.trace_id] = {}
            self.counts["reopened"] += span.trace_id in self.emitted
        state = self.open[span.trace_id]
        if span.span_id in state:
            self.counts["duplicates"] += 1
            return
        state[span.span_id] = span
        parents = {known.parent for known in state.values()}
        if "" in parents and all(parent in state for parent in parents if parent):
            self.emit(span.trace_id, True, "complete")

    def expire(self):
        self.watermark = max(self.watermark, self.max_end - self.rules.lag_ns)
        limit = self.watermark - self.rules.ttl_ns
        due = [
            trace_id
            for trace_id, state in self.open.items()
            if min(span.end for span in state.values()) <= limit
        ]
        for trace_id in due:
            self.emit(trace_id, False, "partial_by_ttl")

    def emit(self, trace_id, complete, counter):
        self.counts[counter] += 1
        self.emitted.add(trace_id)
        spans = sorted(self.open.pop(trace_id).values(), key=lambda span: (span.start, span.span_id))
        start = spans[0].start
        duration = max(span.end for span in spans) - start
        errors = sum(span.status == STATUS_ERROR for span in spans)
        if errors:
            kept = "error"
        elif duration >= self.rules.slow_ns:
            kept = "slow"
        elif int(trace_id[-14:], 16) >= self.rules.threshold:
            kept = "sampled"
        else:
            self.counts["sampled_out"] += 1
            return
        self.counts["kept_" + kept] += 1
        line = {
            "trace_id": trace_id,
            "complete": complete,
            "kept": kept,
            "root": next((span.name for span in spans if not span.parent), ""),
            "start_unix_nano": str(start),
            "duration_ns": duration,
            "error_spans": errors,
            "services": sorted({span.service for span in spans}),
            "spans": [
                {
                    "span_id": span.span_id,
                    "parent_span_id": span.parent,
                    "service": span.service,
                    "name": span.name,
                    "kind": span.kind,
                    "start_unix_nano": str(span.start),
                    "end_unix_nano": str(span.end),
                    "status": span.status,
                }
                for span in spans
            ],
        }
        self.lines.append(json.dumps(line, ensure_ascii=False, separators=(",", ":")))


def assemble(path, rules):
    assembly = Assembly(rules)
    assembly.run(read_requests(path))
    return assembly


# ---------------------------------------------------------------- command line


def digest(lines):
    return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


def print_summary(assembly):
    for name, value in assembly.counts.items():
        print(f"{name:<15} {value}")
    print(f"{'sha256':<15} {digest(assembly.lines)}")


def compare(expected, path, limit=5):
    """Print the first differences between the expected lines and those of a file."""
    with open(path, encoding="utf-8", newline="\n") as file:
        text = file.read()
    found = sorted(text.removesuffix("\n").split("\n")) if text else []
    if found == expected:
        print(f"equal: {len(expected)} lines")
        return 0
    print(f"different: {len(expected)} lines expected, {len(found)} found")
    if text and not text.endswith("\n"):
        print("the last line found has no newline")
    left = right = shown = 0
    while shown < limit and (left < len(expected) or right < len(found)):
        if right == len(found) or (left < len(expected) and expected[left] < found[right]):
            print(f"- {expected[left]}")
            left += 1
            shown += 1
        elif left == len(expected) or found[right] < expected[left]:
            print(f"+ {found[right]}")
            right += 1
            shown += 1
        else:
            left += 1
            right += 1
    return 1


def probability(text):
    if not 0 <= float(text) <= 1:
        raise argparse.ArgumentTypeError("must be between 0 and 1")
    return text


def amount(text):
    if Fraction(text) < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return text


def main():
    parser = argparse.ArgumentParser(description="Independent reference for trace-assembly.")
    parser.add_argument("file", help="framed OTLP protobuf or OTLP/JSON lines, plain, gzip or zstd")
    parser.add_argument("--slow-ms", type=amount, default="250", help="traces at least this long are kept")
    parser.add_argument("--sample", type=probability, default="0.1", help="share of the other traces kept")
    parser.add_argument("--ttl-s", type=amount, default="30", help="event time an open trace may wait")
    parser.add_argument("--lag-s", type=amount, default="5", help="how far the watermark stays behind")
    parser.add_argument("--compare", metavar="OUT", help="compare with this NDJSON file instead of printing")
    parser.add_argument("--summary", action="store_true", help="print counts instead of lines")
    options = parser.parse_args()
    rules = Rules(options.slow_ms, options.sample, options.ttl_s, options.lag_s)
    try:
        assembly = assemble(options.file, rules)
        if options.summary:
            print_summary(assembly)
        if options.compare:
            return compare(assembly.lines, options.compare)
    except (BadInput, OSError, EOFError, ValueError) as error:
        print(f"check.py: {options.file}: {error}", file=sys.stderr)
        return 2
    if not options.summary:
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
        try:
            sys.stdout.writelines(line + "\n" for line in assembly.lines)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
