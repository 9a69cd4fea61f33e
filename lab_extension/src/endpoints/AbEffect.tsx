/** What a split of the traffic has done to a metric that the log itself holds. */
import * as React from 'react';

import type { Arm, Effect, Endpoint, Release } from '../api/types';
import { differenceInWords, intervalInWords, metricsOf, number, placesOf } from '../model/comparing';
import { shortTitle } from '../model/predictions';
import type { Workbench } from '../model/workbench';
import { useAsked, useFetched } from '../ui/hooks';
import { Notice, ProblemNotice } from '../ui/parts';

export function AbEffect(props: { endpoint: Endpoint; number: number; model: Workbench }): React.JSX.Element {
  const { endpoint, number: release, model } = props;
  const fetch = React.useCallback(() => model.api.release(endpoint.name, release), [model, endpoint.name, release]);
  const known = useFetched<Release>(fetch);
  const [metric, setMetric] = React.useState('latency_ms');
  return (
    <>
      <select
        className="themisto-Select"
        aria-label={`Metric by which the releases of ${endpoint.name} are compared`}
        value={metric}
        onChange={event => setMetric(event.target.value)}
      >
        {metricsOf(known.state === 'ready' ? known.value : null).map(({ name, label }) => (
          <option key={name} value={name}>
            {label}
          </option>
        ))}
      </select>
      <Asked key={metric} {...{ name: endpoint.name, metric, model }} />
      <p className="themisto-Faint">
        A metric of your own, such as who bought, is in a DataFrame: the A/B cell below takes it.
      </p>
    </>
  );
}

function Asked({ name, metric, model }: { name: string; metric: string; model: Workbench }): React.JSX.Element {
  const { known, ask } = useAsked(() => model.api.effect(name, metric));
  return (
    <>
      {known?.state === 'loading' ? <p className="themisto-Faint" role="status">Comparing…</p> : null}
      {known?.state === 'ready' ? <Found effect={known.value} /> : null}
      {known?.state === 'failed' ? <ProblemNotice problem={known.problem} /> : null}
      <button
        className="jp-mod-styled themisto-Button themisto-mod-small"
        disabled={known?.state === 'loading'}
        aria-label={`Compare the releases of ${name} by ${metric}`}
        onClick={ask}
      >
        {known === null ? 'Compare' : 'Compare again'}
      </button>
    </>
  );
}

function Found({ effect }: { effect: Effect }): React.JSX.Element {
  const { treatment, control, caution, uneven } = effect;
  const [first, ...rest] = [caution, ...effect.notes].filter(Boolean);
  return (
    <>
      <p role="status">
        <b>{differenceInWords(effect)}</b>, {shortTitle(treatment.release)} against {shortTitle(control.release)};{' '}
        {intervalInWords(effect)}
      </p>
      <IntervalLine effect={effect} />
      <table className="themisto-Table themisto-mod-numbers">
        <thead>
          <tr>
            <th scope="col">Release</th>
            <th scope="col">Exposed</th>
            <th scope="col">Values</th>
            <th scope="col">Mean</th>
          </tr>
        </thead>
        <tbody>
          <ArmRow arm={control} />
          <ArmRow arm={treatment} />
        </tbody>
      </table>
      {uneven ? <Notice tone="bad" title="Not as configured" text={caution} /> : null}
      {first !== undefined && !uneven ? <p>{first}</p> : null}
      {rest.map(note => (
        <p key={note} className="themisto-Faint">
          {note}
        </p>
      ))}
      <p className="themisto-Faint">
        {effect.method}; counted by {effect.unit}
      </p>
    </>
  );
}

function ArmRow({ arm }: { arm: Arm }): React.JSX.Element {
  return (
    <tr>
      <th scope="row">{shortTitle(arm.release)}</th>
      <td>{arm.exposed.toLocaleString('en')}</td>
      <td>{arm.values.toLocaleString('en')}</td>
      <td>{number(arm.mean)}</td>
    </tr>
  );
}

/** The interval and the difference on a line on which 0 is marked; the words above say the same. */
function IntervalLine({ effect }: { effect: Effect }): React.JSX.Element {
  const { low, high, at, zero } = placesOf(effect);
  const percent = (place: number): string => `${100 * place}%`;
  return (
    <div className="themisto-Interval" aria-hidden="true">
      <div className="themisto-Interval-zero" style={{ left: percent(zero) }}>
        <span>0</span>
      </div>
      <div className="themisto-Interval-range" style={{ left: percent(low), width: percent(high - low) }} />
      <div className="themisto-Interval-at" style={{ left: percent(at) }} />
    </div>
  );
}
