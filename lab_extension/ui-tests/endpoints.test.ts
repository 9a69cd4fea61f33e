import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { WhoAmI } from '../src/api/types';
import { allowed, isEndpoint, mergeEndpoints, nextShare, stepOf, upsertEndpoint } from '../src/model/endpoints';
import { endpoint, rollout } from './nouns';

const WHO: WhoAmI = { name: 'scientist', groups: ['data-science'], scopes: ['deploy', 'infer'] };

test('an event that came during a fetch is not undone by it', () => {
  const known = [endpoint('credit', 5, { stable: 2 })];
  assert.equal(mergeEndpoints(known, [endpoint('credit', 3, { stable: 1 })])[0]?.stable, 2);
});

test('a new word on a rollout counts, though the endpoint itself did not change', () => {
  const known = [endpoint('credit', 1, { rollout: rollout('loading', 2) })];
  const told = endpoint('credit', 1, { rollout: rollout('running', 4) });
  assert.equal(upsertEndpoint(known, told)[0]?.rollout?.state, 'running');
});

test('a fetch drops endpoints that are gone', () => {
  assert.deepEqual(mergeEndpoints([endpoint('old', 1)], []), []);
});

test('an endpoint told of for the first time is added by name', () => {
  const names = upsertEndpoint([endpoint('b', 1), endpoint('c', 1)], endpoint('a', 1)).map(e => e.name);
  assert.deepEqual(names, ['a', 'b', 'c']);
});

test('only a running rollout can be promoted', () => {
  for (const state of ['loading', 'waiting_approval', 'done', 'failed', 'refused', 'rolled_back'] as const) {
    assert.equal(allowed(endpoint('credit', 1, { rollout: rollout(state) }), WHO).promote, false, state);
  }
  assert.equal(allowed(endpoint('credit', 1, { rollout: rollout('running') }), WHO).promote, true);
});

test('steps are taken where there are some, and the last one is all', () => {
  const running = rollout('running');
  assert.equal(allowed(endpoint('credit', 1, { rollout: running }), WHO).step, true);
  assert.equal(allowed(endpoint('credit', 1, { rollout: { ...running, steps: [] } }), WHO).step, false);
  assert.equal(allowed(endpoint('credit', 1, { rollout: rollout('loading') }), WHO).step, false);
  assert.deepEqual([0, 1, 2].map(step => nextShare({ ...running, step })), [30, 100, 100]);
});

test('another group, or one without the scope, is offered nothing', () => {
  const running = endpoint('credit', 1, { rollout: rollout('running') });
  const nothing = { promote: false, step: false, rollback: false, retire: false, accept: false, look: false };
  assert.deepEqual(allowed(running, { ...WHO, groups: ['other'] }), nothing);
  assert.deepEqual(allowed(running, { ...WHO, scopes: ['infer'] }), nothing);
  assert.deepEqual(allowed(running, null), nothing);
});

test('a first release has nothing to go back to', () => {
  assert.equal(allowed(endpoint('credit', 1, { stable: 1, rollout: rollout('done') }), WHO).rollback, false);
  assert.equal(allowed(endpoint('credit', 1, { stable: 2, rollout: rollout('done') }), WHO).rollback, true);
});

test('a name is accepted by those it is offered to, and nobody else', () => {
  const offered = endpoint('credit', 1, { group: 'other', offered_to: 'data-science', stable: 3 });
  const accept = { promote: false, step: false, rollback: false, retire: false, accept: true, look: false };
  assert.deepEqual(allowed(offered, WHO), accept);
  assert.equal(allowed(offered, { ...WHO, groups: ['other'] }).accept, false);
  assert.equal(allowed(offered, { ...WHO, scopes: ['infer'] }).accept, false);
});

test('what answers nothing cannot be retired', () => {
  assert.equal(allowed(endpoint('credit', 1, { stable: 1 }), WHO).retire, true);
  assert.equal(allowed(endpoint('credit', 1), WHO).retire, false);
  assert.equal(allowed(endpoint('credit', 1, { stable: 1, retired: true }), WHO).retire, false);
});

test('an event of another shape is not taken for an endpoint', () => {
  assert.equal(isEndpoint({ name: 'credit' }), false);
  assert.equal(isEndpoint(null), false);
});

test('a running canary says its step, one that has ended or has no steps does not', () => {
  assert.equal(stepOf({ ...rollout('running'), step: 1 }), 'step 2 of 3: 30 %');
  assert.equal(stepOf({ ...rollout('running'), manual: true }), 'step 1 of 3: 5 %, by hand');
  assert.equal(stepOf(rollout('done')), null);
  assert.equal(stepOf({ ...rollout('running'), steps: [] }), null);
});
