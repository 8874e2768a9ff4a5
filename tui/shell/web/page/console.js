// Stands between textual-serve's terminal and the server: a dropped connection reattaches to the same session.
"use strict";

const REATTACH_MS = 60_000;
const RETRY_MS = 1_000;
const HEARTBEAT_MS = 10_000;
const UNKNOWN = 4004; // the server's Close.UNKNOWN; codes from 4000 on are final
const NativeSocket = WebSocket;
const body = document.body;
const terminal = document.getElementById("terminal");

// What textual.js takes for its WebSocket.
class ConsoleSocket extends EventTarget {
  constructor(url) {
    super();
    this.url = url;
    this.lostAt = null;
    this.connect();
    setInterval(() => this.beat(), HEARTBEAT_MS);
    addEventListener("offline", () => this.lose());
    addEventListener("online", () => this.lostAt && this.connect());
  }

  connect() {
    clearTimeout(this.timer);
    this.socket?.close();
    const token = sessionStorage.getItem("session");
    const socket = new NativeSocket(this.url + (token ? "&session=" + token : ""));
    this.socket = socket;
    this.answered = true;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.dispatchEvent(new Event("open")); // the page sends its size
    socket.onmessage = (message) => socket === this.socket && this.receive(message.data);
    socket.onclose = (close) => socket === this.socket && this.onClose(close);
  }

  receive(data) {
    const [kind, value] = typeof data === "string" ? JSON.parse(data) : [];
    this.answered = true;
    if (kind === "session") {
      sessionStorage.setItem("session", value);
      this.lostAt = null;
      body.classList.remove("-lost");
    } else if (kind !== "pong") {
      this.dispatchEvent(new MessageEvent("message", { data }));
    }
  }

  send(data) {
    if (this.socket.readyState === NativeSocket.OPEN) this.socket.send(data);
  }

  // A connection can be dead without being closed: then nothing answers.
  beat() {
    if (this.lostAt || this.over) return;
    if (!this.answered) return this.lose();
    this.answered = false;
    this.send('["ping", ""]');
  }

  onClose({ code, reason }) {
    if (code === UNKNOWN && !this.lostAt) { // a page that was reloaded later than a minute after it was left
      sessionStorage.removeItem("session");
      this.connect();
    } else if (code >= 4000) {
      this.end(reason);
    } else {
      this.lose();
    }
  }

  lose() {
    if (this.over) return;
    this.lostAt ??= Date.now();
    body.classList.add("-lost");
    if (Date.now() - this.lostAt > REATTACH_MS) this.end("the connection was lost for a minute; the console has ended");
    else this.timer = setTimeout(() => this.connect(), RETRY_MS);
  }

  end(reason) {
    this.over = true;
    clearTimeout(this.timer);
    sessionStorage.removeItem("session");
    document.getElementById("reason").textContent = reason;
    this.dispatchEvent(new Event("close"));
  }
}

terminal.dataset.fontSize = Number(new URLSearchParams(location.search).get("fontsize")) || 16;
// The address in the browser counts, which a tunnel over SSH makes another one than we listen on.
terminal.dataset.sessionWebsocketUrl = location.origin.replace(/^http/, "ws") + "/ws";
document.getElementById("again").onclick = () => location.reload();
window.WebSocket = ConsoleSocket;

// The terminal would send ctrl+v as a control character. Without it the browser pastes, and the terminal brackets that.
addEventListener("keydown", (key) => key.ctrlKey && key.code === "KeyV" && key.stopImmediatePropagation(), true);

// Keys go to the console from the first picture on, without a click into it.
new MutationObserver(() => terminal.querySelector("textarea")?.focus())
  .observe(body, { attributes: true, attributeFilter: ["class"] });
