/** Ready cells: what the kernel knows better than a panel (DataFrames, plots, files) is asked from a notebook. */
import type { Endpoint } from '../api/types';

/** A cell to put into a notebook, and what it is good for. */
export interface ReadyCell {
  readonly label: string;
  readonly hint: string;
  /** Words in capitals stand for what the person fills in. */
  readonly source: string;
}

const NAME = /^[a-z][a-z0-9_-]{0,47}(\.v([2-9]|[1-9][0-9]{1,2}))?$/;

/** The cells that make sense for an endpoint now, the most telling first; none for what cannot be a name. */
export function cellsFor(endpoint: Endpoint): ReadyCell[] {
  const { name, strategy, candidate, stable } = endpoint;
  if (!NAME.test(name)) {
    return [];
  }
  const cell = (label: string, hint: string, rest: string): ReadyCell => {
    const [verb, ...options] = rest.split(' ');
    return { label, hint, source: ['%deploy', verb, name, ...options].join(' ') };
  };
  const always = [
    cell('Log', 'the newest predictions, as a DataFrame', 'log --since 2h'),
    cell('Callers', 'who calls which version', 'callers')
  ];
  if (!stable && !candidate) {
    return always;
  }
  return [
    ...(strategy === 'shadow' ? [cell('Shadow', 'both answers, those that differ most first', 'shadow')] : []),
    ...(strategy === 'ab' ? [cell('A/B', 'exposures, and the effect on a metric of yours', 'ab --metric VAR')] : []),
    ...(candidate ? [cell('Difference', 'the candidate against stable', 'diff')] : []),
    ...always,
    cell('Gates', 'how each was decided, slice by slice', 'gates'),
    cell('Bench', 'latency against throughput', 'bench --slo p99=10ms'),
    cell('Batch', 'a whole data set through the stable release', 'batch --input IN.parquet --output FOLDER')
  ];
}

/** The cell that offers a name and its versions to another group. */
export function transferCell(name: string): string | null {
  return NAME.test(name) ? `%deploy transfer ${name} --to GROUP` : null;
}
