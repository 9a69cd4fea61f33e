"""An online store in Redis: a package of its own, as the recipe of CONTRIBUTING.md has it.

An entity is a sorted set of event times and a hash of rows; both change in one script, which Redis runs alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import islice
from typing import Any

import redis

from themisto.errors import NotFound, Unavailable
from themisto.features.online import OnlineTable, Row

__all__ = ["RedisStore"]

_BATCH = 500
_WRITE = """
local at, seq, row, keep, ttl_us = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local held = redis.call('HGET', KEYS[2], at)
if held and tonumber(string.match(held, '^(-?%d+)|')) > tonumber(seq) then return end
redis.call('ZADD', KEYS[1], at, at)
redis.call('HSET', KEYS[2], at, seq .. '|' .. row)
for _, old in ipairs(redis.call('ZRANGE', KEYS[1], 0, -keep - 1)) do
  redis.call('ZREM', KEYS[1], old)
  redis.call('HDEL', KEYS[2], old)
end
if ttl_us then
  local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
  local ends = string.format('%.0f', math.ceil((tonumber(newest) + ttl_us) / 1000))
  redis.call('PEXPIREAT', KEYS[1], ends)
  redis.call('PEXPIREAT', KEYS[2], ends)
end
"""
_READ = """
local found = {}
for _, at in ipairs(redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', ARGV[1], 'LIMIT', 0, ARGV[2])) do
  found[#found + 1] = at
  found[#found + 1] = redis.call('HGET', KEYS[2], at)
end
return found
"""


class RedisStore:
    """`redis://host:port/0`. Redis answers one command at a time: what was written is read at once."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._write = client.register_script(_WRITE)
        self._read = client.register_script(_READ)

    @classmethod
    def from_url(cls, url: str) -> RedisStore:
        return cls(redis.Redis.from_url(url, socket_timeout=10))

    def ensure(self, table: OnlineTable) -> None:
        with _ours():
            self._redis.sadd("themisto:tables", table.name)

    def prepare(self, table: OnlineTable) -> None:
        with _ours():
            self._redis.ping()

    def write(self, table: OnlineTable, rows: Iterable[Row], *, new: bool = False) -> int:
        self._known(table)
        names = [column.name for column in table.columns]
        ttl = "" if table.online.ttl_s is None else round(table.online.ttl_s * 1e6)
        count, source = 0, iter(rows)
        while part := list(islice(source, _BATCH)):
            with _ours(), self._redis.pipeline(transaction=False) as pipe:
                for key, at, sequence, *values in part:
                    text = json.dumps(dict(zip(names, values, strict=True)), default=str)
                    self._write(_names(table, key), [at, sequence, text, table.online.keep, ttl], client=pipe)
                pipe.execute()
            count += len(part)
        return count

    def read(self, table: OnlineTable, keys: Sequence[str]) -> list[Row | None]:
        return [rows[0] if rows else None for rows in self.history(table, keys, 1)]

    def history(self, table: OnlineTable, keys: Sequence[str], count: int) -> list[list[Row]]:
        self._known(table)
        ttl = table.online.ttl_s
        since = "-inf" if ttl is None else f"({round((time.time() - ttl) * 1e6)}"
        with _ours(), self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                self._read(_names(table, key), [since, count], client=pipe)
            answers = pipe.execute()
        return [
            [_row(table, key, at, held) for at, held in zip(found[::2], found[1::2], strict=True)]
            for key, found in zip(keys, answers, strict=True)
        ]

    def erase(self, table: OnlineTable, keys: Sequence[str]) -> None:
        names = [name for key in keys for name in _names(table, key)]
        with _ours():
            if names:
                self._redis.delete(*names)

    def drop(self, table: OnlineTable) -> None:
        with _ours():
            for name in self._redis.scan_iter(f"themisto:{table.name}:*", count=1000):
                self._redis.delete(name)
            self._redis.srem("themisto:tables", table.name)

    def close(self) -> None:
        self._redis.close()

    def _known(self, table: OnlineTable) -> None:
        with _ours():
            if not self._redis.sismember("themisto:tables", table.name):
                raise NotFound("This view has no online rows yet.", "Run %features materialize VIEW.")


def _names(table: OnlineTable, key: str) -> list[str]:
    return [f"themisto:{table.name}:at:{key}", f"themisto:{table.name}:row:{key}"]


def _row(table: OnlineTable, key: str, at: bytes, held: bytes) -> Row:
    sequence, _, text = held.partition(b"|")
    values = json.loads(text)
    return (key, int(at), int(sequence), *(_value(c.dtype, values.get(c.name)) for c in table.columns))


def _value(dtype: str, value: Any) -> Any:
    return Decimal(value) if dtype == "decimal" and value is not None else value


@contextmanager
def _ours() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise Unavailable(f"Redis does not answer: {error}.", "See that it runs and its URL names it.") from error
