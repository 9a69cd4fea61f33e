/** Endpoints as the panel keeps them: the newest word on each, what waits, and what one may do. */
import { isRecord } from '../api/problem';
import type { Endpoint, Rollout, WhoAmI } from '../api/types';

/** The fetched list, but for endpoints of which an event has since told something newer. */
export function mergeEndpoints(known: readonly Endpoint[], fetched: readonly Endpoint[]): Endpoint[] {
  const byName = new Map(known.map(endpoint => [endpoint.name, endpoint]));
  return fetched.map(endpoint => newer(byName.get(endpoint.name), endpoint));
}

/** The list with this endpoint in it, by name. */
export function upsertEndpoint(known: readonly Endpoint[], told: Endpoint): Endpoint[] {
  const before = known.find(endpoint => endpoint.name === told.name);
  const others = known.filter(endpoint => endpoint.name !== told.name);
  return [...others, newer(before, told)].sort((a, b) => a.name.localeCompare(b.name));
}

/** True for what an `endpoint` event carries. */
export function isEndpoint(data: unknown): data is Endpoint {
  return isRecord(data) && typeof data.name === 'string' && typeof data.updated_at === 'string';
}

/** What the person may do to an endpoint from the panel; the control plane decides again. */
export interface Allowed {
  readonly promote: boolean;
  /** Take the next step, pause or resume: where the rollout moves by steps. */
  readonly step: boolean;
  readonly rollback: boolean;
  readonly retire: boolean;
  /** Take the name over for her group. */
  readonly accept: boolean;
  /** See who calls, and read the prediction log. */
  readonly look: boolean;
}

export function allowed(endpoint: Endpoint, who: WhoAmI | null): Allowed {
  const groups = who?.scopes.includes('deploy') ? who.groups : [];
  const member = groups.includes(endpoint.group);
  const live = member && !endpoint.retired;
  const { rollout, offered_to } = endpoint;
  return {
    promote: live && rollout?.state === 'running',
    step: live && rollout?.state === 'running' && rollout.steps.length > 0,
    rollback: live && (isActive(rollout) || (endpoint.stable ?? 0) > 1),
    retire: live && (Boolean(endpoint.stable) || Boolean(endpoint.candidate)),
    accept: offered_to ? groups.includes(offered_to) : false,
    look: member
  };
}

/** What going back is called: a rollout without traffic is withdrawn. */
export function wayBack(endpoint: Endpoint): 'Roll back' | 'Withdraw' {
  return isActive(endpoint.rollout) && endpoint.rollout?.state !== 'running' ? 'Withdraw' : 'Roll back';
}

/** True while the rollout still has somewhere to go. */
export function isActive(rollout: Rollout | null | undefined): boolean {
  return rollout ? ['loading', 'waiting_approval', 'running'].includes(rollout.state) : false;
}

/** Where a running rollout stands: `step 2 of 3: 30 %`; null where it does not move by steps. */
export function stepOf(rollout: Rollout): string | null {
  const share = rollout.steps[rollout.step];
  if (rollout.state !== 'running' || share === undefined) {
    return null;
  }
  const place = `step ${rollout.step + 1} of ${rollout.steps.length}: ${share} %`;
  return rollout.manual ? `${place}, by hand` : place;
}

/** The share of the traffic that the next step gives; the last one gives all. */
export function nextShare({ steps, step }: Rollout): number {
  return steps[step + 1] ?? 100;
}

function newer(known: Endpoint | undefined, told: Endpoint): Endpoint {
  return known !== undefined && moment(known) > moment(told) ? known : told;
}

function moment(endpoint: Endpoint): number {
  return Math.max(Date.parse(endpoint.updated_at), Date.parse(endpoint.rollout?.updated_at ?? endpoint.updated_at));
}
