/** Endpoints and rollouts for the tests, in the API's own shapes. */
import type { Endpoint, GateResult, Prediction, Rollout } from '../src/api/types';

export function endpoint(name: string, at: number, more: Partial<Endpoint> = {}): Endpoint {
  const updated_at = `2026-11-20T10:00:0${at}Z`;
  return { name, group: 'data-science', tier: 'dev', demo: false, weight_pct: 0, retired: false, updated_at, ...more };
}

export function rollout(state: Rollout['state'], at = 0): Rollout {
  return {
    id: '01JD00000000000000000000AA',
    endpoint: 'credit',
    release: 2,
    strategy: 'canary',
    weight_pct: 5,
    state,
    stage: '',
    message: '',
    requested_by: 'scientist',
    created_at: '2026-11-20T10:00:00Z',
    updated_at: `2026-11-20T10:00:0${at}Z`,
    steps: [5, 30, 100],
    step: 0,
    manual: false,
    approvals: [],
    gates: []
  };
}

export function gate(text: string, passed: boolean | null, more: Partial<GateResult> = {}): GateResult {
  return {
    gate: text,
    passed,
    says: '',
    slices: [],
    release: 2,
    champion_release: 1,
    source: 'holdout',
    pinned: false,
    holdout_sha256: null,
    rows: 2000,
    at: '2026-11-20T10:00:00Z',
    ...more
  };
}

export function prediction(more: Partial<Prediction> = {}): Prediction {
  return {
    time: '2026-11-20T10:00:00Z',
    request_id: 'a',
    caller: 'loan-desk',
    endpoint: 'credit',
    release: 'credit@7',
    chosen: 'credit@7',
    key: null,
    entity: false,
    protocol: 'http',
    path: '/v2/models/credit/infer',
    status: 200,
    latency_ms: 1.4,
    flags: null,
    ...more
  };
}
