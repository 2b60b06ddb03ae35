"use strict";

/* How a finished video gets onto the page. */
const media = (() => {
  const PATIENCE_SECONDS = 15;

  /** The element that plays `source`, once its size is known. Rejects where that is forbidden or nothing is there. */
  function element(source, type, name) {
    const isGif = type.endsWith("gif");
    const shown = document.createElement(isGif ? "img" : "video");
    if (isGif) shown.alt = name;
    else Object.assign(shown, { controls: true, loop: true, playsInline: true, preload: "auto", ariaLabel: name });
    return new Promise((resolve, reject) => {
      const refuse = () => reject(new Error("This app does not let the player load the video."));
      const timer = setTimeout(refuse, PATIENCE_SECONDS * 1000);
      shown.addEventListener("error", refuse);
      shown.addEventListener(isGif ? "load" : "loadedmetadata", () => {
        clearTimeout(timer);
        resolve(shown);
      });
      shown.src = source;
    });
  }

  function size(shown) {
    if (shown instanceof HTMLImageElement) return { width: shown.naturalWidth, height: shown.naturalHeight };
    return { width: shown.videoWidth, height: shown.videoHeight, seconds: shown.duration };
  }

  /** The saved file, read through the server: a page without network plays nothing else. */
  async function file(taskId, onPart) {
    const pieces = [];
    let read = 0;
    for (;;) {
      const result = await host.call("read_video_piece", { task_id: taskId, offset: read });
      const piece = result.structuredContent;
      if (result.isError || !piece?.data) throw new Error(told(result) || "The file cannot be read.");
      pieces.push(piece.data);
      read += bytes(piece.data);
      onPart(Math.floor((100 * read) / piece.size));
      if (read >= piece.size) return { type: piece.type, base64: pieces.join("") };
    }
  }

  function bytes(base64) {
    const padding = base64.endsWith("==") ? 2 : base64.endsWith("=") ? 1 : 0;
    return (base64.length / 4) * 3 - padding;
  }

  /** What a tool's result says in words. */
  function text(result) {
    const words = result.content?.find((block) => block.type === "text")?.text ?? "";
    return words.replace(/^\[sandbox\] /, "");
  }

  /** The same for whoever looks at the page, where the server has words for them: the text is the agent's. */
  function told(result) {
    return result._meta?.["refvideo/job"]?.told ?? text(result);
  }

  return { element, size, file, text, told };
})();
