// The pictures: SVG by d3. Each has a label for who can't see it, and a table says the same.

const SHAPES = [d3.symbolCircle, d3.symbolSquare, d3.symbolTriangle, d3.symbolDiamond, d3.symbolCross, d3.symbolStar, d3.symbolWye];
const shape = (group, size = 60) => d3.symbol().type(SHAPES[group % SHAPES.length]).size(size)();
const hue = group => group % 8;
const MOST_TASKS = 12, MOST_PANELS = 8, MOST_RUNS = 40, MOST_LINES = 150;

function canvas(place, height, label, least = 300) {
  const width = Math.max(place.clientWidth || 600, least);
  const svg = d3.select(place).append('svg').attr('width', width).attr('height', height)
    .attr('viewBox', `0 0 ${width} ${height}`).attr('role', 'img').attr('aria-label', label);
  return [svg, width];
}

function legend(groups = GROUPS.map((_, group) => group)) {
  return element('ul', {class: 'legend'}, groups.map(group => {
    const item = element('li', {});
    d3.select(item).append('svg').attr('width', 14).attr('height', 14).attr('aria-hidden', 'true')
      .append('path').attr('d', shape(group)).attr('transform', 'translate(7,7)').attr('class', `f${hue(group)}`);
    item.append(GROUPS[group].label);
    return item;
  }));
}

const cut = (text, most) => text.length > most ? `${text.slice(0, most - 1)}…` : text;

// Ticks of a time at whole seconds, minutes or hours.
function timeTicks(x, count) {
  const [, end] = x.domain(), unit = end < 100 ? 1 : end < 6000 ? 60 : 3600, name = {1: 's', 60: 'min', 3600: 'h'}[unit];
  return axis => axis.tickValues(d3.ticks(0, end / unit, count).map(value => value * unit)).tickFormat(value => value === 0 ? '0' : `${number(value / unit, 3)} ${name}`);
}

const axis = (svg, left, top, made) => svg.append('g').attr('class', 'axis').attr('transform', `translate(${left},${top})`).call(made);

// ---- dots and bars: a row a task, a dot an agent with a model

function intervalText(panel, cell) {
  const [group, value, low, high, count] = cell;
  const shown = panel.kind === 'rate' ? percent : number;
  const interval = low === null || low === undefined ? '' : `, 95% interval ${shown(low)} to ${shown(high)}`;
  return `${GROUPS[group].label}: ${shown(value)}${interval}, of ${count}`;
}

function domainOf(panel) {
  if (panel.kind === 'rate') return [0, 1];
  const cells = [...panel.over, ...panel.tasks.flatMap(task => task.cells)];
  const [low, high] = d3.extent(cells.flatMap(cell => [cell[1], ...cell[5]]).filter(value => value !== null));
  const [least, most] = [d3.min(cells, cell => cell[2]), d3.max(cells, cell => cell[3])];
  const room = (high - low) || Math.abs(high) || 1;
  return [Math.max(least === undefined ? low - room / 10 : least, low - room / 2),
    Math.min(most === undefined ? high + room / 10 : most, high + room / 2)];
}

function dots(place, panel, all) {
  const tasks = all ? panel.tasks : panel.tasks.slice(0, MOST_TASKS);
  const rows = [...(panel.over.length ? [{task: 'all tasks', cells: panel.over, over: true}] : []), ...tasks];
  const each = 13, gap = 12;
  const narrow = (place.clientWidth || 600) < 560, left = narrow ? 8 : 190, head = narrow ? 16 : 0;
  const heights = rows.map(row => head + gap + each * row.cells.length);
  const height = d3.sum(heights) + 44;
  const told = rows.map(row => `${row.task}: ${row.cells.map(cell => intervalText(panel, cell)).join('; ')}`).slice(0, 12).join('. ');
  const [svg, width] = canvas(place, height, `${panel.title}. ${told}`);
  const x = d3.scaleLinear().domain(domainOf(panel)).range([left + 8, width - 14]).nice(6);
  let top = 4;
  svg.append('text').attr('x', left + 8).attr('y', height - 4).attr('class', 'soft').text(panel.title);
  const ticks = x.ticks(narrow ? 4 : 8), bottom = height - 38;
  svg.selectAll('.grid').data(ticks).enter().append('line').attr('class', 'grid')
    .attr('x1', x).attr('x2', x).attr('y1', 0).attr('y2', bottom);
  axis(svg, 0, bottom, d3.axisBottom(x).tickValues(ticks).tickFormat(panel.kind === 'rate' ? percent : value => number(value, 3)));
  rows.forEach((row, at) => {
    const g = svg.append('g').attr('transform', `translate(0,${top})`);
    if (row.over) g.insert('rect', ':first-child').attr('class', 'row').attr('y', -2).attr('width', width).attr('height', heights[at]);
    const label = g.append('text').attr('class', row.over ? 'whole' : null).text(cut(row.task, narrow ? 50 : 28));
    label.append('title').text(row.task);
    if (narrow) label.attr('x', 4).attr('y', 13);
    else label.attr('x', left).attr('y', heights[at] / 2).attr('dy', '.1em').attr('text-anchor', 'end');
    row.cells.forEach((cell, line) => dot(g, panel, row, cell, x, head + gap / 2 + each * (line + .5)));
    top += heights[at];
  });
  if (panel.tasks.length > tasks.length) {
    place.append(element('p', {}, element('button', {type: 'button', click: () => {
      place.replaceChildren();
      dots(place, panel, true);
    }}, `show all ${panel.tasks.length} tasks`)));
  }
}

function dot(g, panel, row, cell, x, y) {
  const [group, value, low, high, , scores] = cell, [from, to] = x.range();
  const within = at => Math.min(Math.max(x(at), from), to);
  const mark = g.append('g').attr('class', row.over ? null : 'click').on('click', () => row.over || showCell(row.task, group));
  if (low !== null && high !== null) {
    mark.append('line').attr('class', `s${hue(group)}`).attr('stroke-width', 3).attr('x1', within(low)).attr('x2', within(high)).attr('y1', y).attr('y2', y);
    for (const [end, way] of [[low, -1], [high, 1]]) { // an arrow where it goes on beyond the picture
      const at = within(end), beyond = Math.abs(at - x(end)) > .5;
      mark.append('path').attr('class', `s${hue(group)}`).attr('fill', 'none').attr('stroke-width', 1.5)
        .attr('d', beyond ? `M${at - 5 * way},${y - 4}L${at},${y}L${at - 5 * way},${y + 4}` : `M${at},${y - 4}V${y + 4}`);
    }
  }
  for (const score of scores.slice(0, 60)) {
    mark.append('line').attr('class', `s${hue(group)} each`).attr('x1', x(score)).attr('x2', x(score)).attr('y1', y - 4).attr('y2', y + 4);
  }
  mark.append('path').attr('d', shape(group)).attr('class', `f${hue(group)}`).attr('transform', `translate(${within(value)},${y})`);
  mark.append('title').text(`${row.task}\n${intervalText(panel, cell)}`);
}

function picture(place) {
  const scores = DATA.panels.filter(panel => panel.kind === 'score'), rates = DATA.panels.filter(panel => panel.kind === 'rate');
  const options = [...(scores.length ? [['scores', scores.length === 1 ? `score: ${scores[0].title}` : 'scores, each metric by itself']] : []),
    ...rates.map(panel => [panel.title, panel.title])];
  if (!options.length) return place.append(element('p', {class: 'quiet'}, 'No run was graded or failed by itself, so there is nothing to draw.'));
  const first = options.some(([value]) => value === DATA.first) ? DATA.first : options[0][0];
  const drawn = element('div', {});
  let all = false;
  const draw = chosen => {
    drawn.replaceChildren();
    const panels = chosen === 'scores' ? scores : rates.filter(panel => panel.title === chosen);
    for (const panel of all ? panels : panels.slice(0, MOST_PANELS)) {
      const part = element('div', {});
      drawn.append(part);
      dots(part, panel, false);
    }
    if (!all && panels.length > MOST_PANELS) {
      drawn.append(element('button', {type: 'button', click: () => { all = true; draw(chosen); }}, `show all ${panels.length} metrics`));
    }
  };
  let now = first;
  place.append(element('div', {class: 'controls'}, chooser('shown', options, first, value => draw(now = value))), legend(),
    element('p', {class: 'quiet'}, 'A dot is a mean, its bar the 95% interval, a thin stroke one run; a click on a dot lists its runs.'), drawn);
  draw(first);
  redraws.push(() => draw(now));
}

// ---- what became of the runs

function states(place) {
  if (!RUNS) return;
  const order = [...new Set(COLUMN.state)].sort((a, b) => (b === 'scored') - (a === 'scored') || a.localeCompare(b));
  const kind = state => state === 'scored' ? 'good' : ['running', 'waiting', 'not_begun', 'lost', 'cancelled'].includes(state) ? 'openly' : 'buggy';
  const most = d3.max(GROUPS, group => group.runs);
  const body = element('tbody', {}, GROUPS.map(group => {
    const bar = element('td', {});
    const svg = d3.select(bar).append('svg').attr('width', 200).attr('height', 16).attr('aria-hidden', 'true');
    let left = 0;
    for (const state of order.filter(state => group.states[state])) {
      const width = 198 * group.states[state] / most;
      svg.append('rect').attr('class', kind(state)).attr('x', left).attr('width', Math.max(width - 1, 1)).attr('height', 14).append('title').text(state);
      left += width;
    }
    return element('tr', {}, element('th', {scope: 'row'}, group.label), bar,
      order.map(state => element('td', {}, group.states[state] ? counted(group.states[state]) : '')));
  }));
  const head = element('thead', {}, element('tr', {}, element('th', {scope: 'col'}, 'agent / model'), element('th', {scope: 'col'}, 'share'),
    order.map(state => element('th', {scope: 'col'}, state))));
  place.append(element('div', {class: 'scroll', role: 'region', 'aria-label': 'End states', tabindex: 0}, element('table', {}, head, body)));
}

function reasons(place) {
  if (!DATA.reasons.length) return;
  const rows = DATA.reasons.map(one => element('tr', {}, element('td', {}, counted(one.runs)), element('td', {class: 'words'}, one.state),
    element('td', {class: 'reason'}, one.reason || '(none told)'),
    element('td', {class: 'words'}, element('button', {type: 'button', class: 'link', click: () => showRun(one.first)}, COLUMN.run[one.first]))));
  const head = element('thead', {}, element('tr', {}, ['runs', 'state', 'reason', 'the first of them'].map(word => element('th', {scope: 'col', class: 'words'}, word))));
  place.append(element('div', {class: 'scroll', role: 'region', 'aria-label': 'Reasons', tabindex: 0},
    element('table', {}, element('caption', {}, 'Why runs have no score'), head, element('tbody', {}, rows))));
  if (DATA.more_reasons) place.append(element('p', {class: 'quiet'}, `${plural(DATA.more_reasons, 'more reason')} in the table of runs.`));
}

// ---- course: scores and the agents' own measure against time, steps, tokens

const AGAINST = {time: ['agent_seconds', 'time of the agent', duration], step: ['steps', 'steps', counted], tokens: ['tokens', 'tokens', counted]};

function plot(place, lines, marks, labels, against, height = 260) {
  const xs = [...marks.map(mark => mark.x), ...lines.flatMap(line => line.points.map(point => point[0]))];
  const ys = [...marks.map(mark => mark.y), ...lines.flatMap(line => line.points.map(point => point[1]))];
  const [svg, width] = canvas(place, height, labels.told);
  const x = d3.scaleLinear().domain([0, d3.max(xs) || 1]).range([56, width - 28]);
  const [low, high] = d3.extent(ys), room = (high - low) * .06 || Math.abs(high) * .1 || 1;
  const y = d3.scaleLinear().domain([low - room, high + room]).range([height - 40, 12]);
  axis(svg, 0, height - 40, against === 'time' ? timeTicks(x, Math.max(3, width / 110))(d3.axisBottom(x)) : d3.axisBottom(x).ticks(Math.max(3, width / 110)).tickFormat(counted));
  axis(svg, 56, 0, d3.axisLeft(y).ticks(6).tickFormat(value => number(value, 3)));
  svg.append('text').attr('class', 'soft').attr('x', width - 14).attr('y', height - 4).attr('text-anchor', 'end').text(AGAINST[against][1]);
  for (const line of lines) {
    svg.append('path').attr('class', `line s${hue(line.group)}`).attr('d', d3.line().curve(d3.curveStepAfter).x(point => x(point[0])).y(point => y(point[1]))(line.points))
      .append('title').text(line.title);
  }
  for (const mark of marks) {
    svg.append('path').attr('d', shape(mark.group, 50)).attr('class', `click f${hue(mark.group)}`).attr('transform', `translate(${x(mark.x)},${y(mark.y)})`)
      .on('click', () => showRun(mark.run)).append('title').text(mark.title);
  }
}

const nothing = (place, words) => place.append(element('p', {class: 'quiet'}, words));

function scoresAgainst(place, runs, against) {
  const [column, words, shown] = AGAINST[against];
  const marks = runs.filter(run => GRADED[run] && COLUMN[column][run] !== null).map(run => ({run, group: COLUMN.group[run], x: COLUMN[column][run], y: COLUMN.score[run],
    title: `${COLUMN.run[run]}: ${number(COLUMN.score[run], 6)} after ${shown(COLUMN[column][run])}${against === 'time' ? '' : ` ${words}`}`}));
  place.append(element('h3', {}, `Graded score against ${words}`));
  if (!marks.length) return nothing(place, 'No run of this task is graded and tells that.');
  plot(place, [], marks.slice(0, 2000), {told: `Graded score of ${plural(marks.length, 'run')} against ${words}; the table of runs has the numbers`}, against);
}

function bestSoFar(run, against) {
  const [grows, steps] = pointsOf(run), found = [];
  let best = null;
  steps.forEach(([, at, seconds, metric, tokens], index) => {
    const x = against === 'step' ? index + 1 : against === 'tokens' ? tokens : at === null ? null : at + (seconds || 0);
    if (metric === null || x === null || grows === null) return;
    if (best === null || (grows ? metric > best : metric < best)) found.push([x, best = metric]);
    else if (index === steps.length - 1) found.push([x, best]);
  });
  return found;
}

function ownAgainst(place, runs, against) {
  place.append(element('h3', {}, `Best so far by the agent's own measure, against ${AGAINST[against][1]}`));
  const lines = runs.map(run => ({run, group: COLUMN.group[run], points: bestSoFar(run, against), title: COLUMN.run[run]})).filter(line => line.points.length);
  if (!lines.length) return nothing(place, against === 'tokens' ? 'These agents noted no tokens step by step.' : 'No journal of these runs tells a measure.');
  const shown = lines.slice(0, MOST_LINES), marks = shown.map(line => ({run: line.run, group: line.group, x: line.points[line.points.length - 1][0], y: line.points[line.points.length - 1][1], title: line.title}));
  plot(place, shown, marks, {told: `Best value so far of ${plural(shown.length, 'run')}, by the agents' own measure, against ${AGAINST[against][1]}`}, against);
  nothing(place, 'What an agent measured itself is no grade.' + (lines.length > shown.length ? ` The first ${shown.length} of ${lines.length} runs.` : ''));
}

// ---- timelines

function timelines(place, runs) {
  const shown = runs.filter(run => pointsOf(run)[1].some(step => step[1] !== null)).slice(0, MOST_RUNS);
  if (!shown.length) return nothing(place, 'No trace of these runs tells when its steps were.');
  const each = 20, narrow = (place.clientWidth || 600) < 560, left = narrow ? 70 : 190, height = each * shown.length + 34;
  const ends = shown.map(run => Math.max(COLUMN.agent_seconds[run] || 0, d3.max(pointsOf(run)[1], step => (step[1] || 0) + (step[2] || 0))));
  const [svg, width] = canvas(place, height, `Timelines of ${plural(shown.length, 'run')}: when their programs ran, and what became of them`);
  const x = d3.scaleLinear().domain([0, d3.max(ends) || 1]).range([left, width - 28]);
  axis(svg, 0, each * shown.length + 4, timeTicks(x, Math.max(3, width / 130))(d3.axisBottom(x)));
  shown.forEach((run, row) => {
    const g = svg.append('g').attr('class', 'click').attr('transform', `translate(0,${each * row})`).on('click', () => showRun(run));
    g.append('path').attr('d', shape(COLUMN.group[run], 36)).attr('class', `f${hue(COLUMN.group[run])}`).attr('transform', `translate(8,${each / 2})`);
    g.append('text').attr('x', 18).attr('y', each / 2 + 4).text(cut(COLUMN.run[run].split('/').pop(), narrow ? 7 : 26)).append('title').text(COLUMN.run[run]);
    g.append('rect').attr('class', 'unseen').attr('x', left).attr('y', each / 2 - 2).attr('width', Math.max(x(ends[row]) - left, 1)).attr('height', 4);
    pointsOf(run)[1].forEach(([state, at, seconds], step) => {
      if (at === null) return;
      g.append('rect').attr('class', state === 'buggy' ? 'buggy' : 'good').attr('x', x(at)).attr('y', 3)
        .attr('width', Math.max(x(at + (seconds || 0)) - x(at), 2)).attr('height', each - 6)
        .append('title').text(`step ${step + 1}, ${state}, after ${duration(at)}${seconds === null || seconds === undefined ? '' : `, ran ${duration(seconds)}`}`);
    });
  });
  nothing(place, 'A block is a program that ran: green where it came to a result, red where it failed; of agents that call tools, a stroke a step. Between them the model worked.');
}

// ---- model servers

function strips(place) {
  if (!DATA.servers.length) return nothing(place, 'No model server of these runs left samples of its load.');
  for (const server of DATA.servers) {
    const length = server.ended - server.started;
    place.append(element('h3', {}, `Job ${server.job}`), element('p', {class: 'quiet'}, `${server.sentence}. ${clock(server.started)} to ${clock(server.ended)}; busy ${duration(server.busy_seconds)}, idle ${duration(server.idle_seconds)} of ${duration(length)}.`));
    const part = element('div', {}), [svg, width] = canvasIn(place, part, 46, `Job ${server.job}: ${server.sentence}`);
    const x = d3.scaleLinear().domain([0, length]).range([2, width - 28]), each = length / server.bins.length;
    svg.append('rect').attr('class', 'unseen').attr('x', 2).attr('y', 1).attr('width', width - 30).attr('height', 20);
    server.bins.forEach(([busy, idle], at) => {
      const height = 20 * busy / each, rest = 20 * idle / each, wide = Math.max(x(each) - x(0), .5);
      if (idle) svg.append('rect').attr('class', 'idle').attr('stroke-width', 0).attr('x', x(at * each)).attr('y', 21 - height - rest).attr('width', wide).attr('height', rest);
      if (busy) svg.append('rect').attr('class', 'busy').attr('x', x(at * each)).attr('y', 21 - height).attr('width', wide).attr('height', height);
    });
    axis(svg, 0, 22, timeTicks(x, Math.max(3, width / 130))(d3.axisBottom(x)));
  }
  const keys = [['busy', 'busy: worked on requests, or had some waiting'], ['idle', 'idle: ready, and none'], ['unseen', 'not ready, or not seen']];
  place.append(element('ul', {class: 'legend'}, keys.map(([kind, words]) => {
    const item = element('li', {});
    d3.select(item).append('svg').attr('width', 14).attr('height', 14).attr('aria-hidden', 'true').append('rect').attr('class', kind).attr('width', 13).attr('height', 13).attr('x', .5).attr('y', .5);
    item.append(words);
    return item;
  })));
  if (DATA.more_servers) nothing(place, `${plural(DATA.more_servers, 'more server')} not drawn.`);
}

function canvasIn(place, part, height, label) {
  place.append(part);
  return canvas(part, height, label);
}
