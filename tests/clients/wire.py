"""A raw Kafka client that can speak every version of every request.

Requests and responses are encoded from the message schemas inside Kafka's own client jar, so what is checked against is
Kafka's definition and no library's reading of it. Bodies are dicts under the schemas' field names; a response must decode
to its last byte.
"""

import functools
import json
import os
import re
import socket
import struct
import uuid
import zipfile

NO_UUID = uuid.UUID(int=0)


class Closed(Exception):
    """The broker closed the connection instead of answering."""


class Body(dict):
    """A decoded struct: fields are read as attributes, `response.Topics[0].ErrorCode`."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{name} is not in {sorted(self)}") from None


# ---- schemas ----

@functools.cache
def _jar():
    libs = os.environ["RINGLOG_KAFKA_LIBS"]
    name = next(n for n in sorted(os.listdir(libs)) if re.fullmatch(r"kafka-clients-[\d.]+\.jar", n))
    return zipfile.ZipFile(os.path.join(libs, name))


def _load(name):
    text = _jar().read(f"common/message/{name}.json").decode()
    return json.loads("\n".join(line for line in text.splitlines() if not line.strip().startswith("//")))


@functools.cache
def _index():
    """API name to its (request schema, response schema)."""
    names = [m.group(1) for n in _jar().namelist() if (m := re.fullmatch(r"common/message/(\w+)Request\.json", n))]
    return {n: (_load(f"{n}Request"), _load(f"{n}Response")) for n in names}


@functools.cache
def api_names():
    """API key to API name."""
    return {request["apiKey"]: name for name, (request, _) in _index().items()}


def _range(text):
    if text in (None, "none"):
        return (1, 0)
    if text.endswith("+"):
        return (int(text[:-1]), 32767)
    low, _, high = text.partition("-")
    return (int(low), int(high or low))


def _within(text, version):
    low, high = _range(text)
    return low <= version <= high


def versions(api):
    """The versions that the schemas describe, as (lowest, highest)."""
    return _range(_index()[api][0]["validVersions"])


# ---- primitives ----

def _uvarint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


_FIXED = {"int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "int64": ">q", "float64": ">d"}


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        assert 0 <= n <= len(self.data) - self.at, f"field of {n} bytes with {len(self.data) - self.at} left"
        self.at += n
        return self.data[self.at - n:self.at]

    def fixed(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def uvarint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            assert shift < 35, "varint longer than five bytes"


class _Message:
    """One schema at one version."""

    def __init__(self, schema, version):
        self.schema, self.version = schema, version
        self.flexible = _within(schema.get("flexibleVersions"), version)
        self.structs = {s["name"]: s["fields"] for s in schema.get("commonStructs", [])}

    def encode(self, body):
        return self._encode_struct(self.schema["fields"], body)

    def decode(self, reader):
        return self._decode_struct(self.schema["fields"], reader)

    def _default(self, field):
        default, kind = field.get("default"), field["type"]
        if default == "null":
            return None
        if kind.startswith("[]"):
            return []
        if kind == "bool":
            return default in (True, "true")
        if kind in _FIXED:
            return float(default or 0) if kind == "float64" else int(str(default or 0), 0)
        return {"string": default or "", "bytes": b"", "records": None, "uuid": NO_UUID}.get(kind, {})

    def _encode_struct(self, fields, body):
        unknown = set(body) - {f["name"] for f in fields}
        assert not unknown, f"no such fields: {unknown}"
        out, tagged = bytearray(), {}
        for field in fields:
            if not _within(field["versions"], self.version):
                continue
            value = body.get(field["name"], self._default(field))
            if "tag" in field and _within(field.get("taggedVersions"), self.version):
                if field["name"] in body:
                    tagged[field["tag"]] = self._encode(field, field["type"], value)
            else:
                out += self._encode(field, field["type"], value)
        if self.flexible:
            out += _uvarint(len(tagged))
            for tag in sorted(tagged):
                out += _uvarint(tag) + _uvarint(len(tagged[tag])) + tagged[tag]
        return bytes(out)

    def _encode(self, field, kind, value):
        if kind in _FIXED:
            return struct.pack(_FIXED[kind], value)
        if kind == "bool":
            return bytes([bool(value)])
        if kind == "uuid":
            return value.bytes
        flexible = self.flexible and field.get("flexibleVersions") != "none"
        if kind.startswith("[]"):
            size = self._size(None if value is None else len(value), ">i", flexible)
            return size + b"".join(self._encode(field, kind[2:], item) for item in value or [])
        if kind in ("string", "bytes", "records"):
            data = value.encode() if isinstance(value, str) else value
            size = self._size(None if data is None else len(data), ">h" if kind == "string" else ">i", flexible)
            return size + (data or b"")
        nullable = _within(field.get("nullableVersions"), self.version)
        prefix = (b"\xff" if value is None else b"\x01") if nullable and not field["type"].startswith("[]") else b""
        return prefix if value is None else prefix + self._encode_struct(self._fields(field, kind), value)

    @staticmethod
    def _size(n, form, flexible):
        if flexible:
            return _uvarint(0 if n is None else n + 1)
        return struct.pack(form, -1 if n is None else n)

    def _fields(self, field, kind):
        return field.get("fields") or self.structs[kind]

    def _decode_struct(self, fields, reader):
        body, tags = Body(), {}
        for field in fields:
            body[field["name"]] = self._default(field)
            if _within(field["versions"], self.version):
                if "tag" in field and _within(field.get("taggedVersions"), self.version):
                    tags[field["tag"]] = field
                else:
                    body[field["name"]] = self._decode(field, field["type"], reader)
        if self.flexible:
            for _ in range(reader.uvarint()):
                tag, size = reader.uvarint(), reader.uvarint()
                inner = _Reader(reader.take(size))
                if tag in tags:
                    body[tags[tag]["name"]] = self._decode(tags[tag], tags[tag]["type"], inner)
                    assert inner.at == size, f"tagged field {tags[tag]['name']} has bytes left over"
        return body

    def _decode(self, field, kind, reader):
        if kind in _FIXED:
            return reader.fixed(_FIXED[kind])
        if kind == "bool":
            return reader.take(1) != b"\0"
        if kind == "uuid":
            return uuid.UUID(bytes=reader.take(16))
        flexible = self.flexible and field.get("flexibleVersions") != "none"
        nullable = _within(field.get("nullableVersions"), self.version)
        if kind.startswith("[]") or kind in ("string", "bytes", "records"):
            form = ">h" if kind == "string" else ">i"
            size = reader.uvarint() - 1 if flexible else reader.fixed(form)
            if size < 0:
                assert nullable, f"{field['name']} is null in version {self.version}, where it may not be"
                return None
            if kind.startswith("[]"):
                return [self._decode({**field, "nullableVersions": "none"}, kind[2:], reader) for _ in range(size)]
            data = reader.take(size)
            return data.decode() if kind == "string" else data
        if nullable and reader.fixed(">b") < 0:
            return None
        return self._decode_struct(self._fields(field, kind), reader)


# ---- connections ----

def request_bytes(api, version, body, correlation=1, client="wire"):
    """A whole request frame, length included."""
    schema, _ = _index()[api]
    message = _Message(schema, version)
    frame = struct.pack(">hhi", schema["apiKey"], version, correlation) + struct.pack(">h", len(client)) + client.encode()
    frame += (b"\0" if message.flexible else b"") + message.encode(body)
    return struct.pack(">i", len(frame)) + frame


def decode_response(api, version, frame):
    """(correlation id, body) of a response frame without its length."""
    message, reader = _Message(_index()[api][1], version), _Reader(frame)
    correlation = reader.fixed(">i")
    if message.flexible and api != "ApiVersions":
        assert reader.uvarint() == 0, "tagged fields in the response header"
    body = message.decode(reader)
    assert reader.at == len(frame), f"{api} v{version}: {len(frame) - reader.at} bytes left over"
    return correlation, body


class Connection:
    """One TCP connection; requests may be pipelined with `send` and `receive`."""

    def __init__(self, bootstrap, timeout_s=20):
        host, port = bootstrap.split(",")[0].rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send_raw(self, data):
        self.socket.sendall(data)

    def send(self, api, version, body=None):
        self.correlation += 1
        self.send_raw(request_bytes(api, version, body or {}, self.correlation))
        return self.correlation

    def receive_frame(self):
        return self._exactly(struct.unpack(">i", self._exactly(4))[0])

    def receive(self, api, version, correlation):
        got, body = decode_response(api, version, self.receive_frame())
        assert got == correlation, f"response {got} came where {correlation} was due"
        return body

    def call(self, api, version, body=None):
        return self.receive(api, version, self.send(api, version, body))

    def closed_by_broker(self):
        """True when the broker closes without sending anything more; a reply instead is a failure."""
        try:
            data = self.socket.recv(1)
        except ConnectionResetError:
            return True
        return data == b""

    def _exactly(self, n):
        parts = bytearray()
        while len(parts) < n:
            try:
                data = self.socket.recv(n - len(parts))
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed(f"closed with {n - len(parts)} of {n} bytes missing")
            parts += data
        return bytes(parts)
