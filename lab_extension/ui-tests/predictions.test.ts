import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  isGood,
  milliseconds,
  queryOf,
  reasonOf,
  releasesOf,
  shortTitle,
  statusInWords,
  steppedAside
} from '../src/model/predictions';
import { endpoint, prediction, rollout } from './nouns';

test('a question says only what was chosen, and a place goes as it came', () => {
  assert.equal(queryOf({ about: null, only: '' }, null), 'bodies=false&limit=20');
  assert.equal(
    queryOf({ about: 8, only: 'failures' }, '176.0.a%2Fb'),
    'bodies=false&limit=20&about=8&only=failures&after=176.0.a%252Fb'
  );
});

test('good is what the protocol calls good', () => {
  const good = (protocol: string, status: number | null): boolean => isGood(prediction({ protocol, status }));
  assert.deepEqual([good('http', 200), good('grpc', 0)], [true, true]);
  assert.deepEqual([good('http', 0), good('grpc', 200), good('http', null), good('http', 503)], [false, false, false, false]);
});

test('a status says whose number it is', () => {
  assert.equal(statusInWords(prediction({ status: 503 })), '503');
  assert.equal(statusInWords(prediction({ protocol: 'grpc', status: 14 })), 'gRPC 14');
  assert.equal(statusInWords(prediction({ protocol: 'grpc', status: 99 })), 'gRPC 99');
  assert.equal(statusInWords(prediction({ status: 0 })), 'none');
  assert.equal(statusInWords(prediction({ status: null })), 'none');
});

test('the answer tells why before the flags do', () => {
  assert.equal(reasonOf(prediction({ error: 'no column x', flags: 'UT' })), 'no column x');
  assert.equal(reasonOf(prediction({ flags: 'UO,XX' })), 'too many requests on their way (UO), XX');
  assert.equal(reasonOf(prediction({ flags: '-' })), null);
  assert.equal(
    reasonOf(prediction({ protocol: 'grpc', status: 14, flags: 'UH' })),
    'unavailable, no healthy model server (UH)'
  );
  assert.equal(reasonOf(prediction({ protocol: 'grpc', status: 0, flags: '' })), null);
  assert.equal(reasonOf(prediction({ flags: null })), null);
});

test('what was chosen is named where something else answered', () => {
  assert.equal(steppedAside(prediction({ release: 'credit@7', chosen: 'credit@8' })), '@8');
  assert.equal(steppedAside(prediction({ release: null, chosen: 'credit@8' })), '@8');
  assert.equal(steppedAside(prediction({ release: 'credit@8', chosen: 'credit@8' })), null);
  assert.equal(steppedAside(prediction({ release: 'credit@8', chosen: null })), null);
  assert.equal(shortTitle('credit.v2@8'), '@8');
});

test('releases to ask about are those there were, the newest first and not too many', () => {
  assert.deepEqual(releasesOf(endpoint('credit', 0, { stable: 2, rollout: rollout('failed') })), [2, 1]);
  assert.deepEqual(releasesOf(endpoint('credit', 0)), []);
  assert.equal(releasesOf(endpoint('credit', 0, { stable: 400 })).length, 50);
});

test('latency keeps the digits that count', () => {
  assert.deepEqual([milliseconds(1.44), milliseconds(1204.4), milliseconds(null)], ['1.4 ms', '1,204 ms', '–']);
});
