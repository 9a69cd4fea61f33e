/** The newest requests of an endpoint: looked at when asked for, since each look is a line in the audit chain. */
import * as React from 'react';

import type { Endpoint, Prediction } from '../api/types';
import {
  isGood,
  type LogQuestion,
  milliseconds,
  MOST,
  reasonOf,
  releasesOf,
  shortTitle,
  statusInWords,
  steppedAside
} from '../model/predictions';
import type { Workbench } from '../model/workbench';
import { useNow, usePages } from '../ui/hooks';
import { Chip, Clock, ProblemNotice } from '../ui/parts';

const ALL: LogQuestion = { about: null, only: '' };

export function PredictionLog({ endpoint, model }: { endpoint: Endpoint; model: Workbench }): React.JSX.Element {
  const { name } = endpoint;
  const [question, setQuestion] = React.useState<LogQuestion>(ALL);
  const [look, setLook] = React.useState(0);
  const choose = (chosen: Partial<LogQuestion>): void => setQuestion({ ...question, ...chosen });
  const looked = look > 0;
  // One button that changes its words: who pressed it by keyboard stays on it.
  return (
    <div className="themisto-Log">
      <div className="themisto-Row">
        {looked ? <Filters {...{ endpoint, question, choose }} /> : null}
        <button
          className="jp-mod-styled themisto-Button themisto-mod-small"
          aria-label={looked ? `Look again at the newest requests of ${name}` : `Show the newest requests of ${name}`}
          onClick={() => setLook(look + 1)}
        >
          {looked ? 'Look again' : 'Show'}
        </button>
      </div>
      {looked ? <Rows key={`${look} ${question.about} ${question.only}`} {...{ name, question, model }} /> : null}
    </div>
  );
}

function Filters(props: {
  endpoint: Endpoint;
  question: LogQuestion;
  choose: (chosen: Partial<LogQuestion>) => void;
}): React.JSX.Element {
  const { endpoint, question, choose } = props;
  return (
    <>
      <select
        className="themisto-Select"
        aria-label={`Release whose requests are shown, ${endpoint.name}`}
        value={question.about ?? ''}
        onChange={event => choose({ about: event.target.value === '' ? null : Number(event.target.value) })}
      >
        <option value="">all releases</option>
        {releasesOf(endpoint).map(number => (
          <option key={number} value={number}>
            @{number}
          </option>
        ))}
      </select>
      <select
        className="themisto-Select"
        aria-label={`Which requests are shown, ${endpoint.name}`}
        value={question.only}
        onChange={event => choose({ only: event.target.value as LogQuestion['only'] })}
      >
        <option value="">all requests</option>
        <option value="failures">only failures</option>
        <option value="fallbacks">only fallbacks</option>
      </select>
    </>
  );
}

function Rows(props: { name: string; question: LogQuestion; model: Workbench }): React.JSX.Element {
  const { name, question, model } = props;
  const fetch = React.useCallback(
    (after: string | null) => model.api.log(name, question, after),
    [model, name, question]
  );
  const { rows, next, busy, problem, more } = usePages(fetch);
  const filtered = question.about !== null || question.only !== '';
  return (
    <>
      <p className="themisto-Faint" role="status">
        {busy ? 'Loading…' : rows === null ? '' : rows.length === 0 ? nothing(filtered) : told(rows.length)}
      </p>
      {rows === null || rows.length === 0 ? null : <LogTable name={name} rows={rows} />}
      {problem === null ? null : <ProblemNotice problem={problem} />}
      {next === null || rows === null ? null : rows.length >= MOST ? (
        <p className="themisto-Faint">Further back the log is read from a notebook: the Log cell below.</p>
      ) : (
        <button
          className="jp-mod-styled themisto-Button themisto-mod-small"
          disabled={busy}
          aria-label={`Older requests of ${name}`}
          onClick={more}
        >
          Older
        </button>
      )}
    </>
  );
}

function nothing(filtered: boolean): string {
  return filtered ? 'The log holds no such request.' : 'Nobody has called yet. A request is here some two seconds later.';
}

function told(count: number): string {
  return count === 1 ? 'One request.' : `${count} requests, the newest first.`;
}

const COLUMNS = ['Time', 'Release', 'Latency', 'Status', 'Chosen', 'Fallback', 'Caller', 'Request', 'Why'] as const;

/** A table where there is room, some lines a request where there is none: so roles are said, whatever CSS makes of it. */
function LogTable({ name, rows }: { name: string; rows: readonly Prediction[] }): React.JSX.Element {
  const now = useNow();
  return (
    <table className="themisto-Table themisto-LogTable" role="table" aria-label={`Newest requests of ${name}`}>
      <thead role="rowgroup">
        <tr role="row">
          {COLUMNS.map(title => (
            <th key={title} role="columnheader" scope="col">
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row, at) => (
          <LogRow key={`${at} ${row.request_id ?? ''}`} row={row} now={now} />
        ))}
      </tbody>
    </table>
  );
}

function LogRow({ row, now }: { row: Prediction; now: number }): React.JSX.Element {
  const bad = !isGood(row);
  const cells: Record<(typeof COLUMNS)[number], React.ReactNode> = {
    Time: <Clock at={row.time} now={now} />,
    Release: row.release ? shortTitle(row.release) : 'none',
    Latency: milliseconds(row.latency_ms),
    Status: <Chip tone={bad ? 'bad' : 'good'}>{statusInWords(row)}</Chip>,
    Chosen: steppedAside(row),
    Fallback: row.fallback ?? null,
    Caller: row.caller ?? 'unknown',
    Request: (
      <>
        {row.request_id}
        {row.trace_id ? <div className="themisto-Faint">trace {row.trace_id}</div> : null}
      </>
    ),
    Why: bad || row.fallback ? reasonOf(row) : null
  };
  return (
    <tr role="row" className={bad ? 'themisto-mod-bad' : row.fallback ? 'themisto-mod-warn' : undefined}>
      {COLUMNS.map(title => (
        <td key={title} role="cell" className={`themisto-Log-${title.toLowerCase()}`}>
          {cells[title]}
        </td>
      ))}
    </tr>
  );
}
