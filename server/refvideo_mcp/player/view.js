"use strict";

/* What is on the screen. `show` puts the whole job there, however often it is called. */
const view = (() => {
  const STATES = { submitting: "Submitting", queued: "In the queue", processing: "Rendering" };
  const $ = (id) => document.getElementById(id);
  let announced = "";

  function clock(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  }

  function put(id, text) {
    const element = $(id);
    element.hidden = !text;
    if (element.textContent !== (text ?? "")) element.textContent = text ?? "";
  }

  /** The prompt, with the names of its subjects marked. */
  function putPrompt(prompt) {
    const element = $("prompt");
    element.hidden = !prompt;
    if (!prompt || element.textContent === prompt) return;
    element.replaceChildren(
      ...prompt.split(/(@[\p{L}\p{N}_-]+)/u).map((part, place) => {
        if (place % 2 === 0) return part;
        const mark = document.createElement("b");
        mark.textContent = part;
        return mark;
      }),
    );
  }

  /** Who is in the video, once: the pictures never change. */
  function putSubjects(subjects) {
    const list = $("subjects");
    if (!subjects || list.childElementCount) return;
    list.hidden = false;
    for (const { id, picture } of subjects) {
      const image = Object.assign(document.createElement("img"), { src: picture, alt: "" });
      const item = list.appendChild(document.createElement("li"));
      item.append(image, `@${id}`);
    }
  }

  const name = (job) => job.rawStatus ?? STATES[job.state] ?? "Starting";

  function state(job) {
    if (job.phase === "loading") return "Loading the video";
    return job.eta ? `${name(job)}, about ${job.eta} s left` : name(job);
  }

  function work(job) {
    const percent = job.phase === "loading" ? job.loaded : job.percent;
    put("state", state(job));
    $("percent").textContent = percent === undefined ? "" : `${percent}%`;
    $("ring").style.setProperty("--part", `${percent ?? 25}%`);
    $("ring").classList.toggle("unknown", percent === undefined);
    if (percent === undefined) $("progress").removeAttribute("value");
    else $("progress").value = percent;
    tick(job);
  }

  function tick(job) {
    const isTimed = job.phase === "working" && job.since !== undefined;
    put("elapsed", isTimed ? clock((performance.now() - job.since) / 1000) : "");
  }

  function facts(job) {
    const { seconds, width, height } = job.media ?? {};
    return [
      seconds ? `${Math.round(seconds * 10) / 10} s` : "",
      width ? `${width}×${height}` : "",
      job.seed === undefined ? "" : `seed ${job.seed}`,
      job.took ? `made in ${clock(job.took)}` : "",
    ].filter(Boolean).join(" · ");
  }

  function place(job) {
    const isShown = job.phase === "playing" || job.phase === "elsewhere";
    $("place").hidden = !(isShown && job.savedTo);
    $("place-label").textContent = job.phase === "elsewhere" ? "The file is at" : "Saved at";
    $("path").textContent = job.savedTo ?? "";
  }

  /** Tell a screen reader; on the screen only where `isSeen`. */
  function say(text, isSeen = true) {
    $("said").classList.toggle("unseen", !isSeen);
    $("said").textContent = text;
  }

  function news(job) {
    if (job.phase === "playing") return "The video is ready.";
    if (job.phase === "elsewhere" || job.phase === "trouble") return `${job.happened}. ${job.note ?? ""}`;
    if (job.phase === "pictures") return `${$("lacking").textContent}. They can be given here.`;
    if (job.phase !== "working") return "";
    const quarters = Math.floor((job.percent ?? 0) / 25); // every percent would be a nuisance
    return `${name(job)}${quarters ? `, ${25 * quarters} percent` : ""}`;
  }

  function announce(job) {
    const text = news(job);
    if (!text || text === announced) return;
    announced = text;
    say(text, false);
  }

  return {
    show(job) {
      $("player").dataset.phase = job.phase;
      $("sandbox").hidden = !job.isSandbox;
      putPrompt(job.prompt);
      putSubjects(job.subjects);
      if (job.shape) $("stage").style.setProperty("--shape", job.shape);
      work(job);
      $("media").hidden = job.phase !== "playing";
      $("strip").hidden = !(job.phase === "elsewhere" && job.strip);
      if (job.strip) $("strip").src = job.strip;
      put("happened", job.happened);
      put("facts", job.phase === "playing" || job.phase === "elsewhere" ? facts(job) : "");
      put("note", job.note);
      place(job);
      for (const id of ["check", "ask", "download", "open", "copy", "again"]) $(id).hidden = !job.offers.has(id);
      announce(job);
    },
    tick,
    say,
    /** The words of a list: "a, b and c". */
    listed: (names) => [names.slice(0, -1).join(", "), names.at(-1)].filter(Boolean).join(" and "),
    putPictures(heading, goesTo, fields) {
      $("lacking").textContent = heading;
      $("fields").replaceChildren(...fields);
      $("goes-to").textContent = goesTo;
    },
    /** Whether pictures can be chosen and removed, and whether they can be sent. */
    allowPictures(isAllowed, isComplete) {
      $("fields").disabled = !isAllowed;
      $("send").disabled = !isComplete;
    },
    takesPictures: () => !$("fields").disabled,
    putPicturesHere(text) {
      $("lacking").textContent = text;
      $("pictures").classList.add("here");
    },
    /** Show the element that plays instead of the one before. */
    put: (element) => $("media").replaceChildren(element),
    onClick: (id, act) => $(id).addEventListener("click", act),
    /** Whether the text is in the clipboard; where that is forbidden it is shown, to be copied by hand. */
    async copy(text) {
      const field = $("field");
      try {
        await navigator.clipboard.writeText(text);
        $("by-hand").hidden = true;
        return true;
      } catch {
        field.value = text;
        $("by-hand").hidden = false;
        field.select();
        const isCopied = document.execCommand("copy"); // works where the clipboard's own interface is forbidden
        $("by-hand").hidden = isCopied;
        return isCopied;
      }
    },
  };
})();
