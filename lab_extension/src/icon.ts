/** The sidebar's icon: a planet with its small moon (Themisto is one of Jupiter's). */
import { LabIcon } from '@jupyterlab/ui-components';

const SVG = `<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24">
  <g class="jp-icon3" stroke="#616161" stroke-width="1.6" stroke-linecap="round">
    <path fill="none" d="M5.6 14.2C3.3 16.3 2.2 18 2.8 18.9c1.1 1.7 6.7-.3 12.2-4.3 4.4-3.2 7.1-6.6 6.5-8.1"/>
  </g>
  <g class="jp-icon3" fill="#616161">
    <circle cx="11" cy="12" r="5.6"/>
    <circle cx="20" cy="4.4" r="2.2"/>
  </g>
</svg>`;

export const themistoIcon = new LabIcon({ name: 'themisto-lab:planet', svgstr: SVG });
