// One run: its values with where they are from, its solutions as a tree, the changes of each to its parent.

let chosenRun = null;
const MOST_CELLS = 4e6, CONTEXT = 3;

// ---- lines that differ: by the longest common subsequence, between what is the same at both ends

function changes(before, after) {
  const a = before.split('\n'), b = after.split('\n');
  let head = 0, tail = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const [old, young] = [a.slice(head, a.length - tail), b.slice(head, b.length - tail)];
  const same = line => [' ', line];
  return [...a.slice(0, head).map(same), ...middle(old, young), ...a.slice(a.length - tail).map(same)];
}

function middle(old, young) {
  const [n, m] = [old.length, young.length];
  if ((n + 1) * (m + 1) > MOST_CELLS) return [...old.map(line => ['-', line]), ...young.map(line => ['+', line])];
  const longest = new Uint16Array((n + 1) * (m + 1)), at = (i, j) => i * (m + 1) + j;
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      longest[at(i, j)] = old[i] === young[j] ? longest[at(i + 1, j + 1)] + 1 : Math.max(longest[at(i + 1, j)], longest[at(i, j + 1)]);
    }
  }
  const found = [];
  let i = 0, j = 0;
  while (i < n || j < m) {
    if (i < n && j < m && old[i] === young[j]) { found.push([' ', old[i++]]); j++; }
    else if (j >= m || i < n && longest[at(i + 1, j)] >= longest[at(i, j + 1)]) found.push(['-', old[i++]]);
    else found.push(['+', young[j++]]);
  }
  return found;
}

function changesShown(before, after) {
  const lines = changes(before, after), near = new Set();
  lines.forEach(([kind], at) => { if (kind !== ' ') for (let by = -CONTEXT; by <= CONTEXT; by++) near.add(at + by); });
  if (!near.size) return element('p', {class: 'quiet'}, 'The program is the same.');
  const shown = [];
  let hidden = 0;
  const fold = () => { if (hidden) shown.push(element('span', {class: 'fold'}, `  … ${plural(hidden, 'line')} as before`)); hidden = 0; };
  lines.forEach(([kind, line], at) => {
    if (!near.has(at)) return void hidden++;
    fold();
    shown.push(element('span', {class: kind === '+' ? 'added' : kind === '-' ? 'removed' : null}, `${kind} ${line}`));
  });
  fold();
  return block(shown, 'changes');
}

const block = (children, label, wrap) => element('pre', {tabindex: 0, role: 'region', 'aria-label': label, class: wrap ? 'wrap' : null}, children);

// ---- one step

function stepShown(steps, at) {
  const step = steps[at], parent = step.parent === undefined ? null : steps[step.parent];
  const head = [`Step ${at + 1}`, step.title, step.state, step.metric === undefined ? null : `${number(step.metric, 6)} by its own measure`, step.error,
    step.at === undefined ? null : `after ${duration(step.at)}`, step.seconds === undefined ? null : `ran ${duration(step.seconds)}`, step.tokens ? `${counted(step.tokens)} tokens until then` : null];
  const found = [element('h4', {}, head.filter(Boolean).join(', '))];
  if (step.analysis) found.push(element('p', {}, step.analysis));
  if (step.plan) found.push(element('details', {open: step.kind === 'action'}, element('summary', {}, step.kind === 'action' ? 'What was said' : 'Plan'), block(step.plan, 'plan', true)));
  if (step.code && parent && parent.code) found.push(element('details', {open: true}, element('summary', {}, `What it changed of step ${step.parent + 1}`), changesShown(parent.code, step.code)));
  if (step.code) found.push(element('details', {open: !(parent && parent.code)}, element('summary', {}, step.kind === 'action' ? 'Call' : 'Program'), block(step.code, 'program')));
  if (step.output) found.push(element('details', {}, element('summary', {}, 'Output'), block(step.output, 'output', true)));
  return found;
}

function tree(place, steps) {
  const shown = element('div', {'aria-live': 'polite'});
  const root = d3.hierarchy({at: null}, node => steps.map((step, at) => ({at, parent: step.parent === undefined ? null : step.parent})).filter(step => step.parent === node.at));
  d3.tree().nodeSize([34, 52])(root);
  const nodes = root.descendants().filter(node => node.data.at !== null);
  const [left, right] = d3.extent(nodes, node => node.x), height = (d3.max(nodes, node => node.depth) - 1) * 52 + 40, width = right - left + 44;
  const grows = (steps.find(step => step.maximize !== undefined) || {}).maximize;
  const measured = nodes.filter(node => steps[node.data.at].metric !== undefined).map(node => node.data.at);
  const best = grows === undefined ? null : measured.sort((a, b) => (grows ? -1 : 1) * (steps[a].metric - steps[b].metric))[0];
  const box = element('div', {class: 'tree'});
  const svg = d3.select(box).append('svg').attr('width', width).attr('height', height).attr('role', 'group').attr('aria-label', `Tree of ${plural(nodes.length, 'solution')}`);
  const g = svg.append('g').attr('transform', `translate(${22 - left},${20 - 52})`);
  g.selectAll('.link').data(nodes.filter(node => node.depth > 1)).enter().append('path').attr('class', 'link')
    .attr('d', node => d3.linkVertical()({source: [node.parent.x, node.parent.y], target: [node.x, node.y]}));
  const choose = at => {
    g.selectAll('.node').classed('chosen', node => node.data.at === at).attr('aria-pressed', node => String(node.data.at === at));
    shown.replaceChildren(...stepShown(steps, at));
  };
  const told = node => `step ${node.data.at + 1}, ${steps[node.data.at].state}${steps[node.data.at].metric === undefined ? '' : `, ${number(steps[node.data.at].metric)}`}${node.data.at === best ? ', the best' : ''}`;
  const node = g.selectAll('.node').data(nodes).enter().append('g').attr('class', 'node').attr('transform', node => `translate(${node.x},${node.y})`)
    .attr('role', 'button').attr('tabindex', 0).attr('aria-label', told)
    .on('click', node => choose(node.data.at))
    .on('keydown', node => { if (['Enter', ' '].includes(d3.event.key)) { d3.event.preventDefault(); choose(node.data.at); } });
  node.append('circle').attr('r', node => node.data.at === best ? 14 : 11).attr('class', node => steps[node.data.at].state === 'good' ? 'good' : 'buggy');
  node.append('text').attr('class', 'number').attr('dy', '.35em').text(node => node.data.at + 1);
  node.append('title').text(told);
  place.append(element('p', {class: 'quiet'}, 'A node is a program, numbered by step: green one that came to a result, red one that failed; the largest is the best by its own measure.'), box, shown);
  choose(best === null || best === undefined ? 0 : best);
}

function actions(place, steps) {
  place.append(element('ol', {class: 'steps'}, steps.map((step, at) => {
    const body = element('div', {});
    const item = element('details', {toggle: () => { if (item.open && !body.firstChild) body.append(...stepShown(steps, at)); }},
      element('summary', {}, [step.state, step.title, cut((step.plan || step.code || '').split('\n')[0], 100)].filter(Boolean).join(': ')), body);
    return element('li', {}, item);
  })));
}

// ---- the whole of a run

function valuesShown(run, detail) {
  const rows = Object.entries(DATA.meanings).map(([name, meaning]) => {
    const source = (detail.sources || {})[name];
    return element('tr', {}, element('th', {scope: 'row'}, name), element('td', {class: 'path'}, whole(COLUMN[name][run])),
      element('td', {class: 'reason'}, element('details', {}, element('summary', {'aria-label': `where ${name} is from`}, 'where from'),
        element('p', {}, meaning), source ? element('p', {}, 'From ', element('code', {}, source)) : element('p', {}, 'It has not begun.'))));
  });
  const head = element('thead', {}, element('tr', {}, ['column', 'value', 'where from'].map(word => element('th', {scope: 'col', class: 'words'}, word))));
  return element('div', {class: 'scroll', role: 'region', 'aria-label': 'Values of this run', tabindex: 0}, element('table', {}, head, element('tbody', {}, rows)));
}

function runShown(run, detail) {
  const state = COLUMN.state[run], score = GRADED[run] ? `: ${number(COLUMN.score[run], 6)}${COLUMN.metric[run] ? ` ${COLUMN.metric[run]}` : ''}` : '';
  const found = [element('p', {}, `${COLUMN.task[run]}, ${GROUPS[COLUMN.group[run]].label}, seed ${whole(COLUMN.seed[run])}: `, element('b', {}, state + score)),
    COLUMN.reason[run] ? element('p', {}, COLUMN.reason[run]) : null, COLUMN.language_model[run] === false ? element('p', {}, 'Its model answers from a script and is no language model.') : null,
    detail.variables && detail.variables.length ? element('p', {class: 'quiet'}, detail.variables.join(', ')) : null];
  const steps = detail.steps || [], part = element('div', {});
  if (steps.length && steps[0].kind === 'solution') tree(part, steps);
  else if (steps.length) actions(part, steps);
  found.push(element('h3', {}, 'What the agent did'), part);
  if (!steps.length) found.push(element('p', {class: 'quiet'}, detail.problem || 'It left neither a journal nor a trajectory.'));
  if (detail.left_out) found.push(element('p', {class: 'quiet'}, `${plural(detail.left_out, 'more step')} in ${detail.file}.`));
  if (detail.log) found.push(element('details', {}, element('summary', {}, 'The end of agent.log'), block(detail.log, 'agent.log', true)));
  found.push(element('h3', {}, 'Its values, and where they are from'),
    COLUMN.run_directory[run] ? element('p', {class: 'quiet'}, 'Files are named from its folder. Derived anew: ', element('code', {}, `scripts_hpc/results.sh explain ${COLUMN.run_directory[run]}`)) : null,
    valuesShown(run, detail));
  if ((detail.tries || []).length) found.push(element('p', {}, `Tries before it, whose cost it bears: ${detail.tries.join(', ')}`));
  return found.filter(Boolean);
}

function showRun(run) {
  const section = document.getElementById('run'), body = document.getElementById('run-body'), title = document.getElementById('run-title');
  chosenRun = run;
  section.hidden = false;
  title.textContent = `Run ${COLUMN.run[run]}`;
  body.replaceChildren(element('p', {role: 'status'}, 'loading …'));
  drawTable();
  title.focus();
  title.scrollIntoView();
  detailsOf(run).then(detail => { if (run === chosenRun) body.replaceChildren(...runShown(run, detail || {})); },
    error => { if (run === chosenRun) body.replaceChildren(element('p', {role: 'alert'}, String(error.message)), valuesShown(run, {})); });
}
