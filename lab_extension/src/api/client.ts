/** The control plane, as the panel reaches it: through the Jupyter server's forwarding handler. */
import { UUID } from '@lumino/coreutils';

import { parseEvents, readText, type ServerEvent } from './events';
import { Problem } from './problem';
import { type LogQuestion, queryOf } from '../model/predictions';
import type {
  Agreement,
  BudgetLine,
  Discovery,
  Effect,
  Endpoint,
  EndpointCaller,
  FeatureView,
  Job,
  LogLosses,
  Prediction,
  Release,
  Run,
  Schedule,
  Sketch,
  WhoAmI
} from './types';

/** Sends a request to `themisto/api/<path>` of the Jupyter server, logged in. */
export type Send = (path: string, init: RequestInit) => Promise<Response>;

/** Some of a list, and where the rest begins; null: nowhere. */
export interface Page<T> {
  readonly rows: readonly T[];
  readonly next: string | null;
}

const TIMEOUT_MS = 35_000;

export class ControlPlane {
  constructor(private readonly send: Send) {}

  discovery = (): Promise<Discovery> => this.get('discovery');
  whoami = (): Promise<WhoAmI> => this.get('whoami');
  budget = (): Promise<BudgetLine[]> => this.get('budget');
  runs = (limit: number): Promise<Run[]> => this.get(`runs?limit=${limit}`);
  endpoints = (): Promise<Endpoint[]> => this.get('endpoints');
  schedules = (): Promise<Schedule[]> => this.get('schedules');

  views = (): Promise<FeatureView[]> => this.get('features/overview');

  losses = (): Promise<LogLosses> => this.get('predictions/losses');

  release(endpoint: string, number: number): Promise<Release> {
    return this.get(`endpoints/${segment(endpoint)}/releases/${number}`);
  }

  /** How the values of a view's features are spread. */
  sketch(group: string, view: string): Promise<Sketch> {
    return this.get(`features/views/${segment(view)}/sketch?group=${encodeURIComponent(group)}`);
  }

  /** Who was answered by which version of the name, in the last 30 days. Each look is one audit event. */
  callers(endpoint: string): Promise<EndpointCaller[]> {
    return this.get(`endpoints/${segment(endpoint)}/callers`);
  }

  /** The newest requests, a page of them. Each look is one audit event, here and below. */
  async log(endpoint: string, question: LogQuestion, after: string | null): Promise<Page<Prediction>> {
    const answer = await this.answer(`endpoints/${segment(endpoint)}/log?${queryOf(question, after)}`, {});
    return { rows: (await answer.json()) as Prediction[], next: answer.headers.get('X-Next') };
  }

  /** Callers' answers beside the shadow's. */
  shadow(endpoint: string): Promise<Agreement> {
    return this.get(`endpoints/${segment(endpoint)}/shadow`);
  }

  /** What the latest rollout has done to a metric of the log. */
  effect(endpoint: string, metric: string): Promise<Effect> {
    return this.get(`endpoints/${segment(endpoint)}/ab?metric=${encodeURIComponent(metric)}`);
  }

  /** The candidate becomes stable. */
  promote(endpoint: string, rollout: string): Promise<unknown> {
    return this.post(`endpoints/${segment(endpoint)}/rollouts/${segment(rollout)}/promote`);
  }

  /** The next share of the traffic; refused where another step than `to` is next by now. */
  step(endpoint: string, rollout: string, to: number): Promise<unknown> {
    return this.post(`endpoints/${segment(endpoint)}/rollouts/${segment(rollout)}/step`, { to });
  }

  /** From now on only a person takes the steps. The reason goes into the audit. */
  pause(endpoint: string, rollout: string, reason: string): Promise<unknown> {
    return this.post(`endpoints/${segment(endpoint)}/rollouts/${segment(rollout)}/pause`, { reason });
  }

  /** The analysis takes the steps from now on. */
  resume(endpoint: string, rollout: string): Promise<unknown> {
    return this.post(`endpoints/${segment(endpoint)}/rollouts/${segment(rollout)}/resume`);
  }

  /** The rollout ends; without one, the release before stable comes back. The reason goes into the audit. */
  rollback(endpoint: string, reason: string): Promise<unknown> {
    return this.post(`endpoints/${segment(endpoint)}/rollback`, { reason });
  }

  /** Nothing answers any more; refused while somebody calls, unless forced. */
  retire(endpoint: string, force: boolean): Promise<unknown> {
    return this.post(`endpoints/${segment(endpoint)}/retire${force ? '?force=true' : ''}`);
  }

  /** Take over what is offered to a group of one's own. */
  accept(endpoint: string): Promise<unknown> {
    return this.post(`endpoints/${segment(endpoint)}/offer/accept`);
  }

  setSchedule(schedule: string, verb: 'run' | 'pause' | 'resume'): Promise<unknown> {
    return this.post(`schedules/${segment(schedule)}/${verb}`);
  }

  /** The notebook that a job ran, with its outputs up to where it ended. */
  output(job: Job): Promise<unknown> {
    return this.get(`schedules/${segment(job.schedule)}/jobs/${segment(job.id)}/output.ipynb`);
  }

  /** What happens, as it happens; ends when the line does. */
  async *events(signal: AbortSignal): AsyncGenerator<ServerEvent> {
    const response = await this.send('events', { signal, headers: { Accept: 'text/event-stream' } });
    if (!response.ok || response.body === null) {
      throw await Problem.in(response);
    }
    yield* parseEvents(readText(response.body));
  }

  private async get<T>(path: string): Promise<T> {
    return this.ask<T>(path, {});
  }

  private async post(path: string, body?: unknown): Promise<unknown> {
    const headers: Record<string, string> = { 'Idempotency-Key': UUID.uuid4() };
    if (body === undefined) {
      return this.ask(path, { method: 'POST', headers });
    }
    headers['Content-Type'] = 'application/json';
    return this.ask(path, { method: 'POST', headers, body: JSON.stringify(body) });
  }

  private async ask<T>(path: string, init: RequestInit): Promise<T> {
    return (await this.answer(path, init)).json() as Promise<T>;
  }

  private async answer(path: string, init: RequestInit): Promise<Response> {
    const response = await this.send(path, { ...init, signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) {
      throw await Problem.in(response);
    }
    return response;
  }
}

/** A name as one segment of a path. */
function segment(name: string): string {
  return encodeURIComponent(name);
}
