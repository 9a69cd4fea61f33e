/** The line to the control plane: events as they happen, a poll where there are none, and how it stands. */
import type { ServerEvent } from '../api/events';
import { Problem } from '../api/problem';

export type Connection =
  | { readonly state: 'connecting' }
  | { readonly state: 'live' }
  | { readonly state: 'polling'; readonly problem: Problem }
  | { readonly state: 'offline'; readonly problem: Problem }
  | { readonly state: 'alone'; readonly problem: Problem };

export interface LiveOptions {
  /** Opens the stream; it ends or throws when the line does. */
  readonly open: (signal: AbortSignal) => AsyncIterable<ServerEvent>;
  readonly receive: (event: ServerEvent) => void;
  /** Fetches everything once; the problem, if it did not work. */
  readonly poll: () => Promise<Problem | null>;
  readonly changed: (connection: Connection) => void;
  /** The longest pause between two tries. */
  readonly pauseMs: () => number;
  readonly now?: () => number;
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

const FIRST_PAUSE_MS = 1_000;
const STEADY_MS = 30_000;

/**
 * Keep the line up until `signal` says stop.
 *
 * When it breaks, everything is polled once, and it is tried again after a pause that doubles; so a
 * server without events is polled at the longest pause. Without THEMISTO_URL it gives up: only a
 * new start of Jupyter can change that.
 */
export async function keepLive(options: LiveOptions, signal: AbortSignal): Promise<void> {
  const { now = Date.now, sleep = pause } = options;
  const stopped = (): boolean => signal.aborted;
  let failures = 0;
  while (!stopped()) {
    const since = now();
    const problem = await listen(options, signal);
    if (stopped()) {
      return;
    }
    if (problem.slug === 'missing-setting') {
      options.changed({ state: 'alone', problem });
      return;
    }
    failures = now() - since > STEADY_MS ? 1 : failures + 1;
    const unreachable = await options.poll();
    if (stopped()) {
      return;
    }
    options.changed(
      unreachable === null ? { state: 'polling', problem } : { state: 'offline', problem: unreachable }
    );
    const longest = Math.min(options.pauseMs(), FIRST_PAUSE_MS * 2 ** failures);
    await sleep(longest * (0.5 + Math.random() / 2), signal);
  }
}

/** Listen until the line breaks; why it did. */
async function listen(options: LiveOptions, signal: AbortSignal): Promise<Problem> {
  let live = false;
  try {
    for await (const event of options.open(signal)) {
      if (!live) {
        live = true;
        options.changed({ state: 'live' });
        void options.poll();
      }
      options.receive(event);
    }
  } catch (error) {
    if (!signal.aborted) {
      return Problem.of(error);
    }
  }
  return new Problem('unavailable', 'The control plane closed the line.', 'The panel connects again by itself.');
}

/** Wait, or until the signal. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}
