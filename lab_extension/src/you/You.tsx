/** You: on which profile this server runs, for which groups, and what they used this month. */
import * as React from 'react';

import type { BudgetLine, Discovery } from '../api/types';
import type { Workbench } from '../model/workbench';
import { Chip, Empty, Notice, Section } from '../ui/parts';

export function You({ model }: { model: Workbench }): React.JSX.Element {
  const lines = model.budget.value;
  return (
    <Section title="You" known={model.who.known}>
      {who => (
        <>
          <dl className="themisto-Facts">
            <dt>Name</dt>
            <dd>{who.name}</dd>
            {who.profile ? (
              <>
                <dt>Profile</dt>
                <dd>{who.profile}</dd>
              </>
            ) : null}
            <dt>Groups</dt>
            <dd className="themisto-Row">
              {who.groups.length > 0 ? who.groups.map(group => <Chip key={group}>{group}</Chip>) : 'none'}
            </dd>
          </dl>
          {lines === null ? null : <Budget lines={lines} />}
        </>
      )}
    </Section>
  );
}

/** Told truly: where users are not isolated, every panel says so. */
export function IsolationBanner({ discovery }: { discovery: Discovery | null }): React.JSX.Element | null {
  if (discovery?.isolation !== 'none') {
    return null;
  }
  return (
    <Notice
      tone="warn"
      title="No isolation, limits advisory"
      text="All people on this machine are one trust domain."
    />
  );
}

function Budget({ lines }: { lines: readonly BudgetLine[] }): React.JSX.Element {
  if (lines.length === 0) {
    return <Empty>Nothing used this month.</Empty>;
  }
  const total = lines.reduce((sum, line) => sum + Number(line.cost), 0);
  return (
    <table className="themisto-Table">
      <caption>Used this month</caption>
      <thead>
        <tr>
          <th scope="col">Group</th>
          <th scope="col">Profile</th>
          <th scope="col">Hours</th>
          <th scope="col">Cost</th>
        </tr>
      </thead>
      <tbody>
        {lines.map(line => (
          <tr key={`${line.group}/${line.profile}`}>
            <td>{line.group}</td>
            <td>{line.profile}</td>
            <td>{line.hours.toFixed(1)}</td>
            <td>{Number(line.cost).toFixed(2)}</td>
          </tr>
        ))}
      </tbody>
      {lines.length > 1 ? (
        <tfoot>
          <tr>
            <th scope="row" colSpan={3}>
              Together
            </th>
            <td>{total.toFixed(2)}</td>
          </tr>
        </tfoot>
      ) : null}
    </table>
  );
}
