/** The plug-in: the model for whoever asks, the sidebar, its settings and one command. */
import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { ServerConnection } from '@jupyterlab/services';
import { ISettingRegistry } from '@jupyterlab/settingregistry';

import { ControlPlane } from './api/client';
import { Workbench } from './model/workbench';
import { insertCell } from './notebook/insertCell';
import { openJob } from './schedules/openJob';
import { SidebarWidget } from './sidebar/SidebarWidget';
import { IWorkbench } from './tokens';

const PLUGIN = 'themisto-lab:plugin';
const SHOW = 'themisto:show';

const plugin: JupyterFrontEndPlugin<IWorkbench> = {
  id: PLUGIN,
  description: 'Endpoints, schedules and runs of the themisto workbench beside the notebook.',
  autoStart: true,
  provides: IWorkbench,
  optional: [ILayoutRestorer, ICommandPalette, ISettingRegistry],
  activate: (
    app: JupyterFrontEnd,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    registry: ISettingRegistry | null
  ): IWorkbench => {
    const { commands, serviceManager, shell } = app;
    const api = new ControlPlane(sender(serviceManager.serverSettings));
    const model = new Workbench(api);
    const sidebar = new SidebarWidget(
      model,
      job => openJob(api, serviceManager.contents, commands, job),
      source => insertCell(app, source)
    );
    shell.add(sidebar, 'left', { rank: 350, type: 'themisto' });
    restorer?.add(sidebar, sidebar.id);

    commands.addCommand(SHOW, {
      label: 'Show the themisto panel',
      caption: 'Endpoints, schedules and runs of the workbench',
      execute: () => shell.activateById(sidebar.id)
    });
    palette?.addItem({ command: SHOW, category: 'themisto' });
    void follow(registry, model);
    return model;
  }
};

/** Requests to the forwarding handler, with the person's login and XSRF token. */
function sender(settings: ServerConnection.ISettings): ConstructorParameters<typeof ControlPlane>[0] {
  const base = `${settings.baseUrl}themisto/api/`;
  return (path, init) => ServerConnection.makeRequest(base + path, { cache: 'default', ...init }, settings);
}

/** Keep the model's options as Lab's settings say. */
async function follow(registry: ISettingRegistry | null, model: Workbench): Promise<void> {
  try {
    const settings = await registry?.load(PLUGIN);
    const apply = (): void => {
      const { pollSeconds, runs } = settings?.composite ?? {};
      model.options = {
        pollSeconds: typeof pollSeconds === 'number' ? pollSeconds : model.options.pollSeconds,
        runs: typeof runs === 'number' ? runs : model.options.runs
      };
    };
    settings?.changed.connect(apply);
    apply();
  } catch (error) {
    console.warn('themisto: its settings could not be read, defaults are used', error);
  }
}

export default plugin;
export { IWorkbench };
