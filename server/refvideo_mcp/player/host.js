"use strict";

/* The host's side of the conversation: MCP Apps (2026-01-26), JSON-RPC over postMessage. */
const host = (() => {
  const PROTOCOL = "2026-01-26";
  const UNKNOWN_METHOD = -32601;
  const waiting = new Map(); // request id → what to do with its answer
  const listeners = new Map(); // method → function
  let lastId = 0;
  let can = {};
  let context = {};

  function send(message) {
    window.parent.postMessage({ jsonrpc: "2.0", ...message }, "*");
  }

  function request(method, params, seconds = 30) {
    const id = ++lastId;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => settle(id, { error: { message: "The app gave no answer." } }), seconds * 1000);
      waiting.set(id, { resolve, reject, timer });
      send({ id, method, params });
    });
  }

  function settle(id, { result, error }) {
    const asked = waiting.get(id);
    if (!asked) return;
    waiting.delete(id);
    clearTimeout(asked.timer);
    if (error) asked.reject(new Error(error.message || "The app refused."));
    else asked.resolve(result ?? {});
  }

  function answer({ id, method, params }) {
    if (method === "ping" || method === "ui/resource-teardown") {
      listeners.get(method)?.(params);
      send({ id, result: {} });
    } else {
      send({ id, error: { code: UNKNOWN_METHOD, message: "Method not found" } });
    }
  }

  window.addEventListener("message", (event) => {
    const message = event.data;
    if (event.source !== window.parent || message?.jsonrpc !== "2.0") return;
    if (message.method === undefined) settle(message.id, message);
    else if (message.id === undefined) listeners.get(message.method)?.(message.params ?? {});
    else answer(message);
  });

  function dress(changed) {
    context = { ...context, ...changed };
    const root = document.documentElement;
    if (changed.theme) root.style.colorScheme = root.dataset.theme = changed.theme;
    for (const [name, value] of Object.entries(changed.styles?.variables ?? {})) {
      if (name.startsWith("--") && value !== undefined) root.style.setProperty(name, value);
    }
    if (changed.styles?.css?.fonts) {
      const fonts = document.getElementById("fonts") ?? document.head.appendChild(document.createElement("style"));
      fonts.id = "fonts";
      fonts.textContent = changed.styles.css.fonts;
    }
    for (const [side, width] of Object.entries(changed.safeAreaInsets ?? {})) {
      root.style.setProperty(`--inset-${side}`, `${width}px`);
    }
    if (changed.containerDimensions) {
      const { height, maxHeight = height } = changed.containerDimensions;
      if (maxHeight) root.style.setProperty("--container-height", `${maxHeight}px`);
      else root.style.removeProperty("--container-height");
    }
  }

  function tellSize() {
    let told = "";
    const measure = () => {
      const root = document.documentElement;
      const before = root.style.height;
      root.style.height = "max-content"; // or it could never shrink again
      const height = Math.ceil(root.getBoundingClientRect().height);
      root.style.height = before;
      const width = Math.ceil(window.innerWidth);
      if (told === `${width}x${height}`) return;
      told = `${width}x${height}`;
      send({ method: "ui/notifications/size-changed", params: { width, height } });
    };
    new ResizeObserver(() => requestAnimationFrame(measure)).observe(document.body);
    measure();
  }

  listeners.set("ui/notifications/host-context-changed", dress);

  return {
    /** What the host can do, by its own word; empty before `meet`. */
    get can() {
      return can;
    },
    /** Call `listener` with the parameters of each notification of this method; set it before `meet`. */
    on: (method, listener) => listeners.set(method, listener),
    request,
    /** A tool of our server. The mark says that the agent has not seen the answer, and what the page has already. */
    call: (name, args, seconds, mark = true) =>
      request("tools/call", { name, arguments: args, _meta: { "refvideo/player": mark } }, seconds),
    async meet() {
      const appInfo = { name: "refvideo-player", version: "1" };
      const appCapabilities = { availableDisplayModes: ["inline"] };
      const met = await request("ui/initialize", { appInfo, appCapabilities, protocolVersion: PROTOCOL });
      can = met.hostCapabilities ?? {};
      dress(met.hostContext ?? {});
      send({ method: "ui/notifications/initialized", params: {} });
      tellSize();
    },
  };
})();
