/** Which release answers how much. */
import * as React from 'react';

import type { Endpoint } from '../api/types';

export function Traffic({ endpoint }: { endpoint: Endpoint }): React.JSX.Element {
  const { stable, candidate, strategy } = endpoint;
  if (!stable && !candidate) {
    return <p className="themisto-Faint">{endpoint.retired ? 'Nothing answers any more.' : 'Nothing answers yet.'}</p>;
  }
  const weight = candidate ? endpoint.weight_pct : 0;
  return (
    <>
      <dl className="themisto-Releases">
        {stable ? <Share name={`@${stable}`} role="stable" percent={100 - weight} /> : null}
        {candidate ? <Share name={`@${candidate}`} role={strategy ?? 'candidate'} percent={weight} /> : null}
      </dl>
      {candidate && strategy !== 'shadow' ? (
        <div className="themisto-Bar" aria-hidden="true">
          <div style={{ width: `${weight}%` }} />
        </div>
      ) : null}
    </>
  );
}

function Share({ name, role, percent }: { name: string; role: string; percent: number }): React.JSX.Element {
  return (
    <div>
      <dt>
        {name} <span className="themisto-Faint">{role}</span>
      </dt>
      <dd>{role === 'shadow' ? 'copies only' : `${percent} %`}</dd>
    </div>
  );
}
