"use strict";

/* The job: what is known of it, how it is followed, and how its video is brought onto the page. */
const player = (() => {
  const FOLLOW_SECONDS = 2 * 3600;
  const FAILURES = 3;
  const job = { phase: "waiting", offers: new Set() };
  let isOpen = true;
  let isAnswered = false; // whether the call that opened the page has ended
  let isFollowed = false;

  const handle = () => job.taskId ?? job.key;
  const isLinkAlive = () => job.url && !(Date.parse(job.expiresAt) < Date.now());
  const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

  function show() {
    job.offers = offers();
    view.show(job);
  }

  function offers() {
    const { can } = host;
    const found = [];
    if (job.isStalled && can.serverTools) found.push("check");
    else if (job.isStalled && can.message) found.push("ask");
    if (job.phase === "playing" || job.phase === "elsewhere") {
      if (can.downloadFile) found.push("download");
      else if (can.openLinks && job.url) found.push("open");
      if (job.url) found.push("copy");
      found.push("again");
    }
    return new Set(found);
  }

  function trouble(happened, note) {
    Object.assign(job, { phase: "trouble", happened, note });
    show();
  }

  /** There are subjects without pictures: here they can be given. */
  function lack(ids, goesTo) {
    pictures.ask(ids, goesTo);
    job.phase = "pictures";
    show();
  }

  /** What an answer says of a job; nothing where it is an error and the job has no end to show. */
  function told(result) {
    const answer = result.structuredContent;
    return result.isError && !["succeeded", "failed"].includes(answer?.state) ? undefined : answer;
  }

  /** Take over what an answer says of the job; whether it says anything. */
  function learn(result) {
    const answer = told(result);
    const facts = result._meta?.["refvideo/job"] ?? {};
    job.isSandbox ||= (result.content?.[0]?.text ?? "").startsWith("[sandbox] ");
    if (!answer?.state || (job.state === "succeeded" && answer.state !== "succeeded")) return false;
    const video = answer.videos?.[0];
    const strip = result.content?.find((block) => block.type === "image");
    Object.assign(job, {
      state: answer.state,
      taskId: answer.task_id ?? job.taskId,
      key: answer.idempotency_key ?? job.key,
      percent: answer.progress_percent,
      eta: answer.eta_seconds,
      rawStatus: answer.raw_status,
      seed: answer.seed,
      prompt: facts.prompt ?? job.prompt,
      subjects: facts.subjects ?? job.subjects,
      url: video?.url,
      expiresAt: video?.expires_at,
      type: video?.type ?? "mp4",
      savedTo: video?.saved_to,
      strip: strip ? `data:${strip.mimeType};base64,${strip.data}` : job.strip,
    });
    if (facts.seconds !== undefined) {
      job.since = performance.now() - facts.seconds * 1000;
      job.took = facts.seconds;
    }
    return true;
  }

  /** What an error without a video is called: a job that may be on the bill must not look like none. */
  function heading(result) {
    switch (result.structuredContent?.state) {
      case "uncertain": return "Nobody knows whether this job was bought";
      case "rejected": return "Nothing was bought";
      default:
        if (handle()) return "No news of this job";
        return result._meta?.["refvideo/job"]?.isRefused ? "No job was started" : "The call failed";
    }
  }

  /** An answer of one of our tools; `isNews` if the agent has not seen it. */
  function take(result, isNews) {
    const was = job.state;
    if (!learn(result)) {
      const { missing, goesTo } = result._meta?.["refvideo/job"] ?? {};
      if (missing?.length && host.can.serverTools) lack(missing, goesTo);
      else if (was !== "succeeded") trouble(heading(result), media.told(result));
      return;
    }
    const words = result._meta?.["refvideo/job"]?.told ?? "";
    job.isStalled = false;
    job.note = undefined;
    if (job.state === "succeeded" && job.url) {
      if (was !== "succeeded") bring();
    } else if (job.state === "succeeded") trouble("The video has expired", words);
    else if (job.state === "failed") trouble("The job failed", words);
    else {
      job.phase = "working";
      show();
      follow();
      return;
    }
    if (isNews && was !== job.state && host.can.updateModelContext) {
      const content = [{ type: "text", text: media.text(result) }];
      host.request("ui/update-model-context", { content }).catch(() => {}); // the server tells it, too
    }
  }

  function look(seconds) {
    const args = { task_id: handle(), wait_seconds: seconds };
    return host.call("get_task_result", args, seconds + 60, { hasSubjects: Boolean(job.subjects) });
  }

  /** Look after the job until it ends: one call at a time, none while nobody can see it. */
  async function follow() {
    if (isFollowed || !handle()) return;
    isFollowed = true;
    const started = performance.now();
    let failures = 0;
    let why = "This app does not let the player look after the job. It goes on: ask for it in the chat.";
    while (isOpen && host.can.serverTools && failures < FAILURES) {
      const seconds = (performance.now() - started) / 1000;
      if (seconds > FOLLOW_SECONDS) break;
      if (document.hidden) {
        await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
        continue;
      }
      try {
        const result = await look(seconds < 60 ? 4 : 10);
        if (!told(result)) throw new Error(media.told(result));
        failures = 0;
        take(result, isAnswered);
        if (job.phase !== "working") break;
      } catch (error) {
        why = error.message;
        failures += 1;
        await pause(2 ** failures);
      }
    }
    isFollowed = false;
    if (!isOpen || job.phase !== "working") return;
    Object.assign(job, { isStalled: true, note: why });
    show();
  }

  /** Put the video onto the page, the shortest way that is open; `at` is in seconds. */
  async function bring(at = 0, isPlaying = false) {
    job.phase = "loading";
    job.loaded = undefined;
    show();
    let why;
    for (const way of [byLink, byFile, byFreshLink]) {
      try {
        const shown = await way();
        if (!shown) continue;
        play(shown, at, isPlaying);
        break;
      } catch (error) {
        why = why && !job.savedTo ? why : error.message;
      }
    }
    if (job.phase === "loading") Object.assign(job, { phase: "elsewhere", happened: "The video is ready", note: why });
    show();
    // It may have been seen before it was saved, or before its subjects' pictures were small.
    if (!job.savedTo || !job.subjects) refresh().then(show, () => {});
  }

  function play(shown, at, isPlaying) {
    Object.assign(job, { phase: "playing", media: media.size(shown), note: undefined });
    job.shape = `${job.media.width} / ${job.media.height}`;
    view.put(shown);
    show();
    if (at) shown.currentTime = at;
    if (isPlaying) shown.play().catch(() => {});
    // A link may die while its video is half loaded.
    shown.addEventListener("error", () => bring(shown.currentTime, !shown.paused), { once: true });
  }

  const element = (source, type = job.type) => media.element(source, type, job.prompt ?? "The finished video");

  async function byLink() {
    if (!isLinkAlive()) return undefined;
    job.tried = job.url;
    return element(job.url);
  }

  async function byFile() {
    if (!host.can.serverTools || !job.taskId) return undefined;
    job.file = await media.file(job.taskId, (percent) => {
      job.loaded = percent;
      show();
    });
    return element(`data:${job.file.type};base64,${job.file.base64}`, job.file.type);
  }

  async function byFreshLink() {
    await refresh();
    if (job.url !== job.tried) return byLink();
    return job.savedTo ? byFile() : undefined; // it was still being saved
  }

  /** Ask for a link that lives. */
  async function refresh() {
    if (host.can.serverTools) learn(await look(20));
  }

  function receiveInput({ arguments: args = {} }) {
    const ratio = /^(\d+):(\d+)$/.exec(args.aspect_ratio ?? "");
    job.prompt ??= args.prompt;
    job.taskId ??= args.task_id;
    job.since ??= args.task_id ? undefined : performance.now();
    if (ratio) job.shape = `${ratio[1]} / ${ratio[2]}`;
    if (job.phase === "waiting") job.phase = "working";
    show();
    follow();
  }

  host.on("ui/notifications/tool-input-partial", ({ arguments: args = {} }) => {
    if (job.phase === "waiting") view.show({ ...job, prompt: args.prompt });
  });
  host.on("ui/notifications/tool-input", receiveInput);
  host.on("ui/notifications/tool-result", (result) => {
    isAnswered = true;
    take(result, false);
  });
  host.on("ui/notifications/tool-cancelled", () => {
    if (handle()) follow();
    else trouble("The call was cancelled", "If the job had been sent already, it goes on: ask for the list of jobs.");
  });
  host.on("ui/resource-teardown", () => {
    isOpen = false;
  });
  setInterval(() => view.tick(job), 1000);

  return { job, show, follow, refresh, isLinkAlive, byFile, handle };
})();
