import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { FeatureSketch } from '../src/api/types';
import { bars, inWords } from '../src/model/sketches';

const X: FeatureSketch = { name: 'x', dtype: 'float64', personal: false, nulls: 0, distinct: null, least: null, greatest: null, bins: [] };

test('bars stand on the ground, and one that is small is seen', () => {
  assert.deepEqual(bars([0, 1, 1000], 30, 10), [
    { x: 0, y: 10, height: 0 },
    { x: 10, y: 9, height: 1 },
    { x: 20, y: 0, height: 10 }
  ]);
  assert.deepEqual(bars([0, 0], 10, 10).map(bar => bar.height), [0, 0]);
});

test('the spread is said in words', () => {
  assert.equal(inWords({ ...X, least: -3.14159, greatest: 17 }, 10), '-3.142 to 17');
  assert.equal(inWords({ ...X, least: 5, greatest: 5, nulls: 1 }, 4), 'always 5, 25 % missing');
  assert.equal(inWords({ ...X, least: 0, greatest: 2e9, nulls: 1 }, 1e6), '0 to 2.0e+9, under 0.1 % missing');
  assert.equal(inWords({ ...X, dtype: 'string', distinct: 1200 }, 5000), 'about 1,200 values');
  assert.equal(inWords({ ...X, personal: true, nulls: 3 }, 6), 'personal: not shown, 50 % missing');
  assert.equal(inWords({ ...X, nulls: 4 }, 4), '100 % missing');
});
