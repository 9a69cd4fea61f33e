/** What answers when a release cannot, in the order in which it is asked. */
import type { Release } from '../api/types';

export interface Fallbacks {
  /** `the earlier release → the rule → the default`, of which the first needs no declaration. */
  readonly line: string;
  /** The declared answer of one row, as JSON. */
  readonly declared: string | null;
  /** How long each may take before the next is asked. */
  readonly afterMs: number | null;
}

export function fallbacksOf({ fallback }: Release): Fallbacks {
  const declared = fallback?.default ?? null;
  const line = ['the earlier release', fallback?.rule ? 'the rule' : '', declared ? 'the default' : ''];
  return {
    line: line.filter(Boolean).join(' → '),
    declared: declared === null ? null : JSON.stringify(declared),
    afterMs: fallback?.after_ms ?? null
  };
}
