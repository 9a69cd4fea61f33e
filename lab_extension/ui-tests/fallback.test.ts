import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Release } from '../src/api/types';
import { fallbacksOf } from '../src/model/fallback';

const RULE = { kind: 'python', sha256: '0'.repeat(64), size_bytes: 10 } as const;

function declaring(fallback: Release['fallback']): Release {
  return { fallback } as Release;
}

test('what stands in is said in the order in which it is asked', () => {
  assert.deepEqual(fallbacksOf(declaring({ rule: RULE, default: { score: 0.5 }, after_ms: 300 })), {
    line: 'the earlier release → the rule → the default',
    declared: '{"score":0.5}',
    afterMs: 300
  });
});

test('without a declaration the earlier release alone stands in', () => {
  assert.deepEqual(fallbacksOf(declaring(null)), { line: 'the earlier release', declared: null, afterMs: null });
});
