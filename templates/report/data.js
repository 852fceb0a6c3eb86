// What stands in the page as data, and what lies in files beside it. Texts of agents only ever become text nodes.

const DATA = JSON.parse(document.getElementById('data').textContent);
const GROUPS = DATA.groups;
const COLUMN = {};
for (const [name, packed] of Object.entries(DATA.table)) {
  COLUMN[name] = packed.all || packed.at.map(at => packed.values[at]);
}
const RUNS = COLUMN.run.length;
const GRADED = COLUMN.score.map((score, run) => score !== null && ['scored', 'timed_out'].includes(COLUMN.state[run]));

const pointsOf = (() => {
  const read = [];
  return run => read[run] || (read[run] = JSON.parse(DATA.points[run]));
})();

// ---- details, loaded by a script element: a page from a disk may not fetch

const loaded = {}, waiting = {};
window.habDetails = (stamp, file, runs) => {
  if (stamp === DATA.details.stamp) loaded[file] = runs;
};

function detailsOf(run) {
  if (!DATA.details.beside) {
    loaded[0] = loaded[0] || JSON.parse(document.getElementById('details').textContent);
    return Promise.resolve(loaded[0][run]);
  }
  const file = DATA.details.files[run];
  if (!loaded[file] && !waiting[file]) {
    waiting[file] = new Promise((resolve, reject) => {
      const script = document.createElement('script');
      const name = `${DATA.details.folder}/${String(file).padStart(4, '0')}.js`;
      script.src = name.split('/').map(encodeURIComponent).join('/');
      script.onload = () => loaded[file] ? resolve() : reject(new Error(`${name} is of another report`));
      script.onerror = () => reject(new Error(`${name} can't be read: keep it beside this page`));
      document.head.append(script);
    });
  }
  return (waiting[file] || Promise.resolve()).then(() => loaded[file][run]);
}

// ---- elements and words

function element(name, attributes, ...children) {
  const found = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (typeof value === 'function') found.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false) found.setAttribute(key, value === true ? '' : value);
  }
  found.append(...children.flat().filter(child => child !== null && child !== undefined && child !== ''));
  return found;
}

const NONE = 'N/A';

function number(value, digits = 4) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e7) return value.toPrecision(digits);
  const decimals = Math.max(digits - 1 - Math.floor(Math.log10(size)), 0);
  return decimals ? value.toFixed(decimals).replace(/0+$/, '').replace(/\.$/, '') : value.toFixed(0);
}

const counted = value => value === null || value === undefined ? NONE : value.toLocaleString('en', {maximumFractionDigits: 0});
const percent = value => value === null || value === undefined ? NONE : `${(100 * value).toFixed(0)}%`;
const plural = (count, word) => `${counted(count)} ${word}${count === 1 ? '' : 's'}`;

function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 100) return `${number(seconds, 3)} s`;
  if (seconds < 6000) return `${number(seconds / 60, 3)} min`;
  return `${number(seconds / 3600, 3)} h`;
}

const clock = seconds => new Date(1000 * seconds).toISOString().slice(0, 19).replace('T', ' ') + ' UTC';

function whole(value) { // as the table of results has it
  return value === null || value === undefined ? '(empty)' : String(value);
}

const labelled = (words, control) => element('label', {}, words, control);

function chooser(words, options, chosen, changed) {
  const select = element('select', {change: () => changed(select.value)},
    options.map(([value, text]) => element('option', {value, selected: value === chosen}, text)));
  select.value = chosen;
  return labelled(words, select);
}

const TASKS = [...new Set(COLUMN.task)].sort();
