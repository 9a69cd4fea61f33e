/** Who calls which version of a name, looked up when asked for: each look is a line in the audit chain. */
import * as React from 'react';

import type { EndpointCaller } from '../api/types';
import type { Workbench } from '../model/workbench';
import { useAsked } from '../ui/hooks';
import { Moment, ProblemNotice } from '../ui/parts';

export function Callers({ name, model }: { name: string; model: Workbench }): React.JSX.Element {
  const { known, ask } = useAsked(() => model.api.callers(name));
  return (
    <>
      {known?.state === 'ready' ? <CallersTable callers={known.value} /> : null}
      {known?.state === 'failed' ? <ProblemNotice problem={known.problem} /> : null}
      <button
        className="jp-mod-styled themisto-Button themisto-mod-small"
        disabled={known?.state === 'loading'}
        aria-label={`Who calls ${name}`}
        onClick={ask}
      >
        {known === null ? 'Show' : 'Look again'}
      </button>
    </>
  );
}

function CallersTable({ callers }: { callers: readonly EndpointCaller[] }): React.JSX.Element {
  if (callers.length === 0) {
    return <p className="themisto-Faint">Nobody called in the last 30 days.</p>;
  }
  return (
    <table className="themisto-Table themisto-mod-numbers">
      <thead>
        <tr>
          <th scope="col">Caller</th>
          <th scope="col">Answers</th>
          <th scope="col">Last</th>
        </tr>
      </thead>
      <tbody>
        {callers.map(({ caller, endpoint, version, count, last }) => (
          <tr key={`${endpoint} ${caller}`}>
            <td>
              {caller} <span className="themisto-Faint">v{version}</span>
            </td>
            <td>{count.toLocaleString('en')}</td>
            <td>
              <Moment at={last} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
