/** What a person looks up when two seconds were not enough; fetched when it is opened. */
import * as React from 'react';

import type { Endpoint, Release } from '../api/types';
import type { Allowed } from '../model/endpoints';
import { baseOf } from '../model/families';
import { fallbacksOf } from '../model/fallback';
import type { Workbench } from '../model/workbench';
import { hasShadow, hasSplit } from '../model/comparing';
import { ProblemNotice } from '../ui/parts';
import { useFetched } from '../ui/hooks';
import { AbEffect } from './AbEffect';
import { Callers } from './Callers';
import { Cells, type InsertCell } from './Cells';
import { Gates, Pinned } from './Gates';
import { Measured } from './Measured';
import { Ownership } from './Ownership';
import { PredictionLog } from './PredictionLog';
import { ShadowComparison } from './ShadowComparison';

interface Props {
  readonly endpoint: Endpoint;
  readonly model: Workbench;
  readonly may: Allowed;
  readonly insertCell: InsertCell;
}

export function Details(props: Props): React.JSX.Element {
  const [open, setOpen] = React.useState(false);
  return (
    <details className="themisto-More" onToggle={event => setOpen(event.currentTarget.open)}>
      <summary aria-label={`Details of ${props.endpoint.name}`}>Details</summary>
      {open ? <Opened {...props} /> : null}
    </details>
  );
}

function Opened({ endpoint, model, may, insertCell }: Props): React.JSX.Element {
  const rollout = endpoint.rollout ?? null;
  const number = endpoint.stable ?? endpoint.candidate ?? null;
  return (
    <div className="themisto-Details">
      <Part title="Owner">
        <span>{endpoint.group}</span>
      </Part>
      {rollout === null ? null : (
        <Part title={`Latest rollout, @${rollout.release}`}>
          <span>
            {rollout.strategy}, asked for by {rollout.requested_by}
            {rollout.approvals.map(({ by, decision }) => `, ${decision === 'approve' ? 'approved' : 'refused'} by ${by}`)}
          </span>
          {rollout.message ? <span className="themisto-Message">{rollout.message}</span> : null}
          {rollout.verdict ? <Measured verdict={rollout.verdict} /> : null}
        </Part>
      )}
      {may.look ? (
        <Part title="Newest requests">
          <PredictionLog endpoint={endpoint} model={model} />
        </Part>
      ) : null}
      {may.look && rollout !== null && hasShadow(endpoint) ? (
        <Part title={`Shadow @${rollout.release} beside stable`}>
          <ShadowComparison key={rollout.release} name={endpoint.name} model={model} />
        </Part>
      ) : null}
      {may.look && rollout !== null && hasSplit(endpoint) ? (
        <Part title={`Effect of @${rollout.release}`}>
          <AbEffect key={rollout.release} {...{ endpoint, number: rollout.release, model }} />
        </Part>
      ) : null}
      {rollout !== null && rollout.gates.length > 0 ? (
        <Part title={`Gates of @${rollout.release}`}>
          <Gates results={rollout.gates} />
        </Part>
      ) : null}
      {endpoint.pinned ? (
        <Part title="Every release must pass">
          <Pinned quality={endpoint.pinned} />
        </Part>
      ) : null}
      {number === null ? null : (
        <Part title={`When @${number} cannot answer`}>
          <Fallback key={number} {...{ endpoint, number, model }} />
        </Part>
      )}
      {may.look ? (
        <>
          <Part title="Who calls">
            <Callers name={baseOf(endpoint.name)} model={model} />
          </Part>
          <Part title="Put a cell into the notebook">
            <Cells endpoint={endpoint} insertCell={insertCell} />
          </Part>
          <Ownership {...{ endpoint, model, may, insertCell }} />
        </>
      ) : null}
    </div>
  );
}

function Part({ title, children }: { title: string; children: React.ReactNode }): React.JSX.Element {
  return (
    <div className="themisto-Part">
      <h3>{title}</h3>
      {children}
    </div>
  );
}

function Fallback(props: { endpoint: Endpoint; number: number; model: Workbench }): React.JSX.Element {
  const { endpoint, number, model } = props;
  const fetch = React.useCallback(() => model.api.release(endpoint.name, number), [model, endpoint.name, number]);
  const known = useFetched<Release>(fetch);
  if (known.state === 'failed') {
    return <ProblemNotice problem={known.problem} />;
  }
  if (known.state !== 'ready') {
    return <span className="themisto-Faint">Loading…</span>;
  }
  const { line, declared, afterMs } = fallbacksOf(known.value);
  return (
    <>
      <span>{line}</span>
      {declared === null ? null : <code className="themisto-Code">{declared}</code>}
      {afterMs === null ? null : <span className="themisto-Faint">each after {afterMs} ms</span>}
    </>
  );
}
