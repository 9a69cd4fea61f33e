import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  agreementInWords,
  differenceInWords,
  gapsOf,
  hasShadow,
  hasSplit,
  intervalInWords,
  metricsOf,
  number,
  placesOf
} from '../src/model/comparing';
import type { Agreement, Column, Effect, Release } from '../src/api/types';
import { endpoint, rollout } from './nouns';

function effect(low: number, difference: number, high: number, mean = 3.12): Effect {
  const arm = { release: 'credit@7', exposed: 10, values: 10, mean };
  const rest = { metric: 'latency_ms', unit: 'key', method: '', share_pct: 50, srm_p: 0.4, notes: [], caution: '' };
  return { low, difference, high, confidence: 0.95, control: arm, treatment: arm, uneven: false, ...rest };
}

test('an effect is told with its sign, its share and its interval', () => {
  assert.equal(differenceInWords(effect(1.2, 2.88, 4.5)), '+2.88 (+92 %)');
  assert.equal(differenceInWords(effect(-1, -0.5, 0.1, 0)), '−0.5');
  assert.equal(intervalInWords(effect(-1.2, 0, 4.5)), '95\u00a0%: −1.2 to +4.5');
});

test('0 and the interval are on one line, also where they are far apart or nothing', () => {
  for (const found of [effect(1, 2, 3), effect(-3, -2, -1), effect(-1, 0, 1), effect(0, 0, 0)]) {
    const places = placesOf(found);
    assert.ok(Object.values(places).every(place => place >= 0 && place <= 1));
    assert.ok(places.low <= places.at && places.at <= places.high);
  }
  assert.ok(placesOf(effect(1, 2, 3)).zero < placesOf(effect(1, 2, 3)).low);
});

test('agreement is never rounded up to all', () => {
  const agreement = (agree: number, rows: number): string => agreementInWords({ agree, rows } as Agreement);
  assert.equal(agreement(0.9999, 20_000), '99.9 % of 20,000 rows agree');
  assert.equal(agreement(1, 1), '100 % of 1 row agrees');
  assert.equal(agreement(0.981, 2000), '98.1 % of 2,000 rows agree');
});

test('only outputs that differ are told, as short text', () => {
  const apart = { time: '', request_id: 'r', row: 0, difference: 1 };
  const ours = { score: 0.25, same: 'x', note: 'y'.repeat(100), list: [1, null] };
  assert.deepEqual(gapsOf({ ...apart, ours, shadow: { score: null, same: 'x', note: 'z', list: [1, 2] } }), [
    { output: 'score', ours: '0.25', shadow: 'null' },
    { output: 'note', ours: `${'y'.repeat(60)}…`, shadow: 'z' },
    { output: 'list', ours: '[1,null]', shadow: '[1,2]' }
  ]);
});

test('metrics are what the log holds: outputs of one number a row', () => {
  const column = (name: string, more: Partial<Column> = {}): Column => ({ name, dtype: 'FP32', shape: [1], ...more });
  const outputs = [column('score'), column('p', { shape: [3] }), column('word', { dtype: 'BYTES' })];
  outputs.push(column('due', { dtype: 'INT64', logical: 'date' }));
  const release = { signature: { inputs: [], outputs } } as unknown as Release;
  assert.deepEqual(
    metricsOf(release).map(({ name }) => name),
    ['latency_ms', 'errors', 'outputs.score']
  );
  assert.equal(metricsOf(null).length, 2);
});

test('comparisons are offered where there is something to compare', () => {
  const ab = { ...rollout('running'), strategy: 'ab' as const };
  assert.equal(hasSplit(endpoint('credit', 0, { rollout: ab })), true);
  assert.equal(hasSplit(endpoint('credit', 0, { rollout: { ...ab, state: 'loading' } })), false);
  assert.equal(hasSplit(endpoint('credit', 0, { rollout: { ...ab, release: 1 } })), false);
  assert.equal(hasSplit(endpoint('credit', 0)), false);
  assert.equal(hasShadow(endpoint('credit', 0, { rollout: { ...ab, strategy: 'shadow' } })), true);
  assert.equal(hasShadow(endpoint('credit', 0, { rollout: { ...ab, strategy: 'shadow', state: 'loading' } })), false);
  assert.equal(hasShadow(endpoint('credit', 0, { rollout: ab })), false);
});

test('numbers keep four digits', () => {
  assert.deepEqual([number(12345.678), number(0.00001234), number(0), number(null)], ['12,350', '1.23e-5', '0', '–']);
});
