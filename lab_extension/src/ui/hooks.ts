/** How React sees the model and the clock. */
import * as React from 'react';

import type { Page } from '../api/client';
import { Problem } from '../api/problem';
import type { Known } from '../model/resource';
import type { Workbench } from '../model/workbench';

/** Draw again whenever the model changes. */
export function useWorkbench(model: Workbench): void {
  const subscribe = React.useCallback(
    (notify: () => void) => {
      model.changed.connect(notify);
      return () => {
        model.changed.disconnect(notify);
      };
    },
    [model]
  );
  React.useSyncExternalStore(subscribe, () => model.version);
}

/** The time, drawn again every half minute. */
export function useNow(): number {
  const [now, setNow] = React.useState(Date.now);
  React.useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 30_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

/** Something that is fetched as soon as it is shown, and again when `fetch` becomes another. */
export function useFetched<T>(fetch: () => Promise<T>): Known<T> {
  const { known, ask } = useAsked(fetch);
  React.useEffect(ask, [ask]);
  return known ?? { state: 'loading' };
}

/** Something that is fetched when the person asks for it; the newest question wins. */
export function useAsked<T>(fetch: () => Promise<T>): { known: Known<T> | null; ask: () => () => void } {
  const [known, setKnown] = React.useState<Known<T> | null>(null);
  const ask = React.useCallback(() => {
    let wanted = true;
    setKnown({ state: 'loading' });
    fetch().then(
      value => wanted && setKnown({ state: 'ready', value, stale: null }),
      (error: unknown) => wanted && setKnown({ state: 'failed', problem: Problem.of(error) })
    );
    return () => {
      wanted = false;
    };
  }, [fetch]);
  return { known, ask };
}

export interface Action {
  readonly busy: boolean;
  readonly problem: Problem | null;
  readonly run: (work: () => Promise<void>) => void;
}

/** One thing at a time, and why it did not work. */
export function useAction(): Action {
  const [busy, setBusy] = React.useState(false);
  const [problem, setProblem] = React.useState<Problem | null>(null);
  const run = React.useCallback((work: () => Promise<void>) => {
    setBusy(true);
    setProblem(null);
    work()
      .catch((error: unknown) => setProblem(Problem.of(error)))
      .finally(() => setBusy(false));
  }, []);
  return { busy, problem, run };
}

export interface Paged<T> {
  /** Null until the first page is there. */
  readonly rows: readonly T[] | null;
  /** Where the next page begins; null: there is none. */
  readonly next: string | null;
  readonly busy: boolean;
  readonly problem: Problem | null;
  /** The next page, below those that are there. */
  readonly more: () => void;
}

/** A list that is fetched page by page, the first one as soon as it is shown. */
export function usePages<T>(fetch: (after: string | null) => Promise<Page<T>>): Paged<T> {
  const [known, setKnown] = React.useState<{ rows: readonly T[] | null; next: string | null }>({ rows: null, next: null });
  const { busy, problem, run } = useAction();
  const load = React.useCallback(
    (after: string | null) =>
      run(async () => {
        const page = await fetch(after);
        setKnown(({ rows }) => ({ rows: after === null ? page.rows : [...(rows ?? []), ...page.rows], next: page.next }));
      }),
    [fetch, run]
  );
  React.useEffect(() => load(null), [load]);
  return { ...known, busy, problem, more: () => load(known.next) };
}
