"""Packs a recording: the compressed file and the two small samples of it.

    python pack.py IN.otlp FOLDER

Writes FOLDER/webshop.otlp.zst (zstd level 19), FOLDER/tiny.otlp (the run of requests of
the recording, under 30 KB, that shows most kinds of trace) and FOLDER/tiny.otlp.json
(the same requests as OTLP/JSON lines). The same input gives the same files.
"""

import base64
import json
import sys
from pathlib import Path

import zstandard
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import check

TINY_BYTES = 30_000


def records(data):
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        yield data[position : position + 4 + size]
        position += 4 + size


def score(window):
    """How much of what can happen to a trace the requests of a window show."""
    assembly = check.Assembly(check.Rules(sample="1"))
    assembly.run(check.spans_of_protobuf(record[4:]) for record in window)
    counts = assembly.counts
    lines = [json.loads(line) for line in assembly.lines]
    wide = any(len(line["services"]) > 2 and line["complete"] for line in lines)
    plain = all(line.isascii() for line in assembly.lines)
    seen = [name for name in ("complete", "reopened", "duplicates", "kept_error", "kept_slow") if counts[name]]
    return len(seen) + wide + (not plain), counts["complete"]


def tiny(all_records):
    """The best run of requests that fits; the first of equals."""
    best, best_score = [], (-1, -1)
    for first in range(0, len(all_records), 4):
        size, last = 0, first
        while last < len(all_records) and size + len(all_records[last]) < TINY_BYTES:
            size += len(all_records[last])
            last += 1
        found = score(all_records[first:last])
        if found > best_score:
            best, best_score = all_records[first:last], found
    return best


def hex_ids(value):
    """OTLP/JSON differs from the Protobuf JSON mapping: ids are hex, not base64."""
    if isinstance(value, list):
        return [hex_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    ids = ("traceId", "spanId", "parentSpanId")
    return {key: base64.b64decode(item).hex() if key in ids else hex_ids(item) for key, item in value.items()}


def as_json(record):
    request = ExportTraceServiceRequest.FromString(record[4:])
    plain = hex_ids(MessageToDict(request, use_integers_for_enums=True))
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")) + "\n"


def main():
    data, folder = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
    (folder / "webshop.otlp.zst").write_bytes(zstandard.ZstdCompressor(level=19).compress(data))
    sample = tiny(list(records(data)))
    (folder / "tiny.otlp").write_bytes(b"".join(sample))
    (folder / "tiny.otlp.json").write_text("".join(map(as_json, sample)), encoding="utf-8", newline="\n")


main()
