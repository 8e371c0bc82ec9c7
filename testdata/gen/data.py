"""Parquet files as pyarrow writes them, with the rows as JSON beside them: testdata/data.

    python -m venv VENV && VENV/bin/pip install pyarrow==22.0.0
    VENV/bin/python data.py
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

OUT = Path(__file__).parent.parent / "data"

CALL = {"name": "f", "arguments": "{\"x\": 1}"}
CHATS = [
    {"messages": [{"role": "user", "content": "Hi", "calls": None}, {"role": "assistant", "content": "Grüezi 👋", "calls": []}], "tags": None},
    {"messages": [{"role": "user", "content": "", "calls": None}, {"role": "assistant", "content": None, "calls": [CALL, {"name": None, "arguments": "y"}]}], "tags": []},
    {"messages": [{"role": "user", "content": "x\ny", "calls": [CALL]}], "tags": [[], None, ["a", None], ["b"]]},
]
CLASSES = [{"text": f"text number {i % 3}", "text_pair": None if i % 4 else "pair", "label": i % 5, "weight": i / 4, "good": i % 2 == 0} for i in range(150)]


def write(name, rows, schema, **options):
    OUT.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), OUT / f"{name}.parquet", **options)
    (OUT / f"{name}.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


def main():
    call = pa.struct([("name", pa.string()), ("arguments", pa.large_string())])
    message = pa.struct([("role", pa.string()), ("content", pa.string()), ("calls", pa.list_(call))])
    chats = pa.schema([("messages", pa.list_(message)), ("tags", pa.list_(pa.list_(pa.string())))])
    classes = pa.schema([("text", pa.string()), ("text_pair", pa.string()), ("label", pa.int64()), ("weight", pa.float32()), ("good", pa.bool_())])
    for codec in ("none", "snappy", "gzip", "zstd", "lz4"):
        write(f"chats-{codec}", CHATS, chats, compression=codec, data_page_version="2.0" if codec in ("gzip", "zstd") else "1.0")
    write("classes", CLASSES, classes, compression="zstd", row_group_size=40, data_page_size=256, use_dictionary=["text"])
    write("classes-plain", CLASSES[:30], classes, compression="snappy", use_dictionary=False, data_page_version="2.0", column_encoding={"label": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY"})
    rows = [{"text": "a", "when": None}]
    write("dates", rows, pa.schema([("text", pa.string()), ("when", pa.timestamp("ms"))]))


main()
