/** Schedules: when each runs next, how it went last, and the way to the cell that failed. */
import * as React from 'react';

import type { Job } from '../api/types';
import type { Workbench } from '../model/workbench';
import { Empty, Section } from '../ui/parts';
import { ScheduleCard } from './ScheduleCard';

export function SchedulesPanel(props: {
  model: Workbench;
  openJob: (job: Job) => Promise<void>;
}): React.JSX.Element {
  const { model, openJob } = props;
  return (
    <Section title="Schedules" known={model.schedules.known} count={model.schedules.value?.length}>
      {schedules =>
        schedules.length === 0 ? (
          <Empty>None yet. Schedule a notebook with %schedule NOTEBOOK --cron &quot;0 2 * * *&quot;.</Empty>
        ) : (
          <ul className="themisto-List">
            {schedules.map(schedule => (
              <ScheduleCard key={schedule.name} schedule={schedule} model={model} openJob={openJob} />
            ))}
          </ul>
        )
      }
    </Section>
  );
}
