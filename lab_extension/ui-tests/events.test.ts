import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parseEvents, type ServerEvent } from '../src/api/events';

async function* chunks(...parts: string[]): AsyncGenerator<string> {
  for (const part of parts) {
    yield await Promise.resolve(part);
  }
}

async function all(...parts: string[]): Promise<ServerEvent[]> {
  const found: ServerEvent[] = [];
  for await (const event of parseEvents(chunks(...parts))) {
    found.push(event);
  }
  return found;
}

test('an event cut into chunks anywhere is put together', async () => {
  const wire = 'retry: 2000\nevent: hello\ndata: {}\n\nevent: endpoint\ndata: {"name": "credit"}\n\n';
  const whole = await all(wire);
  assert.deepEqual(whole, [
    { kind: 'hello', data: {} },
    { kind: 'endpoint', data: { name: 'credit' } }
  ]);
  for (let at = 1; at < wire.length; at++) {
    assert.deepEqual(await all(wire.slice(0, at), wire.slice(at)), whole);
  }
});

test('heartbeats are no events', async () => {
  assert.deepEqual(await all(': still here\n\n', ': still here\n\n'), []);
});

test('data that is no JSON is null, not an error', async () => {
  assert.deepEqual(await all('event: odd\ndata: {half\n\n'), [{ kind: 'odd', data: null }]);
});

test('an event that the line broke off is dropped', async () => {
  assert.deepEqual(await all('event: endpoint\ndata: {"name"'), []);
});
