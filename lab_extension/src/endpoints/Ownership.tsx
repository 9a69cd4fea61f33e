/** What ends or hands over a name: rare, asked twice, never next to what is done every day. */
import * as React from 'react';

import type { Endpoint } from '../api/types';
import { Problem } from '../api/problem';
import type { Allowed } from '../model/endpoints';
import { baseOf } from '../model/families';
import type { Workbench } from '../model/workbench';
import { transferCell } from '../notebook/cells';
import { useAction } from '../ui/hooks';
import { ProblemNotice } from '../ui/parts';
import type { InsertCell } from './Cells';
import { confirmForce, confirmRetire } from './confirm';

export function Ownership(props: {
  endpoint: Endpoint;
  model: Workbench;
  may: Allowed;
  insertCell: InsertCell;
}): React.JSX.Element {
  const { endpoint, model, may, insertCell } = props;
  const { busy, problem, run } = useAction();
  const transfer = transferCell(baseOf(endpoint.name));
  return (
    <>
      <div className="themisto-Row">
        {transfer === null ? null : (
          <button
            className="jp-mod-styled themisto-Button themisto-mod-small"
            disabled={busy}
            title={`Offer the name and its versions to another group\n${transfer}`}
            aria-label={`Insert a cell, Hand over: offer ${baseOf(endpoint.name)} to another group`}
            onClick={() => run(() => insertCell(transfer))}
          >
            Hand over…
          </button>
        )}
        {may.retire ? (
          <button
            className="jp-mod-styled themisto-Button themisto-mod-small"
            disabled={busy}
            aria-label={`Retire ${endpoint.name}`}
            onClick={() => run(() => retire(endpoint, model))}
          >
            Retire…
          </button>
        ) : null}
      </div>
      {problem === null ? null : <ProblemNotice problem={problem} />}
    </>
  );
}

/** Ask, and where somebody still calls, name them and ask again. */
async function retire(endpoint: Endpoint, model: Workbench): Promise<void> {
  if (!(await confirmRetire(endpoint))) {
    return;
  }
  try {
    await model.retire(endpoint, false);
  } catch (error) {
    // Only the control plane knows whether force helps against what it refused: then it says so.
    if (!(error instanceof Problem) || !error.remedy.includes('--force')) {
      throw error;
    }
    if (await confirmForce(endpoint, error)) {
      await model.retire(endpoint, true);
    }
  }
}
