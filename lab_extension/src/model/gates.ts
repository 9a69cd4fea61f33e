/** Gates of a rollout: the newest word on each, and all of them in one line. */
import type { GateResult } from '../api/types';

/** Each gate as it was last decided, in the order in which they were first decided. */
export function latest(results: readonly GateResult[]): GateResult[] {
  const byGate = new Map<string, GateResult>();
  for (const result of results) {
    byGate.set(JSON.stringify([result.gate, result.source, result.pinned]), result);
  }
  return [...byGate.values()];
}

/** `3 gates passed`, `1 of 3 gates not passed`, `2 gates skipped`; null where there are none. */
export function gatesInWords(results: readonly GateResult[]): string | null {
  const all = latest(results);
  const missed = missedGates(results).length;
  const passed = all.filter(result => result.passed === true).length;
  if (all.length === 0) {
    return null;
  }
  if (missed > 0) {
    return `${missed} of ${gates(all.length)} not passed`;
  }
  const skipped = all.length - passed;
  return [passed > 0 ? `${gates(passed)} passed` : '', skipped > 0 ? `${passed > 0 ? skipped : gates(skipped)} skipped` : '']
    .filter(Boolean)
    .join(', ');
}

/** Those that were not passed. */
export function missedGates(results: readonly GateResult[]): GateResult[] {
  return latest(results).filter(result => result.passed === false);
}

function gates(count: number): string {
  return count === 1 ? '1 gate' : `${count} gates`;
}
