/** One feature view; how its values are spread is asked for when somebody looks. */
import * as React from 'react';

import type { ControlPlane } from '../api/client';
import type { FeatureView } from '../api/types';
import { useFetched } from '../ui/hooks';
import { Chip, Moment, Notice, ProblemNotice } from '../ui/parts';
import { SketchTable } from './SketchTable';

export function ViewCard({ view, api }: { view: FeatureView; api: ControlPlane }): React.JSX.Element {
  const [open, setOpen] = React.useState(false);
  const { services, offline_to: offline, online_to: online } = view;
  return (
    <li className="themisto-Card" aria-label={`feature view ${view.name}`}>
      <header className="themisto-Card-head">
        <strong className="themisto-Card-name">{view.name}</strong>
        {view.kept ? <Promise kept={view.kept} /> : null}
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
      <span className="themisto-Faint">
        {services.length === 0 ? 'Read by no service yet.' : `Read by ${services.join(', ')}.`}
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

function Promise({ kept }: { kept: string }): React.JSX.Element {
  const fresh = kept === 'yes';
  return (
    <Chip tone={fresh ? 'good' : 'bad'} title={fresh ? 'As fresh as it promises' : kept.replace(/^no: /, '')}>
      {fresh ? 'fresh' : 'late'}
    </Chip>
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
  return known.state === 'ready' ? <SketchTable sketch={known.value} /> : <p className="themisto-Faint">Loading…</p>;
}
