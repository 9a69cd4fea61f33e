/** The panel's model: what is known of the workbench, kept fresh while somebody looks. */
import { type ISignal, Signal } from '@lumino/signaling';

import type { ControlPlane } from '../api/client';
import type { ServerEvent } from '../api/events';
import type { Problem } from '../api/problem';
import type { BudgetLine, Discovery, Endpoint, FeatureView, LogLosses, Rollout, Run, Schedule, WhoAmI } from '../api/types';
import type { IWorkbench } from '../tokens';
import { isEndpoint, mergeEndpoints, upsertEndpoint } from './endpoints';
import { type Connection, keepLive, pause } from './live';
import { Resource } from './resource';

const DEBOUNCE_MS = 300;

export class Workbench implements IWorkbench {
  constructor(readonly api: ControlPlane) {}

  /** How often to ask where nothing is announced, and how many runs to list. Set from Lab's settings. */
  options = { pollSeconds: 30, runs: 8 };

  readonly discovery = new Resource<Discovery>(() => this.api.discovery(), () => this.emit());
  readonly who = new Resource<WhoAmI>(() => this.api.whoami(), () => this.emit());
  readonly budget = new Resource<BudgetLine[]>(() => this.api.budget(), () => this.emit());
  readonly endpoints = new Resource<Endpoint[]>(() => this.api.endpoints(), () => this.emit(), mergeEndpoints);
  readonly runs = new Resource<Run[]>(() => this.api.runs(this.options.runs), () => this.emit());
  readonly losses = new Resource<LogLosses>(() => this.api.losses(), () => this.emit());
  readonly schedules = new Resource<Schedule[]>(() => this.api.schedules(), () => this.emit());
  readonly views = new Resource<FeatureView[]>(() => this.api.views(), () => this.emit());

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get connection(): Connection {
    return this._connection;
  }

  /** Grows with every change: lets React see that there was one. */
  get version(): number {
    return this._version;
  }

  /** Connect while somebody looks, disconnect when nobody does: an unseen panel costs nothing. */
  watch(looking: boolean): void {
    if (looking === (this._watching !== null)) {
      return;
    }
    this._watching?.abort();
    this._watching = looking ? new AbortController() : null;
    if (this._watching !== null) {
      const { signal } = this._watching;
      this.connect({ state: 'connecting' });
      void keepLive(
        {
          open: s => this.api.events(s),
          receive: event => this.receive(event),
          poll: () => this.refresh(),
          changed: connection => this.connect(connection),
          pauseMs: () => this.options.pollSeconds * 1000
        },
        signal
      );
      void this.pollSilent(signal);
    }
  }

  /** Fetch everything; the problem that kept the most important part away, if one did. */
  async refresh(): Promise<Problem | null> {
    const all = [this.who, this.discovery, this.endpoints, this.schedules, this.views, this.runs, this.budget];
    const [who] = await Promise.all(all.map(resource => resource.refresh()));
    await this.refreshLosses();
    return who ?? null;
  }

  async promote(endpoint: Endpoint): Promise<void> {
    if (endpoint.rollout) {
      await this.act(this.api.promote(endpoint.name, endpoint.rollout.id));
    }
  }

  async step({ endpoint, id, step }: Rollout): Promise<void> {
    await this.act(this.api.step(endpoint, id, step + 1));
  }

  async pause({ endpoint, id }: Rollout, reason: string): Promise<void> {
    await this.act(this.api.pause(endpoint, id, reason));
  }

  async resume({ endpoint, id }: Rollout): Promise<void> {
    await this.act(this.api.resume(endpoint, id));
  }

  async rollback(endpoint: Endpoint, reason: string): Promise<void> {
    await this.act(this.api.rollback(endpoint.name, reason));
  }

  /** Raises the problem, which names who still calls, unless forced. */
  async retire(endpoint: Endpoint, force: boolean): Promise<void> {
    await this.act(this.api.retire(endpoint.name, force));
  }

  async accept(endpoint: Endpoint): Promise<void> {
    await this.act(this.api.accept(endpoint.name));
  }

  async setSchedule(schedule: Schedule, verb: 'run' | 'pause' | 'resume'): Promise<void> {
    await this.api.setSchedule(schedule.name, verb);
    await this.schedules.refresh();
  }

  dispose(): void {
    this.watch(false);
    this._soon.forEach(timer => clearTimeout(timer));
    Signal.clearData(this);
  }

  /** What was refused was often asked about a state of before: either way, see how it stands now. */
  private async act(asked: Promise<unknown>): Promise<void> {
    try {
      await asked;
    } finally {
      await this.endpoints.refresh();
    }
  }

  private receive({ kind, data }: ServerEvent): void {
    if (kind === 'endpoint' && isEndpoint(data)) {
      this.endpoints.set(upsertEndpoint(this.endpoints.value ?? [], data));
    } else if (kind === 'schedule' || kind === 'job') {
      this.refreshSoon(this.schedules);
    } else if (kind === 'features' || (kind === 'materialization' && isAtRest(data))) {
      this.refreshSoon(this.views);
    }
  }

  /** What is announced many times in a row is asked for once. */
  private refreshSoon(resource: Resource<Schedule[]> | Resource<FeatureView[]>): void {
    clearTimeout(this._soon.get(resource));
    this._soon.set(
      resource,
      setTimeout(() => void resource.refresh(), DEBOUNCE_MS)
    );
  }

  /** Asked only by those who may know: a refusal is a line in the audit chain. */
  private async refreshLosses(): Promise<void> {
    if (this.who.value?.scopes.includes('deploy')) {
      await this.losses.refresh();
    }
  }

  /** Announced by nobody: runs, budget, losses, an endpoint that one has lost sight of, how views age. */
  private async pollSilent(signal: AbortSignal): Promise<void> {
    for (;;) {
      await pause(this.options.pollSeconds * 1000, signal);
      if (signal.aborted) {
        return;
      }
      if (this._connection.state === 'live') {
        const silent = [this.runs, this.budget, this.endpoints, this.views];
        await Promise.all([...silent.map(resource => resource.refresh()), this.refreshLosses()]);
      }
    }
  }

  private connect(connection: Connection): void {
    this._connection = connection;
    this.emit();
  }

  private emit(): void {
    this._version += 1;
    this._changed.emit();
  }

  private readonly _changed = new Signal<this, void>(this);
  private _connection: Connection = { state: 'connecting' };
  private _watching: AbortController | null = null;
  private readonly _soon = new Map<object, ReturnType<typeof setTimeout>>();
  private _version = 0;
}

/** Of a materialization's way nothing is shown but its end. */
function isAtRest(data: unknown): boolean {
  const { state } = (data ?? {}) as { state?: unknown };
  return state === 'done' || state === 'failed';
}
