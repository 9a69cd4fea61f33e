import assert from 'node:assert/strict';
import { test } from 'node:test';

import { baseOf, familiesOf, isGone, versionOf } from '../src/model/families';
import { endpoint } from './nouns';

test('versions stand under their name, by number and not by letter', () => {
  const found = familiesOf(['credit.v10', 'fraud', 'credit', 'credit.v2'].map(name => endpoint(name, 1)));
  assert.deepEqual(
    found.map(({ name, versions }) => [name, versions.map(one => one.name)]),
    [
      ['credit', ['credit', 'credit.v2', 'credit.v10']],
      ['fraud', ['fraud']]
    ]
  );
});

test('a version whose name may not be seen is a family all the same', () => {
  assert.deepEqual(familiesOf([endpoint('credit.v2', 1)]).map(family => family.name), ['credit']);
});

test('names that look like versions and are none are their own', () => {
  assert.deepEqual([baseOf('credit_v2'), versionOf('credit_v2'), versionOf('credit')], ['credit_v2', 1, 1]);
});

test('a name is gone when all of it is retired and nobody is asked to take it', () => {
  const [old, live] = [endpoint('credit', 1, { retired: true }), endpoint('credit.v2', 1)];
  assert.equal(isGone({ name: 'credit', versions: [old, live] }), false);
  assert.equal(isGone({ name: 'credit', versions: [old] }), true);
  assert.equal(isGone({ name: 'credit', versions: [{ ...old, offered_to: 'other' }] }), false);
});
