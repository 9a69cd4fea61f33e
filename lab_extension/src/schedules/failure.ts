/** Where a notebook failed, read from the notebook itself. */
import { isRecord } from '../api/problem';

/** The notebook among a job's outputs. */
export const OUTPUT = 'output.ipynb';

/** What a job says about its failure: the cell's id, and its index in the notebook as it was scheduled. */
export interface Failure {
  readonly failed_cell_id?: string | null;
  readonly failed_cell?: number | null;
}

/**
 * Index of the cell that failed in the output, else null.
 *
 * By its id; else the first with an error among its outputs; the job's index comes last, because the
 * output has one cell more: the injected parameters.
 */
export function failingCell(notebook: unknown, failure: Failure): number | null {
  const cells = isRecord(notebook) && Array.isArray(notebook.cells) ? (notebook.cells as unknown[]) : [];
  const { failed_cell_id: id, failed_cell: index } = failure;
  const byId = id ? cells.findIndex(cell => isRecord(cell) && cell.id === id) : -1;
  const found = byId >= 0 ? byId : cells.findIndex(hasError);
  if (found >= 0) {
    return found;
  }
  return typeof index === 'number' && index < cells.length ? index : null;
}

/** The file in the person's home that holds a job's output. */
export function outputPath(job: { schedule: string; id: string }): string {
  return `jobs/${job.schedule}-${job.id}.ipynb`;
}

function hasError(cell: unknown): boolean {
  const outputs = isRecord(cell) && Array.isArray(cell.outputs) ? (cell.outputs as unknown[]) : [];
  return outputs.some(output => isRecord(output) && output.output_type === 'error');
}
