// The pickers of the two settings that are drawn against each other. `pairs` holds a figure for every pair of them.
{
  const [x, y] = ["field-x", "field-y"].map((id) => document.getElementById(id));
  const chart = document.getElementById("fields");
  let before = [x.value, y.value];

  function pick() {
    // The same setting twice: the other picker takes the one that was replaced.
    if (x.value === y.value) {
      if (x.value !== before[0]) y.value = before[0];
      else x.value = before[1];
    }
    before = [x.value, y.value];
    distill.chart(chart, pairs[x.value][y.value]);
  }

  for (const picker of [x, y]) picker.addEventListener("change", pick);
  pick();
}
