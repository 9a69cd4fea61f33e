import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { ServerEvent } from '../src/api/events';
import { Problem } from '../src/api/problem';
import { type Connection, keepLive } from '../src/model/live';

const DOWN = new Problem('unavailable', 'The control plane cannot be reached.', '', 503);

interface Line {
  readonly events?: ServerEvent[];
  readonly fails?: Problem;
}

/** Plays the lines one after the other, then stops; what was said of the connection, and the pauses made. */
async function play(lines: Line[], poll: Problem | null = null): Promise<{ states: string[]; pauses: number[] }> {
  const states: string[] = [];
  const pauses: number[] = [];
  const stop = new AbortController();
  const left = [...lines];
  await keepLive(
    {
      open: async function* () {
        const line = left.shift() ?? {};
        yield* await Promise.resolve(line.events ?? []);
        if (line.fails) {
          throw line.fails;
        }
      },
      receive: () => undefined,
      poll: () => Promise.resolve(poll),
      changed: (connection: Connection) => states.push(connection.state),
      pauseMs: () => 8_000,
      now: () => 0,
      sleep: ms => {
        pauses.push(ms);
        if (left.length === 0) {
          stop.abort();
        }
        return Promise.resolve();
      }
    },
    stop.signal
  );
  return { states, pauses };
}

const HELLO: ServerEvent = { kind: 'hello', data: {} };

test('the first event makes it live, a broken line polls', async () => {
  assert.deepEqual((await play([{ events: [HELLO] }])).states, ['live', 'polling']);
});

test('no events but answers is polling, neither is offline', async () => {
  assert.deepEqual((await play([{ fails: DOWN }], null)).states, ['polling']);
  assert.deepEqual((await play([{ fails: DOWN }], DOWN)).states, ['offline']);
});

test('it comes back by itself', async () => {
  const { states } = await play([{ fails: DOWN }, { events: [HELLO] }]);
  assert.deepEqual(states, ['polling', 'live', 'polling']);
});

test('pauses grow to the longest and no further', async () => {
  const { pauses } = await play(Array.from({ length: 6 }, () => ({ fails: DOWN })));
  const longest = [2_000, 4_000, 8_000, 8_000, 8_000, 8_000];
  pauses.forEach((ms, i) => {
    const most = longest[i] ?? 0;
    assert.ok(ms >= most / 2 && ms <= most, `pause ${i}: ${ms}`);
  });
});

test('without THEMISTO_URL it asks once and gives up', async () => {
  const alone = new Problem('missing-setting', 'THEMISTO_URL is not set.', '', 422);
  const { states, pauses } = await play([{ fails: alone }, { events: [HELLO] }]);
  assert.deepEqual([states, pauses], [['alone'], []]);
});
