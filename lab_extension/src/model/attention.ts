/** Attention: what a person on call must see first, counted over all endpoints. */
import type { Endpoint, Rollout } from '../api/types';

const RECENT_MS = 24 * 3_600_000;

/** What an endpoint asks of people: a decision, a look, or nothing. */
export type Standing = 'waits' | 'went back' | 'moves' | 'rests';

export function standingOf(endpoint: Endpoint, nowMs: number): Standing {
  const rollout = endpoint.rollout;
  if (endpoint.offered_to || rollout?.state === 'waiting_approval' || (rollout && isUndecided(rollout))) {
    return 'waits';
  }
  if (rollout?.state === 'running' || rollout?.state === 'loading') {
    return 'moves';
  }
  const fresh = rollout && nowMs - Date.parse(rollout.updated_at) < RECENT_MS;
  return fresh && !endpoint.retired && wentBack(rollout) ? 'went back' : 'rests';
}

/** How many endpoints stand how, those that rest left out, the most pressing first. */
export function attention(endpoints: readonly Endpoint[], nowMs: number): [Exclude<Standing, 'rests'>, number][] {
  const standings = endpoints.map(endpoint => standingOf(endpoint, nowMs));
  const pressing = ['waits', 'went back', 'moves'] as const;
  return pressing
    .map((kind): [typeof kind, number] => [kind, standings.filter(standing => standing === kind).length])
    .filter(([, count]) => count > 0);
}

/** True where a release did not come through: it failed, was refused, or went back. */
export function wentBack(rollout: Rollout): boolean {
  return rollout.state === 'rolled_back' || rollout.state === 'failed' || rollout.state === 'refused';
}

/** True where the analysis has too little to go by, and a person decides. */
export function isUndecided(rollout: Rollout): boolean {
  return rollout.state === 'running' && rollout.stage === 'decide';
}
