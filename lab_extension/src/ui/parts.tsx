/** The small parts all panels are made of. Text is always React text: nothing here renders markup. */
import * as React from 'react';

import type { Problem } from '../api/problem';
import type { Known } from '../model/resource';
import { useNow } from './hooks';
import { words, webAddress } from './text';
import { clock, exact, relative } from './time';

type Tone = 'plain' | 'good' | 'busy' | 'warn' | 'bad';

/** A word with a tone; the word alone says all, the colour only helps. */
export function Chip(props: { tone?: Tone; children: React.ReactNode; title?: string | undefined }): React.JSX.Element {
  return (
    <span className={`themisto-Chip themisto-mod-${props.tone ?? 'plain'}`} title={props.title}>
      {props.children}
    </span>
  );
}

const TONES: Readonly<Record<string, Tone>> = {
  done: 'good',
  succeeded: 'good',
  finished: 'good',
  running: 'busy',
  loading: 'busy',
  starting: 'busy',
  waiting_approval: 'warn',
  paused: 'warn',
  refused: 'bad',
  rolled_back: 'bad',
  failed: 'bad',
  killed: 'bad',
  lost: 'bad'
};

/** A state in its tone. */
export function StateChip({ state, title }: { state: string; title?: string | undefined }): React.JSX.Element {
  return (
    <Chip tone={TONES[state] ?? 'plain'} title={title}>
      {words(state)}
    </Chip>
  );
}

/** What happened and what to do. */
export function Notice(props: {
  tone: 'warn' | 'bad' | 'info';
  title: string;
  text?: string;
  /** What has long been so is not read out as an alert. */
  quiet?: boolean;
  children?: React.ReactNode;
}): React.JSX.Element {
  const role = props.tone === 'bad' && !props.quiet ? 'alert' : 'note';
  return (
    <div className={`themisto-Notice themisto-mod-${props.tone}`} role={role}>
      <strong>{props.title}</strong>
      {props.text ? <span>{props.text}</span> : null}
      {props.children}
    </div>
  );
}

export function ProblemNotice({ problem }: { problem: Problem }): React.JSX.Element {
  return <Notice tone="bad" title={problem.detail} text={problem.remedy} />;
}

/** Why a section is empty. That nothing answers is alerted once, above all sections. */
function NotLoaded({ problem }: { problem: Problem }): React.JSX.Element {
  if (problem.slug === 'unavailable') {
    return <p className="themisto-Faint">Not loaded: {problem.message}</p>;
  }
  return <ProblemNotice problem={problem} />;
}

/** A moment, as people say it. */
export function Moment({ at }: { at: string }): React.JSX.Element {
  const now = useNow();
  return (
    <time dateTime={at} title={exact(at)}>
      {relative(at, now)}
    </time>
  );
}

/** A moment by the clock, for what happens many times a minute. */
export function Clock({ at, now }: { at: string; now: number }): React.JSX.Element {
  return (
    <time dateTime={at} title={exact(at)}>
      {clock(at, now)}
    </time>
  );
}

/** A link into another tab, which learns nothing of this one; plain text if it is no web address. */
export function OutLink(props: {
  href: string | null | undefined;
  className?: string;
  label?: string;
  children: React.ReactNode;
}): React.JSX.Element {
  const href = webAddress(props.href);
  if (href === null) {
    return <span>{props.children}</span>;
  }
  return (
    <a className={props.className} href={href} target="_blank" rel="noopener noreferrer" aria-label={props.label}>
      {props.children}
    </a>
  );
}

/** A section that opens and closes by mouse and keyboard; not shown where the workbench has no such thing. */
export function Section<T>(props: {
  title: string;
  known: Known<T>;
  count?: number | undefined;
  /** Beside the title, seen also where the section is closed. */
  note?: React.ReactNode;
  children: (value: T) => React.ReactNode;
}): React.JSX.Element | null {
  const { title, known, count, note, children } = props;
  if (known.state === 'absent') {
    return null;
  }
  return (
    <details className="themisto-Section" open>
      <summary>
        <h2>{title}</h2>
        {count ? <span className="themisto-Section-count">{count}</span> : null}
        {note}
      </summary>
      <div className="themisto-Section-body">
        {known.state === 'loading' ? <p className="themisto-Faint">Loading…</p> : null}
        {known.state === 'failed' ? <NotLoaded problem={known.problem} /> : null}
        {known.state === 'ready' ? children(known.value) : null}
        {known.state === 'ready' && known.stale ? (
          <p className="themisto-Faint">May be out of date: {known.stale.detail}</p>
        ) : null}
      </div>
    </details>
  );
}

export function Empty({ children }: { children: React.ReactNode }): React.JSX.Element {
  return <p className="themisto-Faint">{children}</p>;
}
