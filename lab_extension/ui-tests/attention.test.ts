import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attention, standingOf } from '../src/model/attention';
import { endpoint, rollout } from './nouns';

const NOW = Date.parse('2026-11-20T10:05:00Z');
const DAY_MS = 24 * 3_600_000;

test('what waits, what went back and what moves is counted, the most pressing first', () => {
  const endpoints = [
    endpoint('a', 1, { rollout: rollout('running') }),
    endpoint('b', 1, { rollout: rollout('rolled_back') }),
    endpoint('c', 1, { rollout: rollout('waiting_approval') }),
    endpoint('d', 1, { rollout: rollout('loading') }),
    endpoint('e', 1, { rollout: rollout('done') }),
    endpoint('f', 1)
  ];
  assert.deepEqual(attention(endpoints, NOW), [
    ['waits', 1],
    ['went back', 1],
    ['moves', 2]
  ]);
});

test('a step with too few answers to decide waits for a person', () => {
  const undecided = { ...rollout('running'), stage: 'decide' };
  assert.equal(standingOf(endpoint('credit', 1, { rollout: undecided }), NOW), 'waits');
});

test('an offer waits for its new owner', () => {
  assert.equal(standingOf(endpoint('credit', 1, { offered_to: 'other' }), NOW), 'waits');
});

test('what went back long ago, or was retired, is news no more', () => {
  for (const state of ['rolled_back', 'failed', 'refused'] as const) {
    const ended = endpoint('credit', 1, { rollout: rollout(state) });
    assert.equal(standingOf(ended, NOW), 'went back');
    assert.equal(standingOf(ended, NOW + DAY_MS), 'rests');
    assert.equal(standingOf({ ...ended, retired: true }, NOW), 'rests');
  }
});
