import assert from 'node:assert/strict';
import { test } from 'node:test';

import { gatesInWords, latest } from '../src/model/gates';
import { gate } from './nouns';

test('a gate that was decided again counts once, as it was decided last', () => {
  const [first, again] = [gate('auc >= 0.7', true), gate('auc >= 0.7', false)];
  assert.deepEqual(latest([first, gate('f1 >= 0.5', true), again]).map(one => one.passed), [false, true]);
});

test('the same gate, pinned, asked for and on later labels, is three', () => {
  const all = [gate('auc >= 0.7', true), gate('auc >= 0.7', true, { pinned: true })];
  assert.equal(latest([...all, gate('auc >= 0.7', false, { source: 'labels' })]).length, 3);
});

test('they are said in one line', () => {
  const [yes, no, skipped] = [gate('a', true), gate('b', false), gate('c', null)];
  assert.equal(gatesInWords([]), null);
  assert.equal(gatesInWords([yes]), '1 gate passed');
  assert.equal(gatesInWords([yes, gate('d', true), skipped]), '2 gates passed, 1 skipped');
  assert.equal(gatesInWords([skipped]), '1 gate skipped');
  assert.equal(gatesInWords([yes, no, skipped]), '1 of 3 gates not passed');
});
