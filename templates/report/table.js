// The table of runs: sorted, filtered, a page at a time.

const PAGE = 50;
const SHOWN = [['run', 'run'], ['task', 'task'], ['group', 'agent / model'], ['seed', 'seed'], ['state', 'state'], ['score', 'score'], ['steps', 'steps'],
  ['agent_seconds', 'time'], ['tokens', 'tokens'], ['gpu_hours', 'GPU-hours'], ...(COLUMN.usd.some(value => value !== null) ? [['usd', 'USD']] : []), ['reason', 'reason']];
const WORDS = ['run', 'task', 'group', 'state', 'reason'];
const view = {sort: null, down: false, page: 0, text: '', task: '', group: '', state: ''};

const valueOf = (name, run) => name === 'group' ? GROUPS[COLUMN.group[run]].label : COLUMN[name][run];

function compareRuns(name, down) {
  return (a, b) => {
    const [one, other] = [valueOf(name, a), valueOf(name, b)];
    if (one === other) return a - b;
    if (one === null) return 1; // what isn't known stands last, whichever way
    if (other === null) return -1;
    const found = typeof one === 'number' && typeof other === 'number' ? one - other : String(one).localeCompare(String(other), 'en', {numeric: true});
    return down ? -found : found;
  };
}

function chosenRuns() {
  const words = view.text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [];
  for (let run = 0; run < RUNS; run++) {
    if (view.task && COLUMN.task[run] !== view.task || view.group !== '' && COLUMN.group[run] !== Number(view.group) || view.state && COLUMN.state[run] !== view.state) continue;
    if (words.length) {
      const told = SHOWN.map(([name]) => valueOf(name, run)).join(' ').toLowerCase();
      if (!words.every(word => told.includes(word))) continue;
    }
    found.push(run);
  }
  return view.sort ? found.sort(compareRuns(view.sort, view.down)) : found;
}

function cellOf(name, run) {
  const value = valueOf(name, run);
  if (name === 'run') return element('th', {scope: 'row'}, element('button', {type: 'button', class: 'link', click: () => showRun(run)}, value));
  const text = value === null ? '' : name === 'agent_seconds' ? duration(value) : name === 'tokens' || name === 'steps' ? counted(value)
    : typeof value === 'number' ? number(value, name === 'score' ? 6 : 4) : value;
  return element('td', {class: name === 'reason' ? 'reason' : WORDS.includes(name) ? 'words' : null, title: typeof value === 'number' ? String(value) : null}, text);
}

function drawTable() {
  const table = document.getElementById('table'), runs = chosenRuns(), pages = Math.max(1, Math.ceil(runs.length / PAGE));
  view.page = Math.min(view.page, pages - 1);
  if (!table.tHead) {
    table.append(element('thead', {}, element('tr', {}, SHOWN.map(([name, words]) => element('th', {scope: 'col', class: WORDS.includes(name) ? 'words' : null, 'data-column': name},
      element('button', {type: 'button', click: () => sortBy(name)}, words))))), element('tbody', {}));
  }
  for (const th of table.tHead.rows[0].cells) {
    if (th.dataset.column === view.sort) th.setAttribute('aria-sort', view.down ? 'descending' : 'ascending');
    else th.removeAttribute('aria-sort');
  }
  const shown = runs.slice(view.page * PAGE, (view.page + 1) * PAGE);
  table.tBodies[0].replaceChildren(...shown.map(run => element('tr', {'data-run': run, class: run === chosenRun ? 'chosen' : null}, SHOWN.map(([name]) => cellOf(name, run)))));
  document.getElementById('count').textContent = `${plural(runs.length, 'run')} of ${counted(RUNS)}` + (pages > 1 ? `, page ${view.page + 1} of ${pages}` : '');
  const turn = (by, words) => element('button', {type: 'button', disabled: view.page + by < 0 || view.page + by >= pages, click: () => { view.page += by; drawTable(); }}, words);
  document.getElementById('pager').replaceChildren(...(pages > 1 ? [turn(-1, 'previous page'), turn(1, 'next page')] : []));
}

function sortBy(name) {
  view.down = view.sort === name ? !view.down : false;
  view.sort = name;
  view.page = 0;
  drawTable();
}

function filters() {
  const place = document.getElementById('filters');
  const changed = key => value => { view[key] = value; view.page = 0; drawTable(); };
  const input = element('input', {type: 'search', input: () => changed('text')(input.value)});
  const any = (words, options) => [['', words], ...options];
  place.replaceChildren(labelled('words', input),
    chooser('task', any('all tasks', TASKS.map(task => [task, task])), view.task, changed('task')),
    chooser('agent / model', any('all', GROUPS.map((group, at) => [String(at), group.label])), view.group, changed('group')),
    chooser('state', any('all states', [...new Set(COLUMN.state)].sort().map(state => [state, state])), view.state, changed('state')),
    element('button', {type: 'button', click: () => { Object.assign(view, {text: '', task: '', group: '', state: '', page: 0, sort: null}); filters(); drawTable(); }}, 'show all'));
  input.value = view.text;
}

// The runs that a number is made of.
function showCell(task, group) {
  Object.assign(view, {text: '', task, group: String(group), state: '', page: 0});
  filters();
  drawTable();
  document.getElementById('runs-title').scrollIntoView();
}

// ---- each task with each model

function cellsTable(place) {
  const head = ['task', 'agent / model', 'asked', 'graded', 'failed', 'metric', 'mean', '95% interval', 'success', 'GPU-hours a graded run', 'runs'];
  const rows = DATA.cells.map(cell => element('tr', {}, element('th', {scope: 'row'}, cell.task), element('td', {class: 'words'}, GROUPS[cell.group].label),
    [cell.asked, cell.graded, cell.failed].map(count => element('td', {}, counted(count))), element('td', {class: 'words'}, cell.metric),
    element('td', {title: whole(cell.value)}, number(cell.value)), element('td', {}, cell.low === null ? NONE : `${number(cell.low)} to ${number(cell.high)}`),
    element('td', {}, cell.rates.success[0] === null ? NONE : `${percent(cell.rates.success[0])} [${percent(cell.rates.success[1])}, ${percent(cell.rates.success[2])}] of ${cell.rates.success[3]}`),
    element('td', {}, number(cell.gpu_hours_each, 3)),
    element('td', {}, element('button', {type: 'button', class: 'link', 'aria-label': `runs of ${cell.task} with ${GROUPS[cell.group].label}`, click: () => showCell(cell.task, cell.group)}, 'its runs'))));
  place.replaceChildren(element('div', {class: 'scroll', role: 'region', 'aria-label': 'Each task with each model', tabindex: 0},
    element('table', {}, element('thead', {}, element('tr', {}, head.map(word => element('th', {scope: 'col', class: ['task', 'agent / model', 'metric'].includes(word) ? 'words' : null}, word)))), element('tbody', {}, rows))));
}
