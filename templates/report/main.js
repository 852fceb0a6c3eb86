// Puts all in its place: first what is seen first.

const redraws = [];
const at = id => document.getElementById(id);

function course() {
  if (!RUNS) return nothing(at('course-controls'), 'There are no runs.');
  const count = {};
  COLUMN.task.forEach((task, run) => { if (GRADED[run]) count[task] = (count[task] || 0) + 1; });
  const chosen = {task: TASKS.find(task => count[task]) || TASKS[0], against: 'time'};
  const draw = () => {
    const runs = d3.range(RUNS).filter(run => COLUMN.task[run] === chosen.task);
    for (const id of ['scores', 'own', 'timelines']) at(id).replaceChildren();
    scoresAgainst(at('scores'), runs, chosen.against);
    ownAgainst(at('own'), runs, chosen.against);
    timelines(at('timelines'), runs);
  };
  at('course-controls').append(chooser('task', TASKS.map(task => [task, task]), chosen.task, value => { chosen.task = value; draw(); }),
    chooser('against', Object.entries(AGAINST).map(([name, [, words]]) => [name, words]), chosen.against, value => { chosen.against = value; draw(); }), legend());
  draw();
  redraws.push(draw);
}

const later = [course, () => { strips(at('strips')); redraws.push(() => { at('strips').replaceChildren(); strips(at('strips')); }); }];
const rest = () => { while (later.length) later.shift()(); };

picture(at('picture'));
states(at('states'));
reasons(at('reasons'));
filters();
drawTable();
at('cells').addEventListener('toggle', () => { const place = at('cells').lastElementChild; if (!place.firstChild) cellsTable(place); });
requestAnimationFrame(() => setTimeout(() => { rest(); document.documentElement.dataset.drawn = 'all'; }));
addEventListener('beforeprint', rest);

let width = innerWidth, timer;
addEventListener('resize', () => {
  if (innerWidth === width) return;
  width = innerWidth;
  clearTimeout(timer);
  timer = setTimeout(() => redraws.forEach(draw => draw()), 150);
});
