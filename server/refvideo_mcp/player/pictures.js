"use strict";

/* The pictures that a call lacks: dropped, pasted, chosen or taken here, and sent to our server. It starts no job. */
const pictures = (() => {
  const MOST = 3; // of one subject
  const MOST_BYTES = 20 * 2 ** 20;
  const PIECE_BYTES = 3 * 2 ** 16; // 256 KiB in base64
  const TILE_PIXELS = 160;
  const KINDS = ".heic,.heif,.avif,.tif,.tiff,image/*"; // some systems know no type for the first ones
  let subjects = [];

  const named = () => view.listed(subjects.map((subject) => `@${subject.id}`));

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  /** A field for each subject without pictures. `goesTo` is where they are sent when the video is made. */
  function ask(ids, goesTo) {
    if (ids.join() === subjects.map((subject) => subject.id).join()) return; // told once more: what is chosen stays
    subjects = ids.map((id) => ({ id, files: [], isKept: false }));
    const hasCamera = matchMedia("(pointer: coarse)").matches;
    view.putPictures(`Pictures of ${named()} are missing`, goesTo, subjects.map((one) => field(one, hasCamera)));
    allow(true);
  }

  function field(subject, hasCamera) {
    const name = `@${subject.id}`;
    subject.tiles = make("ul", { className: "tiles", hidden: true });
    subject.fault = make("p", { className: "fault" });
    subject.fault.setAttribute("role", "alert");
    const words = hasCamera ? "1–3 pictures: " : "Drop or paste 1–3 pictures, or ";
    subject.ways = make("p", { className: "ways" }, words, chooser(subject, "Choose", name));
    if (hasCamera) subject.ways.append(chooser(subject, "Take a photo", name, "environment"));
    const legend = make("legend", {}, make("b", { textContent: name }));
    subject.box = make("fieldset", { className: "subject" }, legend, subject.tiles, subject.ways, subject.fault);
    return subject.box;
  }

  /** A button that opens the system's own dialog, or its camera. */
  function chooser(subject, label, name, capture) {
    const input = make("input", { type: "file", accept: KINDS, multiple: !capture, hidden: true });
    if (capture) input.setAttribute("capture", capture);
    input.addEventListener("change", () => {
      add(subject, [...input.files]);
      input.value = ""; // so that the same file can be chosen again
    });
    const button = make("button", { type: "button", textContent: label, ariaLabel: `${label}: ${name}` });
    button.addEventListener("click", () => input.click());
    return make("span", {}, button, input);
  }

  /** Why a file cannot be one of the pictures, as far as the page can tell. */
  function fault(subject, file) {
    if (subject.files.length >= MOST) return `${file.name} is left out: ${MOST} pictures are the most.`;
    if (file.type && !file.type.startsWith("image/")) return `${file.name} is no picture. Use a JPEG or PNG.`;
    if (file.size > MOST_BYTES) {
      return `${file.name} has ${Math.round(file.size / 1e6)} MB; 20 MB are the most. Use a smaller one.`;
    }
    return file.size ? "" : `${file.name} is empty.`;
  }

  function add(subject, files) {
    const faults = [];
    for (const file of files) {
      const why = fault(subject, file);
      if (why) faults.push(why);
      else subject.files.push(file);
    }
    subject.fault.textContent = faults.join(" ");
    show(subject);
  }

  function show(subject) {
    subject.isKept = false;
    subject.tiles.replaceChildren(...subject.files.map((file) => tile(subject, file)));
    subject.tiles.hidden = !subject.files.length;
    subject.ways.hidden = subject.files.length >= MOST;
    allow(true);
  }

  function tile(subject, file) {
    const shown = make("canvas", { role: "img", ariaLabel: file.name });
    const drop = make("button", { type: "button", textContent: "×", ariaLabel: `Remove ${file.name}` });
    drop.addEventListener("click", () => {
      subject.files = subject.files.filter((one) => one !== file);
      subject.fault.textContent = "";
      show(subject);
      subject.box.querySelector("button").focus(); // the focus is never lost with its button
    });
    const item = make("li", {}, shown, drop);
    createImageBitmap(file, { resizeHeight: TILE_PIXELS, resizeQuality: "medium" }).then(
      (bitmap) => {
        Object.assign(shown, { width: bitmap.width, height: bitmap.height });
        shown.getContext("2d").drawImage(bitmap, 0, 0);
      },
      () => shown.replaceWith(make("span", { className: "unseen-kind", textContent: file.name })), // our server may read it
    );
    return item;
  }

  /** Whether something can be chosen, removed and sent. */
  function allow(isAllowed) {
    view.allowPictures(isAllowed, isAllowed && subjects.every((subject) => subject.files.length));
  }

  async function send() {
    allow(false);
    const all = subjects.filter((subject) => !subject.isKept);
    const size = all.flatMap((subject) => subject.files).reduce((sum, file) => sum + file.size, 0);
    let sent = 0;
    for (const subject of all) {
      subject.fault.textContent = "";
      try {
        await upload(subject, (bytes) => {
          sent += bytes;
          view.say(`Sending the pictures: ${Math.floor((100 * sent) / size)} %`);
        });
        subject.isKept = true;
      } catch (error) {
        subject.fault.textContent = error.message;
        view.say("");
        allow(true);
        subject.box.querySelector("button").focus();
        return;
      }
    }
    const text = `The pictures of ${named()} are here.`;
    view.putPicturesHere(text);
    await actions.write(text, "The chat knows.");
  }

  async function upload(subject, onPart) {
    const upload = crypto.getRandomValues(new Uint32Array(4)).join("-");
    const shape = subject.files.map(({ name, size }) => ({ name, size }));
    let offset = 0;
    for (const file of subject.files) {
      for (let start = 0; start < file.size; start += PIECE_BYTES) {
        const piece = file.slice(start, start + PIECE_BYTES);
        const args = { upload, subject: subject.id, pictures: shape, offset, data: await base64(piece, file.name) };
        const result = await host.call("add_pictures", args, 60).catch((error) => {
          const why = error.message.replace(/\.$/, "");
          throw new Error(`The pictures did not get through (${why}). Send them again.`);
        });
        if (result.isError) throw new Error(media.told(result));
        offset += piece.size;
        onPart(piece.size);
      }
    }
  }

  function base64(piece, name) {
    return new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
      reader.onerror = () => reject(new Error(`${name} cannot be read any more. Remove it and choose it again.`));
      reader.readAsDataURL(piece);
    });
  }

  /** The subject whose field is meant by something that happened there, or else the first without pictures. */
  function meant(element) {
    const box = element?.closest?.("fieldset");
    return subjects.find((one) => one.box === box) ?? subjects.find((one) => !one.files.length) ?? subjects.at(-1);
  }

  /** Take what was pasted or dropped. */
  function receive(event, data, place) {
    if (!subjects.length || !view.takesPictures()) return;
    event.preventDefault();
    const subject = meant(place);
    if (data.files.length) add(subject, [...data.files]);
    else subject.fault.textContent = "That holds no picture's file. Save the picture, then choose its file.";
  }

  function mark(event) {
    if (!subjects.length) return;
    event.preventDefault(); // or the browser would open what is dropped
    const over = event.type === "dragover" && view.takesPictures() ? meant(event.target) : undefined;
    for (const subject of subjects) subject.box.classList.toggle("over", subject === over);
  }

  document.addEventListener("paste", (event) => receive(event, event.clipboardData, document.activeElement));
  document.addEventListener("dragover", mark);
  document.addEventListener("dragleave", mark);
  document.addEventListener("drop", (event) => {
    mark(event);
    receive(event, event.dataTransfer, event.target);
  });
  view.onClick("send", send);

  return { ask };
})();

host.meet().then(player.show, () => view.say("This page works inside a chat app that shows MCP Apps."));
