/** Losses of the prediction log, in words: traffic never waits for it, so lines can be lost. */
import type { LogLosses } from '../api/types';

const NUMBER = new Intl.NumberFormat('en');

/** `1,204 lines given up, 3 writes of Envoy failed`; null where nothing was lost. */
export function lossesInWords(losses: LogLosses): string | null {
  const parts = [
    told(losses.dropped_lines, 'line given up', 'lines given up'),
    told(losses.unreadable_lines, 'line unreadable', 'lines unreadable'),
    told(losses.failed_writes, 'write of Envoy failed', 'writes of Envoy failed')
  ].filter(part => part !== null);
  return parts.length === 0 ? null : parts.join(', ');
}

function told(count: number, one: string, many: string): string | null {
  return count === 0 ? null : `${NUMBER.format(count)} ${count === 1 ? one : many}`;
}
