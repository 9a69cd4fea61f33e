import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Problem } from '../src/api/problem';

test('a problem document keeps what happened and what to do', async () => {
  const body = { type: 'urn:themisto:refused', detail: 'Not yours.', remedy: 'Ask that group.' };
  const problem = await Problem.in(new Response(JSON.stringify(body), { status: 403 }));
  assert.deepEqual(
    [problem.slug, problem.status, problem.detail, problem.remedy],
    ['refused', 403, 'Not yours.', 'Ask that group.']
  );
});

test('an error page is told by its status, never shown', async () => {
  const problem = await Problem.in(new Response('<html>Traceback …</html>', { status: 502 }));
  assert.equal(problem.detail, 'The server answered HTTP 502.');
});

test('a stack never reaches the panel', t => {
  t.mock.method(console, 'warn', () => undefined);
  const problem = Problem.of(new TypeError('Failed to fetch'));
  assert.equal(problem.slug, 'unavailable');
  assert.ok(!problem.message.includes('TypeError'));
});
