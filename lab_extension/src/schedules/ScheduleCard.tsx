/** One schedule and its last job. */
import * as React from 'react';

import type { Job, Schedule } from '../api/types';
import type { Workbench } from '../model/workbench';
import { useAction } from '../ui/hooks';
import { Chip, Moment, Notice, ProblemNotice, StateChip } from '../ui/parts';
import { OUTPUT } from './failure';

export function ScheduleCard(props: {
  schedule: Schedule;
  model: Workbench;
  openJob: (job: Job) => Promise<void>;
}): React.JSX.Element {
  const { schedule, model, openJob } = props;
  const { busy, problem, run } = useAction();
  const job = schedule.last_job ?? null;
  const who = model.who.value;
  const maySchedule = who !== null && who.scopes.includes('schedule') && who.groups.includes(schedule.group);
  return (
    <li className="themisto-Card" aria-label={`schedule ${schedule.name}`}>
      <header className="themisto-Card-head">
        <strong className="themisto-Card-name">{schedule.name}</strong>
        {schedule.paused ? <Chip tone="warn">paused</Chip> : null}
      </header>
      <span className="themisto-Faint">
        <code>{schedule.cron}</code> {schedule.tz} · {schedule.profile}
        {schedule.next_run_at && !schedule.paused ? (
          <>
            {' '}
            · next <Moment at={schedule.next_run_at} />
          </>
        ) : null}
      </span>
      {schedule.paused && schedule.paused_reason ? <Notice tone="warn" title={schedule.paused_reason} /> : null}
      {job === null ? (
        <span className="themisto-Faint">Not run yet.</span>
      ) : (
        <LastJob job={job} busy={busy} open={() => run(() => openJob(job))} />
      )}
      {maySchedule ? (
        <div className="themisto-Row">
          <ScheduleButton verb="run" label="Run now" {...{ schedule, model, busy, run }} />
          {schedule.paused ? (
            <ScheduleButton verb="resume" label="Resume" {...{ schedule, model, busy, run }} />
          ) : (
            <ScheduleButton verb="pause" label="Pause" {...{ schedule, model, busy, run }} />
          )}
        </div>
      ) : null}
      {problem === null ? null : <ProblemNotice problem={problem} />}
    </li>
  );
}

function ScheduleButton(props: {
  verb: 'run' | 'pause' | 'resume';
  label: string;
  schedule: Schedule;
  model: Workbench;
  busy: boolean;
  run: (work: () => Promise<void>) => void;
}): React.JSX.Element {
  const { verb, label, schedule, model, busy, run } = props;
  return (
    <button
      className="jp-mod-styled themisto-Button"
      disabled={busy}
      aria-label={`${label}: ${schedule.name}`}
      onClick={() => run(() => model.setSchedule(schedule, verb))}
    >
      {label}
    </button>
  );
}

function LastJob({ job, busy, open }: { job: Job; busy: boolean; open: () => void }): React.JSX.Element {
  const parameters = Object.entries(job.parameters);
  const failed = job.state === 'failed';
  return (
    <div className="themisto-Rollout">
      <span className="themisto-Row">
        <StateChip state={job.state} />
        <span className="themisto-Faint">
          <Moment at={job.ended_at ?? job.started_at ?? job.due_at} />
          {job.attempt > 1 ? `, try ${job.attempt}` : ''}
        </span>
      </span>
      {job.message ? <span className="themisto-Message">{job.message}</span> : null}
      {failed && parameters.length > 0 ? (
        <span className="themisto-Faint">
          with {parameters.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(', ')}
        </span>
      ) : null}
      {job.outputs.includes(OUTPUT) ? (
        <button
          className={`jp-mod-styled themisto-Button ${failed ? 'jp-mod-accept' : ''}`}
          disabled={busy}
          aria-label={`Open the ${failed ? 'failing cell' : 'output'} of ${job.schedule}`}
          onClick={open}
        >
          {failed ? 'Open failing cell' : 'Open output'}
        </button>
      ) : null}
    </div>
  );
}
