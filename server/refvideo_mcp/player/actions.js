"use strict";

/* What the buttons do. None of them calls a tool that costs money. */
const actions = (() => {
  const { job } = player;

  /** A link that lives, if there is one. */
  async function link() {
    if (!player.isLinkAlive()) await player.refresh();
    if (player.isLinkAlive()) return job.url;
    throw new Error(job.savedTo ? "The link has expired; the file is yours." : "The link has expired.");
  }

  async function copyLink() {
    if (await view.copy(await link())) view.say("Link copied.");
  }

  async function copyPath() {
    if (await view.copy(job.savedTo)) view.say("Path copied.");
  }

  async function open() {
    const { isError } = await host.request("ui/open-link", { url: await link() });
    if (isError) throw new Error("The app did not open the link.");
  }

  async function download() {
    const name = job.savedTo?.split(/[\\/]/).pop() ?? `${job.taskId}.${job.type}`;
    const { isError } = await host.request("ui/download-file", { contents: [await contents(name)] }, 300);
    view.say(isError ? "The download was refused." : "Handed over for download.");
  }

  async function contents(name) {
    if (!job.file && player.isLinkAlive()) {
      return { type: "resource_link", uri: job.url, name, mimeType: job.type === "gif" ? "image/gif" : "video/mp4" };
    }
    if (!job.file) await player.byFile();
    const { type, base64 } = job.file;
    return { type: "resource", resource: { uri: `file:///${encodeURIComponent(name)}`, mimeType: type, blob: base64 } };
  }

  /** Only writes the request: whether it is made, and paid, is decided in the chat. */
  async function again() {
    const seed = job.seed === undefined ? "another seed" : `another seed than ${job.seed}`;
    const text = `Another take, please: the same prompt and pictures as job ${job.taskId}, ${seed}.`;
    await write(text, "Your wish is in the chat.");
  }

  async function ask() {
    await write(`Is the video ready? Please look at job ${player.handle()}.`, "Your question is in the chat.");
  }

  /** Say it in the chat, as the person who looks at the page; where the app does not let it, they are asked to. */
  async function write(text, done) {
    const content = [{ type: "text", text }];
    if (host.can.message) {
      const { isError } = await host.request("ui/message", { role: "user", content }, 300);
      if (!isError) return view.say(done);
    }
    if (host.can.updateModelContext) {
      await host.request("ui/update-model-context", { content });
      return view.say("Noted. Say so in the chat.");
    }
    return view.say((await view.copy(text)) ? "Copied. Paste it into the chat." : "The app takes no message from here.");
  }

  function check() {
    Object.assign(job, { isStalled: false, note: undefined });
    player.show();
    player.follow();
  }

  const acts = { "copy-path": copyPath, copy: copyLink, open, download, again, ask, check };
  for (const [id, act] of Object.entries(acts)) {
    view.onClick(id, async () => {
      try {
        await act();
      } catch (error) {
        view.say(error.message);
      }
    });
  }

  return { write };
})();
