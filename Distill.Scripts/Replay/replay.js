// Plays recorded flights in space. `recorded` holds them; `replay` is what other programs steer: seek, film.
const replay = {};
replay.ready = (async function () {
  // three.js is held compressed by the page, or has an address; an import map gives its modules their names.
  const address = async (name) => {
    const held = document.getElementById("packed-" + name).dataset.address;
    return held ?? URL.createObjectURL(new Blob([await distill.unpack(name)], { type: "text/javascript" }));
  };
  const map = document.createElement("script");
  map.type = "importmap";
  map.textContent = JSON.stringify({
    imports: {
      "three-core": await address("three-core.js"),
      three: await address("three.js"),
      "three-orbit": await address("three-orbit.js"),
    },
  });
  document.head.append(map);
  const THREE = await import("three");
  const { OrbitControls } = await import("three-orbit");

  const $ = (id) => document.getElementById(id);
  const flights = recorded.flights;
  const stepsOf = (flight) => flight.error.length;
  const duration = Math.max(...flights.map((flight) => (stepsOf(flight) - 1) * flight.stepTime));
  const system = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => new THREE.Color(distill.dark() ? distill.themes.dark[name] : distill.themes.light[name]);

  // What the flights cover, which sets sizes and the initial view.
  const box = new THREE.Box3();
  const points = (flat) =>
    Array.from({ length: flat.length / 3 }, (_, i) => new THREE.Vector3(flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]));
  for (const flight of flights) {
    flight.path = points(flight.position);
    flight.target = points(flight.reference);
    flight.objectPath = points(flight.object ?? []);
    for (const point of [...flight.path, ...flight.target, ...flight.objectPath]) box.expandByPoint(point);
  }
  const extent = Math.max(0.3, box.getSize(new THREE.Vector3()).length());
  const centre = box.getCenter(new THREE.Vector3());
  const floor = recorded.floor ?? box.min.z - 0.08 * extent;

  // A drone smaller than a twelfth of the scene would be a dot: it is drawn larger.
  const rotors = flights.flatMap((flight) => flight.rotorPositions ?? []);
  const span = Math.max(...rotors.map(([x, y]) => Math.hypot(x, y)));
  const magnified = rotors.length ? Math.max(1, (0.055 * extent) / span) : 1;

  const scene = new THREE.Scene();
  scene.add(new THREE.HemisphereLight(0xffffff, 0x8d8d8d, 2.2));
  const sun = new THREE.DirectionalLight(0xffffff, 1.6);
  sun.position.set(1, -2, 4);
  scene.add(sun);
  const tinted = []; // [material, name of its colour]
  const tint = (material, name) => (tinted.push([material, name]), material);

  const cell = 10 ** Math.round(Math.log10(extent / 6));
  const cells = 2 * Math.ceil(extent / cell);
  const grid = new THREE.GridHelper(cells * cell, cells, 0xffffff, 0xffffff);
  grid.geometry.deleteAttribute("color");
  grid.material = tint(new THREE.LineBasicMaterial(), "grid");
  grid.rotation.x = Math.PI / 2;
  grid.position.set(Math.round(centre.x / cell) * cell, Math.round(centre.y / cell) * cell, floor);
  scene.add(grid);

  const sides = 6;
  const radius = 0.0028 * extent;
  function tube(path, material) {
    const curve = new THREE.CatmullRomCurve3(path);
    // Uniform in steps, not in length, so that steps are segments.
    curve.getPointAt = curve.getPoint;
    // Where the path stands still, any direction does; without one the tube would vanish.
    curve.getTangentAt = (u) => {
      const tangent = curve.getTangent(u);
      return tangent.lengthSq() > 0.5 ? tangent : tangent.set(1, 0, 0);
    };
    return new THREE.Mesh(new THREE.TubeGeometry(curve, path.length - 1, radius, sides), material);
  }

  function drone(flight) {
    const group = new THREE.Group();
    const body = tint(new THREE.MeshLambertMaterial(), flight.colour);
    const front = tint(new THREE.MeshLambertMaterial(), "ink");
    const arm = Math.max(...flight.rotorPositions.map(([x, y]) => Math.hypot(x, y)));
    const hub = new THREE.Mesh(new THREE.BoxGeometry(0.62 * arm, 0.4 * arm, 0.2 * arm), body);
    const nose = new THREE.Mesh(new THREE.ConeGeometry(0.13 * arm, 0.3 * arm, 16), front);
    nose.rotation.z = -Math.PI / 2;
    nose.position.x = 0.44 * arm;
    group.add(hub, nose);
    const disc = tint(new THREE.MeshBasicMaterial({ transparent: true, opacity: 0.28, side: THREE.DoubleSide }), flight.colour);
    const blades = flight.rotorPositions.map(([x, y], i) => {
      const beam = new THREE.Mesh(new THREE.CylinderGeometry(0.05 * arm, 0.05 * arm, Math.hypot(x, y), 8), body);
      beam.position.set(x / 2, y / 2, 0);
      beam.rotation.z = Math.atan2(y, x) - Math.PI / 2;
      const rotor = new THREE.Group();
      rotor.position.set(x, y, 0.14 * arm);
      rotor.add(new THREE.Mesh(new THREE.CircleGeometry(0.52 * arm, 32), disc));
      const blade = new THREE.Mesh(new THREE.BoxGeometry(1.0 * arm, 0.07 * arm, 0.03 * arm), body);
      rotor.add(blade);
      group.add(beam, rotor);
      return { blade, turn: i % 2 ? 1 : -1 };
    });
    group.scale.setScalar(magnified);
    // Not the real speed, which no frame rate could show: faster is faster.
    const move = (step) => {
      for (const [rotor, { blade, turn }] of blades.entries())
        blade.rotation.z = turn * time * (4 + 14 * flight.bars[4 * Math.floor(step) + rotor]);
    };
    return { body: group, beside: [], move };
  }

  // What a hand moves, and what stands beside it; sizes and places are those of assets/manipulation.
  function furniture(flight, dark) {
    const glass = tint(new THREE.MeshLambertMaterial({ transparent: true, opacity: 0.3, depthWrite: false }), "muted");
    const box = (material, x, y, z) => new THREE.Mesh(new THREE.BoxGeometry(x, y, z), material);
    const round = (radius, length) => new THREE.CylinderGeometry(radius, radius, length, 32);
    const at = (mesh, x, y, z) => (mesh.position.set(x, y, z), mesh);
    const moved = new THREE.Group();
    const goal = flight.target[0];
    if (flight.task === "drawer_open") {
      moved.add(at(box(dark, 0.2, 0.01, 0.104), 0, 0.08, 0.008));
      moved.add(at(new THREE.Mesh(round(0.009, 0.118).rotateZ(Math.PI / 2), dark), 0, 0.01, 0));
      for (const x of [-0.05, 0.05]) moved.add(at(new THREE.Mesh(round(0.009, 0.06), dark), x, 0.04, 0));
      return { moved, still: [at(box(glass, 0.236, 0.19, 0.168), goal.x, goal.y + 0.365, goal.z - 0.006)] };
    }
    if (flight.task === "button_press") {
      moved.add(at(new THREE.Mesh(round(0.043, 0.022).rotateX(Math.PI / 2), dark), 0, 0, -0.01));
      moved.add(at(new THREE.Mesh(round(0.02, 0.08).rotateX(Math.PI / 2), dark), 0, 0, -0.06));
      return { moved, still: [at(box(glass, 0.24, 0.24, 0.204), goal.x, goal.y, goal.z - 0.112)] };
    }
    moved.add(new THREE.Mesh(round(0.02, 0.04).rotateX(Math.PI / 2), dark));
    return { moved, still: [] };
  }

  function hand(flight) {
    const skin = tint(new THREE.MeshLambertMaterial({ transparent: true, opacity: 0.85 }), flight.colour);
    const dark = tint(new THREE.MeshLambertMaterial(), "ink");
    const body = new THREE.Group();
    const palm = new THREE.Mesh(new THREE.BoxGeometry(0.06, 0.12, 0.04), skin);
    palm.position.z = 0.04;
    const pads = [-1, 1].map((side) => {
      const pad = new THREE.Mesh(new THREE.BoxGeometry(0.03, 0.012, 0.06), skin);
      pad.position.z = -0.015;
      return { pad, side };
    });
    body.add(palm, ...pads.map(({ pad }) => pad));
    const { moved, still } = furniture(flight, dark);
    const move = (step) => {
      const i = Math.floor(step);
      for (const { pad, side } of pads) pad.position.y = side * (0.05 * flight.opening[i] - 0.003);
      moved.position.copy(between(flight.objectPath, step));
      moved.quaternion.copy(attitude(flight.objectOrientation, step));
    };
    return { body, beside: [moved, ...still], move };
  }

  const actors = flights.map((flight) => {
    const group = new THREE.Group();
    const { body, beside, move } = flight.object ? hand(flight) : drone(flight);
    const trail = tube(flight.path, tint(new THREE.MeshBasicMaterial(), flight.colour));
    const drop = new THREE.Line(
      new THREE.BufferGeometry().setFromPoints([new THREE.Vector3(), new THREE.Vector3()]),
      tint(new THREE.LineBasicMaterial({ transparent: true, opacity: 0.5 }), flight.colour),
    );
    drop.frustumCulled = false;
    group.add(body, ...beside, trail, drop);
    scene.add(group);
    return { flight, group, body, move, trail, drop };
  });

  // The reference is the same for all; the longest flight shows most of it.
  const longest = flights.reduce((a, b) => (stepsOf(b) > stepsOf(a) ? b : a));
  const reference = tube(longest.target, tint(new THREE.MeshBasicMaterial({ transparent: true, opacity: 0.4 }), "1"));
  const target = new THREE.Mesh(
    new THREE.SphereGeometry(recorded.near ?? 0.011 * extent, 20, 14),
    tint(new THREE.MeshBasicMaterial(recorded.near ? { transparent: true, opacity: 0.4, depthWrite: false } : {}), "1"),
  );
  scene.add(reference, target);

  const renderer = new THREE.WebGLRenderer({ canvas: $("scene"), antialias: true, preserveDrawingBuffer: true });
  renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
  const camera = new THREE.PerspectiveCamera(40, 1, extent / 100, 40 * extent);
  camera.up.set(0, 0, 1);
  const controls = new OrbitControls(camera, $("scene"));

  let time = 0;
  let playing = false;
  let side = false;
  let following = false;

  const stepAt = (flight) => Math.min(stepsOf(flight) - 1, Math.max(0, time / flight.stepTime));
  const between = (path, step) => {
    const i = Math.floor(step);
    return path[i].clone().lerp(path[Math.min(i + 1, path.length - 1)], step - i);
  };
  const attitude = (orientation, step) => {
    const read = (i) => {
      const [w, x, y, z] = orientation.slice(4 * i, 4 * i + 4);
      return new THREE.Quaternion(x, y, z, w);
    };
    const i = Math.floor(step);
    return read(i).slerp(read(Math.min(i + 1, orientation.length / 4 - 1)), step - i).normalize();
  };

  // States as bars with a line at the command, and the distance to the reference.
  $("title").textContent = recorded.title;
  $("scale").textContent =
    `grid ${cell} m` + (magnified > 1.05 ? ` · drones drawn ${magnified.toPrecision(2)}× larger than they are` : "");
  const meters = flights.map((flight) => {
    const meter = document.createElement("div");
    meter.style.setProperty("--colour", `var(--c-${flight.colour})`);
    meter.innerHTML =
      '<div class="name"><i></i><span></span></div><div class="bars">' +
      '<div class="bar"><b></b><u></u></div>'.repeat(4) +
      `</div><div class="axis">${recorded.axes.map((axis) => `<span>${axis}</span>`).join("")}</div><div class="error"></div>`;
    meter.querySelector("span").textContent = flight.name;
    meter.title = recorded.meaning;
    $("rotors").append(meter);
    return {
      bars: [...meter.querySelectorAll("b")],
      marks: [...meter.querySelectorAll("u")],
      error: meter.querySelector(".error"),
    };
  });

  function drawMeters() {
    flights.forEach((flight, k) => {
      const i = Math.floor(stepAt(flight));
      const over = time > (stepsOf(flight) - 1) * flight.stepTime + 1e-9;
      for (let rotor = 0; rotor < 4; rotor++) {
        const state = Math.min(1, Math.max(0, flight.bars[4 * i + rotor]));
        meters[k].bars[rotor].style.height = 100 * state + "%";
        meters[k].marks[rotor].style.bottom = 50 * (flight.command[4 * i + rotor] + 1) + "%";
      }
      meters[k].error.textContent =
        over && flight.terminated ? "terminated" : `${flight.error[i].toFixed(3)} m off`;
    });
  }

  // The distance to the reference over time; a touch moves the time.
  const timeline = $("timeline");
  const pen = timeline.getContext("2d");
  const left = 44;
  const highest = Math.max(1e-3, ...flights.map((flight) => flight.error.reduce((a, b) => Math.max(a, b), 0)));

  function drawTimeline() {
    const { clientWidth: w, clientHeight: h } = timeline;
    const ratio = devicePixelRatio;
    if (timeline.width !== Math.round(w * ratio) || timeline.height !== Math.round(h * ratio)) {
      timeline.width = Math.round(w * ratio);
      timeline.height = Math.round(h * ratio);
    }
    const theme = distill.dark() ? distill.themes.dark : distill.themes.light;
    const x = (t) => left + ((w - left - 6) * t) / (duration || 1);
    const y = (e) => h - 18 - ((h - 30) * e) / highest;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, w, h);
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = theme.muted;
    pen.textAlign = "right";
    pen.fillText(highest.toPrecision(2) + " m", left - 6, y(highest) + 4);
    pen.fillText("0", left - 6, y(0) + 4);
    pen.textAlign = "left";
    pen.fillText(recorded.distance, left + 4, 10);
    pen.strokeStyle = theme.grid;
    pen.lineWidth = 1;
    pen.strokeRect(left, y(highest), w - left - 6, y(0) - y(highest));
    const tick = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].find((d) => duration / d <= Math.max(3, w / 60)) ?? duration;
    pen.textAlign = "center";
    for (let t = 0; t <= duration + 1e-9; t += tick) pen.fillText(Number(t.toFixed(2)) + " s", x(t), h - 4);
    for (const flight of flights) {
      pen.beginPath();
      flight.error.forEach((e, i) => pen.lineTo(x(i * flight.stepTime), y(e)));
      pen.strokeStyle = theme[flight.colour];
      pen.lineWidth = 1.5;
      pen.stroke();
    }
    pen.strokeStyle = theme.ink;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(x(time), y(highest) - 4);
    pen.lineTo(x(time), y(0) + 4);
    pen.stroke();
    timeline.setAttribute("aria-valuemin", 0);
    timeline.setAttribute("aria-valuemax", duration);
    timeline.setAttribute("aria-valuenow", time.toFixed(2));
  }

  function pose() {
    for (const { flight, body, move, trail, drop } of actors) {
      const step = stepAt(flight);
      const place = between(flight.path, step);
      body.position.copy(place);
      body.quaternion.copy(attitude(flight.orientation, step));
      move(step);
      trail.geometry.setDrawRange(0, Math.floor(step) * sides * 6);
      const line = drop.geometry.attributes.position;
      line.setXYZ(0, place.x, place.y, place.z);
      line.setXYZ(1, place.x, place.y, floor);
      line.needsUpdate = true;
    }
    target.position.copy(between(longest.target, stepAt(longest)));
  }

  // The parts of the stage: one, or one for each flight, in a row or, on an upright screen, in a column.
  function parts(width, height) {
    const n = side ? flights.length : 1;
    const upright = height > width;
    return Array.from({ length: n }, (_, i) =>
      upright
        ? { x: 0, y: height - ((i + 1) * height) / n, w: width, h: height / n }
        : { x: (i * width) / n, y: 0, w: width / n, h: height },
    );
  }

  function draw() {
    pose();
    const { clientWidth: width, clientHeight: height } = $("stage");
    const size = renderer.getSize(new THREE.Vector2());
    if (size.x !== width || size.y !== height) renderer.setSize(width, height, false);
    renderer.setScissorTest(true);
    $("labels").replaceChildren();
    parts(width, height).forEach(({ x, y, w, h }, i, all) => {
      actors.forEach(({ group }, k) => (group.visible = all.length === 1 || k === i));
      camera.aspect = w / h;
      camera.updateProjectionMatrix();
      renderer.setViewport(x, y, w, h);
      renderer.setScissor(x, y, w, h);
      renderer.render(scene, camera);
      if (all.length > 1) {
        const label = document.createElement("span");
        label.textContent = flights[i].name;
        label.style.left = x + 16 + "px";
        label.style.bottom = y + 4 + "px";
        $("labels").append(label);
      }
    });
    drawMeters();
    drawTimeline();
    $("clock").textContent = `${time.toFixed(2)} / ${duration.toFixed(2)} s`;
    $("play").textContent = playing ? "Pause" : "Play";
    $("view").textContent = side ? "Overlay" : "Side by side";
    $("view").hidden = flights.length < 2;
    $("follow").setAttribute("aria-pressed", following);
  }

  const followed = () => actors[actors.length - 1].body.position;

  function seek(to) {
    const before = followed().clone();
    time = Math.min(duration, Math.max(0, to));
    pose();
    if (following) {
      const moved = followed().clone().sub(before);
      camera.position.add(moved);
      controls.target.add(moved);
      controls.update();
    }
    draw();
  }

  function resetView() {
    following = false;
    const { clientWidth: width, clientHeight: height } = $("stage");
    const { w, h } = parts(width, height)[0];
    // An upright part shows less of what is beside.
    const distance = (0.5 * extent) / Math.tan((camera.fov * Math.PI) / 360) / Math.min(1, w / h);
    controls.target.copy(centre);
    camera.position.copy(centre).add(new THREE.Vector3(-0.62, -0.66, 0.42).normalize().multiplyScalar(1.15 * distance));
    controls.update();
    draw();
  }

  function follow() {
    following = !following;
    if (following) {
      // Closer, from the same side.
      const towards = camera.position.clone().sub(controls.target).setLength(0.75 * extent);
      controls.target.copy(followed());
      camera.position.copy(followed()).add(towards);
      controls.update();
    }
    draw();
  }

  function repaint() {
    for (const [material, name] of tinted) material.color.copy(colour(name));
    renderer.setClearColor(colour("paper"));
    draw();
  }

  let last;
  function tick(now) {
    if (!playing) return;
    const next = time + ((now - last) / 1000) * Number($("speed").value);
    last = now;
    if (next >= duration) playing = false;
    seek(next);
    requestAnimationFrame(tick);
  }

  function play() {
    playing = !playing;
    if (playing && time >= duration) time = 0;
    last = performance.now();
    requestAnimationFrame(tick);
    draw();
  }

  function view() {
    side = !side;
    resetView();
  }

  function faster(by) {
    const speed = $("speed");
    speed.selectedIndex = Math.min(speed.length - 1, Math.max(0, speed.selectedIndex + by));
  }

  $("play").onclick = play;
  $("view").onclick = view;
  $("follow").onclick = follow;
  $("reset").onclick = resetView;
  const touch = (event) => {
    const { left: edge, width } = timeline.getBoundingClientRect();
    seek(((event.clientX - edge - left) / (width - left - 6)) * duration);
  };
  timeline.onpointerdown = (event) => {
    timeline.setPointerCapture(event.pointerId);
    touch(event);
  };
  timeline.onpointermove = (event) => event.buttons && touch(event);
  addEventListener("keydown", (event) => {
    // A select and a focused button have keys of their own.
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    if (event.key === " " && event.target.tagName === "BUTTON") return;
    const step = event.shiftKey ? flights[0].stepTime : 0.1;
    const keys = {
      " ": play,
      ArrowLeft: () => seek(time - step),
      ArrowRight: () => seek(time + step),
      Home: () => seek(0),
      End: () => seek(duration),
      "[": () => faster(-1),
      "]": () => faster(1),
      v: () => flights.length > 1 && view(),
      f: follow,
      r: resetView,
    };
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  controls.addEventListener("change", draw);
  system.addEventListener("change", repaint);
  new ResizeObserver(draw).observe($("stage"));
  repaint();
  resetView();

  replay.seek = seek;
  replay.view = view;
  replay.follow = follow;
  replay.play = play;
  // Leaves out what only a hand needs; how long the film is, in seconds.
  replay.film = () => {
    document.body.classList.add("film");
    resetView();
    return duration;
  };
})();
replay.ready.catch((error) => {
  document.getElementById("title").textContent = "The replay cannot be shown: " + error.message;
  console.error(error);
});
