/** The sidebar: its head, and the sections one below the other. */
import { refreshIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { Job } from '../api/types';
import { ConnectionLine, ConnectionNotice } from '../connection/ConnectionLine';
import type { InsertCell } from '../endpoints/Cells';
import { EndpointsPanel } from '../endpoints/EndpointsPanel';
import { FeaturesPanel } from '../features/FeaturesPanel';
import type { Workbench } from '../model/workbench';
import { RunsPanel } from '../runs/RunsPanel';
import { SchedulesPanel } from '../schedules/SchedulesPanel';
import { Guard } from '../ui/Guard';
import { useWorkbench } from '../ui/hooks';
import { IsolationBanner, You } from '../you/You';

export function Sidebar(props: {
  model: Workbench;
  openJob: (job: Job) => Promise<void>;
  insertCell: InsertCell;
}): React.JSX.Element {
  const { model, openJob, insertCell } = props;
  useWorkbench(model);
  const { connection } = model;
  const down = connection.state === 'offline' || connection.state === 'alone';
  const empty = model.who.value === null;
  return (
    <>
      <header className="themisto-Head">
        <h1>themisto</h1>
        <ConnectionLine connection={connection} />
        <button
          className="themisto-IconButton"
          title="Refresh"
          aria-label="Refresh the themisto panel"
          onClick={() => void model.refresh()}
        >
          <refreshIcon.react tag="span" stylesheet="toolbarButton" />
        </button>
      </header>
      <div className="themisto-Body">
        <ConnectionNotice connection={connection} />
        <IsolationBanner discovery={model.discovery.value} />
        {down && empty ? null : (
          <>
            <Guard title="Your profile">
              <You model={model} />
            </Guard>
            <Guard title="Endpoints">
              <EndpointsPanel model={model} insertCell={insertCell} />
            </Guard>
            <Guard title="Features">
              <FeaturesPanel model={model} />
            </Guard>
            <Guard title="Schedules">
              <SchedulesPanel model={model} openJob={openJob} />
            </Guard>
            <Guard title="Recent runs">
              <RunsPanel model={model} />
            </Guard>
          </>
        )}
      </div>
    </>
  );
}
