/** One feature view; how its values are spread is asked for when somebody looks. */
import * as React from 'react';

import type { ControlPlane } from '../api/client';
import type { FeatureView } from '../api/types';
import { useFetched } from '../ui/hooks';
import { Chip, Moment, Notice, ProblemNotice } from '../ui/parts';
import { first } from '../ui/text';
import { SketchTable } from './SketchTable';

/** So many services are named; pointing at them shows all. */
const MOST = 4;

export function ViewCard({ view, api }: { view: FeatureView; api: ControlPlane }): React.JSX.Element {
  const [open, setOpen] = React.useState(false);
  const { services, offline_to: offline, online_to: online } = view;
  const late = view.kept.startsWith('no: ') ? view.kept.slice('no: '.length) : '';
  return (
    <li className="themisto-Card" aria-label={`feature view ${view.name}`}>
      <header className="themisto-Card-head">
        <strong className="themisto-Card-name">{view.name}</strong>
        {view.kept ? <Chip tone={late ? 'bad' : 'good'}>{late ? 'late' : 'fresh'}</Chip> : null}
      </header>
      {view.description ? <span>{view.description}</span> : null}
      <span className="themisto-Faint">
        version {view.version} by {view.keys.join(', ')} · {view.owner} of {view.group}
        {view.topic ? ` · from ${view.topic}` : ''}
      </span>
      <span className="themisto-Faint">
        {view.rows.toLocaleString('en')} rows{offline ? <Reach word="to" at={offline} /> : null}
        {online ? <Reach word="· online to" at={online} /> : ' · nothing materialized'}
      </span>
      {late ? <span className="themisto-Faint">Later than it promises: {late}.</span> : null}
      <span className="themisto-Faint" title={services.length > MOST ? services.join(', ') : undefined}>
        {services.length === 0 ? 'Read by no service yet.' : `Read by ${first(services, MOST)}.`}
      </span>
      {view.quarantined > 0 ? (
        <Notice
          tone="warn"
          title={`${view.quarantined.toLocaleString('en')} rows are not as the view expects.`}
          text={`Which and why: %features quarantine ${view.name}`}
          quiet
        />
      ) : null}
      <details className="themisto-More" onToggle={event => setOpen(event.currentTarget.open)}>
        <summary>
          {view.features} {view.features === 1 ? 'feature' : 'features'}
        </summary>
        {open ? <Spread view={view} api={api} /> : null}
      </details>
    </li>
  );
}

function Reach({ word, at }: { word: string; at: string }): React.JSX.Element {
  return (
    <>
      {' '}
      {word} <Moment at={at} />
    </>
  );
}

function Spread({ view, api }: { view: FeatureView; api: ControlPlane }): React.JSX.Element {
  const { group, name } = view;
  const known = useFetched(React.useCallback(() => api.sketch(group, name), [api, group, name]));
  if (known.state === 'failed') {
    return <ProblemNotice problem={known.problem} />;
  }
  return known.state === 'ready' ? (
    <div className="themisto-Spread" tabIndex={0} role="region" aria-label={`Features of ${name}`}>
      <SketchTable sketch={known.value} />
    </div>
  ) : (
    <p className="themisto-Faint">Loading…</p>
  );
}
