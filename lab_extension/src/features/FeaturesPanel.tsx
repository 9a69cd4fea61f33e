/** Feature views of one's groups: whose they are, who reads them, and how fresh they are. */
import * as React from 'react';

import type { Workbench } from '../model/workbench';
import { Empty, Section } from '../ui/parts';
import { ViewCard } from './ViewCard';

export function FeaturesPanel({ model }: { model: Workbench }): React.JSX.Element {
  return (
    <Section title="Features" known={model.views.known} count={model.views.value?.length}>
      {views =>
        views.length === 0 ? (
          <Empty>None yet. Register a FeatureView with %features apply VIEW.</Empty>
        ) : (
          <ul className="themisto-List">
            {views.map(view => (
              <ViewCard key={`${view.group}/${view.name}`} view={view} api={model.api} />
            ))}
          </ul>
        )
      }
    </Section>
  );
}
