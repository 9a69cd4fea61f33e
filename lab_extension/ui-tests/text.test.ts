import assert from 'node:assert/strict';
import { test } from 'node:test';

import { first, webAddress, words } from '../src/ui/text';
import { relative } from '../src/ui/time';

test('only web addresses become links', () => {
  assert.equal(webAddress('http://localhost:8004/approve/1'), 'http://localhost:8004/approve/1');
  for (const url of ['javascript:alert(1)', 'data:text/html,x', 'file:///etc/passwd', '/relative', '', null]) {
    assert.equal(webAddress(url), null, String(url));
  }
});

test('states are read as words', () => {
  assert.equal(words('waiting_approval'), 'waiting approval');
});

test('of many names the first are told, and how many more there are', () => {
  assert.equal(first(['a', 'b', 'c', 'd'], 2), 'a, b and 2 more');
  assert.equal(first(['a', 'b', 'c'], 2), 'a, b, c');
  assert.equal(first(['a'], 2), 'a');
});

test('times are told from now', () => {
  const now = Date.parse('2026-11-20T12:00:00Z');
  assert.equal(relative('2026-11-20T11:55:00Z', now), '5 min. ago');
  assert.equal(relative('2026-11-20T15:00:00Z', now), 'in 3 hr.');
  assert.equal(relative('2026-11-20T12:00:30Z', now), 'now');
});
