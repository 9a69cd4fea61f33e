/** What a shadow would have answered beside what callers got: agreement, latency, and the rows that differ most. */
import * as React from 'react';

import type { Agreement, Apart, Times } from '../api/types';
import { agreementInWords, gapsOf, number } from '../model/comparing';
import { milliseconds, shortTitle } from '../model/predictions';
import type { Workbench } from '../model/workbench';
import { useAsked } from '../ui/hooks';
import { ProblemNotice } from '../ui/parts';

export function ShadowComparison({ name, model }: { name: string; model: Workbench }): React.JSX.Element {
  const { known, ask } = useAsked(() => model.api.shadow(name));
  return (
    <>
      {known?.state === 'loading' ? <p className="themisto-Faint" role="status">Comparing…</p> : null}
      {known?.state === 'ready' ? <Compared found={known.value} /> : null}
      {known?.state === 'failed' ? <ProblemNotice problem={known.problem} /> : null}
      <button
        className="jp-mod-styled themisto-Button themisto-mod-small"
        disabled={known?.state === 'loading'}
        aria-label={`Compare the shadow of ${name}`}
        onClick={ask}
      >
        {known === null ? 'Compare' : 'Compare again'}
      </button>
    </>
  );
}

function Compared({ found }: { found: Agreement }): React.JSX.Element {
  const beside = found.beside.map(shortTitle).join(', ');
  return (
    <>
      <p role="status">
        <b>{agreementInWords(found)}</b>, {shortTitle(found.release)} beside {beside}
        {found.largest === null ? '' : `; largest difference ${number(found.largest)}`}.
      </p>
      {found.failed > 0 ? <p>The shadow failed in {found.failed.toLocaleString('en')} of them.</p> : null}
      {found.alone > 0 ? (
        <p className="themisto-Faint">
          {found.alone.toLocaleString('en')} answers of the shadow have no caller’s answer beside them.
        </p>
      ) : null}
      <table className="themisto-Table themisto-mod-numbers">
        <thead>
          <tr>
            <th scope="col">Latency</th>
            <th scope="col">Callers {beside}</th>
            <th scope="col">Shadow {shortTitle(found.release)}</th>
          </tr>
        </thead>
        <tbody>
          <Latency name="p50" of="p50_ms" {...found} />
          <Latency name="p99" of="p99_ms" {...found} />
        </tbody>
      </table>
      {found.apart.length === 0 ? null : <Apartness rows={found.apart} />}
    </>
  );
}

function Latency(props: { name: string; of: keyof Times; latency: Times; latency_shadow: Times }): React.JSX.Element {
  return (
    <tr>
      <th scope="row">{props.name}</th>
      <td>{milliseconds(props.latency[props.of])}</td>
      <td>{milliseconds(props.latency_shadow[props.of])}</td>
    </tr>
  );
}

function Apartness({ rows }: { rows: readonly Apart[] }): React.JSX.Element {
  return (
    <table className="themisto-Table themisto-Apart">
      <caption>Rows that differ most</caption>
      <thead>
        <tr>
          <th scope="col">Request, row</th>
          <th scope="col">Callers got</th>
          <th scope="col">Shadow</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(row => (
          <tr key={`${row.request_id} ${row.row}`}>
            <td>
              {row.request_id}, {row.row}
            </td>
            <Values gaps={gapsOf(row).map(({ output, ours }) => [output, ours])} />
            <Values gaps={gapsOf(row).map(({ output, shadow }) => [output, shadow])} />
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Values({ gaps }: { gaps: [string, string][] }): React.JSX.Element {
  return (
    <td>
      {gaps.map(([output, value]) => (
        <div key={output}>
          <span className="themisto-Faint">{output}</span> {value}
        </div>
      ))}
    </td>
  );
}
