/** The prediction log: what is asked of it, and its rows in words. */
import type { Endpoint, Prediction } from '../api/types';

/** Which requests. */
export interface LogQuestion {
  /** A release: what it answered, and what it should have answered and did not. Null: all. */
  readonly about: number | null;
  readonly only: '' | 'failures' | 'fallbacks';
}

export const PAGE = 20;

/** Further back than so many rows, the log is read from a notebook. */
export const MOST = 500;

/** The query of one page; `after`: where the page before ended. */
export function queryOf({ about, only }: LogQuestion, after: string | null): string {
  const query = new URLSearchParams({ bodies: 'false', limit: String(PAGE) });
  for (const [name, value] of [
    ['about', about === null ? '' : String(about)],
    ['only', only],
    ['after', after ?? '']
  ] as const) {
    if (value !== '') {
      query.set(name, value);
    }
  }
  return query.toString();
}

/** Releases that can be asked about, the newest first. */
export function releasesOf({ stable, candidate, rollout }: Endpoint): number[] {
  const newest = Math.max(stable ?? 0, candidate ?? 0, rollout?.release ?? 0);
  return Array.from({ length: Math.min(newest, 50) }, (_, at) => newest - at);
}

/** Whether the caller got a good answer, from the release or from what stepped in. */
export function isGood({ protocol, status }: Prediction): boolean {
  return protocol === 'grpc' ? status === 0 : status !== null && status >= 200 && status <= 299;
}

/** `200`, `503`, `gRPC 14`, `none` where the caller or the server hung up. */
export function statusInWords({ protocol, status }: Prediction): string {
  if (status === null || (protocol !== 'grpc' && status === 0)) {
    return 'none';
  }
  return protocol === 'grpc' ? `gRPC ${status}` : String(status);
}

/** Why it went wrong, as far as the log says: the answer's own words, else gRPC's code and Envoy's flags; null: nothing. */
export function reasonOf(prediction: Prediction): string | null {
  if (prediction.error) {
    return prediction.error;
  }
  const flags = (prediction.flags ?? '').split(',').filter(flag => flag !== '' && flag !== '-');
  const code = prediction.protocol === 'grpc' && prediction.status ? GRPC[prediction.status] : undefined;
  const words = [...(code ? [code] : []), ...flags.map(flag => (FLAGS[flag] ? `${FLAGS[flag]} (${flag})` : flag))];
  return words.length === 0 ? null : words.join(', ');
}

/** `@8` of `credit@8`. */
export function shortTitle(title: string | null | undefined): string {
  return title ? title.slice(title.lastIndexOf('@')) : '';
}

/** What was chosen and did not answer, as `@8`; null where what was chosen answered, or the log does not say. */
export function steppedAside({ release, chosen }: Prediction): string | null {
  return chosen && chosen !== release ? shortTitle(chosen) : null;
}

/** `1,204 ms`, `12.3 ms`, `2.0 ms`. */
export function milliseconds(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) {
    return '–';
  }
  const digits = ms < 100 ? 1 : 0;
  return `${ms.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })} ms`;
}

/** Status codes of gRPC (grpc/doc/statuscodes.md). */
const GRPC: readonly string[] = [
  'OK',
  'cancelled',
  'unknown',
  'invalid argument',
  'deadline exceeded',
  'not found',
  'already exists',
  'permission denied',
  'resource exhausted',
  'failed precondition',
  'aborted',
  'out of range',
  'unimplemented',
  'internal',
  'unavailable',
  'data loss',
  'unauthenticated'
];

/** Envoy's response flags (its access log's %RESPONSE_FLAGS%) that a caller of a model can meet. */
const FLAGS: Readonly<Record<string, string>> = {
  DC: 'the caller hung up',
  DI: 'delayed on purpose',
  DPE: 'the request is malformed',
  LR: 'the connection was reset here',
  NC: 'no such model server',
  NR: 'no such endpoint',
  RL: 'over the rate',
  RLSE: 'the rate limit failed',
  SI: 'the stream was idle too long',
  UAEX: 'not allowed',
  UC: 'the model server broke the connection',
  UF: 'no connection to the model server',
  UH: 'no healthy model server',
  UMSDR: 'it took too long',
  UO: 'too many requests on their way',
  UPE: 'the model server answered nonsense',
  UR: 'the model server reset the request',
  URX: 'all retries are used up',
  UT: 'the model server did not answer in time'
};
