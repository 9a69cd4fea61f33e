/** A view's features with the spread of their values. */
import * as React from 'react';

import type { FeatureSketch, Sketch } from '../api/types';
import { bars, inWords } from '../model/sketches';

const WIDTH = 64;
const HEIGHT = 18;

export function SketchTable({ sketch }: { sketch: Sketch }): React.JSX.Element {
  return (
    <table className="themisto-Table themisto-Sketches">
      <tbody>
        {sketch.features.map(feature => (
          <tr key={feature.name}>
            <th scope="row">
              {feature.name}
              <div className="themisto-Faint">{feature.dtype}</div>
            </th>
            <td>
              <Bars feature={feature} />
              <div className="themisto-Faint">{inWords(feature, sketch.rows)}</div>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The words below say the same: it is not read out. */
function Bars({ feature }: { feature: FeatureSketch }): React.JSX.Element | null {
  if (feature.bins.length === 0) {
    return null;
  }
  const step = WIDTH / feature.bins.length;
  return (
    <svg className="themisto-Bars" width={WIDTH} height={HEIGHT} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">
      {bars(feature.bins, WIDTH, HEIGHT).map(({ x, y, height }) => (
        <rect key={x} x={x} y={y} width={Math.max(1, step - 1)} height={height} />
      ))}
    </svg>
  );
}
