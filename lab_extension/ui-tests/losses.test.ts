import assert from 'node:assert/strict';
import { test } from 'node:test';

import { lossesInWords } from '../src/model/losses';

test('losses are counted in words, and none are not mentioned', () => {
  const none = { dropped_lines: 0, unreadable_lines: 0, failed_writes: 0 };
  assert.equal(lossesInWords(none), null);
  assert.equal(lossesInWords({ ...none, dropped_lines: 1204 }), '1,204 lines given up');
  assert.equal(
    lossesInWords({ ...none, unreadable_lines: 1, failed_writes: 3 }),
    '1 line unreadable, 3 writes of Envoy failed'
  );
});
