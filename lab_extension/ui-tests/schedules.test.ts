import assert from 'node:assert/strict';
import { test } from 'node:test';

import { failingCell, outputPath } from '../src/schedules/failure';

const fine = { cell_type: 'code', outputs: [{ output_type: 'stream', text: 'ok' }] };
const broken = { cell_type: 'code', outputs: [{ output_type: 'error', ename: 'ValueError' }] };

test('the cell is found by the id that the job recorded', () => {
  const notebook = { cells: [{ id: 'a' }, { id: 'b', ...broken }, { id: 'c', ...broken }] };
  assert.equal(failingCell(notebook, { failed_cell_id: 'c', failed_cell: 0 }), 2);
});

test('a notebook without ids shows its failure by its own error output', () => {
  const notebook = { cells: [{ cell_type: 'markdown' }, fine, broken, broken] };
  assert.equal(failingCell(notebook, { failed_cell_id: 'gone', failed_cell: 0 }), 2);
});

test('without an error among the outputs the index that the job recorded is used', () => {
  assert.equal(failingCell({ cells: [fine, fine] }, { failed_cell: 1 }), 1);
});

test('an index beyond the notebook, or none, opens it at its top', () => {
  assert.equal(failingCell({ cells: [fine] }, { failed_cell: 7 }), null);
  assert.equal(failingCell({ cells: [fine] }, {}), null);
  assert.equal(failingCell('no notebook', {}), null);
});

test('the output has one place in the files, by schedule and job', () => {
  assert.equal(outputPath({ schedule: 'nightly', id: '01JD' }), 'jobs/nightly-01JD.ipynb');
});
