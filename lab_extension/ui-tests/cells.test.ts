import assert from 'node:assert/strict';
import { test } from 'node:test';

import { cellsFor, transferCell } from '../src/notebook/cells';
import { endpoint } from './nouns';

function sources(more: Parameters<typeof endpoint>[2], name = 'credit'): string[] {
  return cellsFor(endpoint(name, 1, more)).map(cell => cell.source);
}

test('a shadow and an A/B split are compared, an endpoint without one is not', () => {
  assert.equal(sources({ stable: 1, candidate: 2, strategy: 'shadow' })[0], '%deploy shadow credit');
  assert.equal(sources({ stable: 1, candidate: 2, strategy: 'ab' })[0], '%deploy ab credit --metric VAR');
  assert.ok(sources({ stable: 1 }).every(source => !/ (shadow|ab|diff) /.test(source)));
});

test('a version is named as its callers name it', () => {
  assert.ok(sources({ stable: 1 }, 'credit.v2').includes('%deploy bench credit.v2 --slo p99=10ms'));
});

test('where nothing answers, only what was is looked at', () => {
  assert.deepEqual(sources({ retired: true }), ['%deploy log credit --since 2h', '%deploy callers credit']);
});

test('what is no name never becomes code', () => {
  for (const name of ['credit\nimport os', 'credit; !rm x', '$HOME', 'credit.v1', '']) {
    assert.deepEqual(sources({ stable: 1 }, name), [], name);
    assert.equal(transferCell(name), null);
  }
});
