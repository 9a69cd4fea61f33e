/** Recent runs of one's groups, each a way into the tracking server. */
import * as React from 'react';

import type { Workbench } from '../model/workbench';
import { Empty, Moment, OutLink, Section, StateChip } from '../ui/parts';

export function RunsPanel({ model }: { model: Workbench }): React.JSX.Element {
  return (
    <Section title="Recent runs" known={model.runs.known}>
      {runs =>
        runs.length === 0 ? (
          <Empty>None yet. Track a cell with %%track -e EXPERIMENT.</Empty>
        ) : (
          <ul className="themisto-List">
            {runs.map(run => (
              <li key={run.run_id} className="themisto-Line">
                <div className="themisto-Line-main">
                  <OutLink href={run.url} className="themisto-Link" label={`run ${run.name} in a new tab`}>
                    {run.name}
                  </OutLink>
                  <span className="themisto-Faint">
                    {run.experiment} · {run.user} · <Moment at={run.started_at} />
                  </span>
                </div>
                <StateChip state={run.status} />
              </li>
            ))}
          </ul>
        )
      }
    </Section>
  );
}
