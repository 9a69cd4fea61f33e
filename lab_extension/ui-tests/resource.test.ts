import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Problem } from '../src/api/problem';
import { Resource } from '../src/model/resource';

const DOWN = new Problem('unavailable', 'Down.', '', 503);

function answering(...answers: (string | Problem)[]): Resource<string> {
  const left = [...answers];
  const fetch = (): Promise<string> => {
    const next = left.shift() ?? '';
    return typeof next === 'string' ? Promise.resolve(next) : Promise.reject(next);
  };
  return new Resource(fetch, () => undefined);
}

test('what was known stays while a refresh fails, marked as stale', async () => {
  const resource = answering('first', DOWN);
  await resource.refresh();
  assert.equal(await resource.refresh(), DOWN);
  assert.deepEqual(resource.known, { state: 'ready', value: 'first', stale: DOWN });
});

test('a resource that this workbench does not have is absent, not broken', async () => {
  const resource = answering(new Problem('not-found', 'No such path.', '', 404));
  assert.equal(await resource.refresh(), null);
  assert.equal(resource.known.state, 'absent');
});

test('what this workbench does not have stays absent while the workbench is away, and comes when it is there', async () => {
  const resource = answering(new Problem('not-found', 'No such path.', '', 404), DOWN, 'there');
  await resource.refresh();
  assert.equal(await resource.refresh(), DOWN);
  assert.equal(resource.known.state, 'absent');
  await resource.refresh();
  assert.equal(resource.value, 'there');
});

test('a slow older answer does not replace a newer one', async () => {
  const waiting: ((value: string) => void)[] = [];
  const resource = new Resource(
    () => new Promise<string>(resolve => waiting.push(resolve)),
    () => undefined
  );
  const older = resource.refresh();
  const newer = resource.refresh();
  waiting[1]?.('newer');
  waiting[0]?.('older');
  await Promise.all([older, newer]);
  assert.equal(resource.value, 'newer');
});
